"""``nas-export``: writes an architecture found or published as a file of its own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.cli.errors import exit_status
from search_spaces.errors import InputError

__all__ = ["main"]

FORMATS = ("json",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``nas-export`` and returns its exit status."""
    return exit_status("nas-export", lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-export", description="Write an architecture by the names of its choices.", allow_abbrev=False
    )
    parser.add_argument("what", metavar="RUN|ARCHITECTURE.json|PUBLISHED-NAME", help="where the architecture is")
    parser.add_argument("--rank", metavar="K", help="of a run: its K-th best (default: 1)")
    parser.add_argument("--format", default="json", help=f"of the file: {', '.join(FORMATS)} (default: json)")
    parser.add_argument("--out", metavar="DIR", help="where to (default: RUN/exported, or this directory)")
    return parser


def _run(arguments: Sequence[str] | None) -> None:
    given = _parser().parse_args(arguments)
    for name in given.format.split(","):
        if name not in FORMATS:
            raise InputError(f"there is no export format {name!r}; known: {', '.join(FORMATS)}")

    from nas.building import find_architecture
    from nas.run_directory import write_atomically

    source = Path(given.what)
    provenance: dict[str, Any] = {}
    if source.is_dir():
        architecture, provenance = _from_run(source, _rank(given.rank))
    elif given.rank is not None:
        raise InputError(f"--rank chooses among a run's trials, but {given.what!r} is not a run")
    else:
        architecture = find_architecture(given.what)
    default = source / "exported" if source.is_dir() else Path()
    out = Path(given.out) if given.out else default
    path = out / f"{architecture.key}.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, architecture.to_json(**provenance))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    print(path)


def _rank(text: str | None) -> int:
    if text is not None and not (text.isdecimal() and int(text) >= 1):
        raise InputError(f"--rank must be a whole number of at least 1, got {text!r}")
    return int(text or 1)


def _from_run(path: Path, rank: int) -> tuple[Any, dict[str, Any]]:
    """The architecture of that rank, and where it comes from."""
    from nas.run import Run

    run = Run(path)
    best = run.best_with_trials(rank)
    if len(best) < rank:
        raise InputError(f"the run {path} has {len(best)} different architectures that are done, so no rank {rank}")
    architecture, trials = best[rank - 1]
    fingerprints = run.record.fingerprints.values()
    return architecture, {
        "run": path.absolute().name,
        "trials": [trial.trial for trial in trials],
        "reward": trials[-1].reward,
        "data": next((stage["data"] for stage in fingerprints if "data" in stage), None),
    }


if __name__ == "__main__":
    sys.exit(main())
