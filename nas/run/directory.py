"""A run's directory on disk: ``run.yaml``, written in one step, and `lock_run`."""

import importlib.metadata
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.run.lock import lock_run
from nas.settings import SearchSettings, dump_yaml, load_yaml
from search_spaces import InputError
from search_spaces.files import write_whole

__all__ = ["RUN_FORMAT", "RunRecord", "lock_run", "read_record", "write_record"]

RUN_FORMAT = 1


@dataclass(frozen=True)
class RunRecord:
    """What ``run.yaml`` holds: resolved settings, versions, and the fingerprints of all that the scores depend on.

    Args:
        settings: resolved.
        versions: the versions of Python and the packages as the run began.
        fingerprints: ``{stage: {what: hash}}``, each stage's from the time it was prepared.
    """

    settings: SearchSettings
    versions: dict[str, str] = field(default_factory=lambda: _versions())
    fingerprints: dict[str, dict[str, str]] = field(default_factory=dict)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("dense-nas", "torch", "torchvision", "ray"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def write_record(run: Path, record: RunRecord) -> None:
    """Writes ``run.yaml``."""
    content = {
        "format": RUN_FORMAT,
        "settings": record.settings.as_dict(),
        "versions": record.versions,
        "fingerprints": record.fingerprints,
    }
    write_whole(run / "run.yaml", dump_yaml(content))


def read_record(run: Path) -> RunRecord:
    """Reads ``run.yaml``; raises `InputError` where ``run`` is no run or the file is damaged or of a newer format."""
    path = run / "run.yaml"
    try:
        content = load_yaml(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        lacks = "it has no run.yaml" if run.exists() else "there is no such folder"
        raise InputError(f"{run} is not a run: {lacks}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise InputError(f"{path}: not a run's settings: key 'format' must be a whole number")
    if content["format"] > RUN_FORMAT:
        raise InputError(f"{path}: format {content['format']} is newer than this version reads ({RUN_FORMAT})")
    values = _mapping(path, content, "settings")
    try:
        settings = SearchSettings.of(values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    fingerprints = _mapping(path, content, "fingerprints")
    for stage in fingerprints:
        _mapping(path, fingerprints, stage)
    return RunRecord(settings, _mapping(path, content, "versions"), fingerprints)


def _mapping(path: Path, content: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(content.get(name), dict):
        raise InputError(f"{path}: key {name!r} must be a mapping, got {content.get(name)!r}")
    value: dict[str, Any] = content[name]
    return value
