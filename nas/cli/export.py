"""``nas-export``: writes an architecture found or published as files of its own."""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cli.errors import exit_status
from search_spaces.errors import InputError

if TYPE_CHECKING:
    from nas.exporting.networks import Exported
    from search_spaces import Architecture

__all__ = ["ENDINGS", "main"]

ENDINGS = {"json": "json", "torch": "safetensors", "onnx": "onnx", "svg": "svg", "png": "png"}
"""Every format, and the ending of its (first) file's name."""


@dataclass(frozen=True)
class _Found:
    """An architecture, what its files are called, where they go by default, and what is known about it."""

    name: str
    architecture: "Architecture"
    out: Path
    space: str
    provenance: dict[str, Any] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    weights: Path | None = None
    data: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``nas-export`` and returns its exit status."""
    return exit_status("nas-export", lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-export",
        description="Write an architecture by the names of its choices, as a picture, or as a network: a torch module"
        " with its weights, an ONNX graph.",
        allow_abbrev=False,
    )
    parser.add_argument("what", metavar="RUN|ARCHITECTURE.json|PUBLISHED-NAME", help="where the architecture is")
    parser.add_argument("--rank", metavar="K", help="of a run: its K-th best (default: 1)")
    parser.add_argument(
        "--format", default="json", metavar="NAME[,NAME…]", help=f"of the files: {', '.join(ENDINGS)} (default: json)"
    )
    parser.add_argument("--out", metavar="DIR", help="where to (default: RUN/exported, or this directory)")
    network = parser.add_argument_group("of the network (torch, onnx)")
    network.add_argument(
        "--weights",
        metavar="FILE",
        help="its weights (default: those of a run's full training; else drawn from a seed)",
    )
    network.add_argument("--backbone", metavar="NAME", help="its backbone (default: resnet50; video: mobilenet_v2)")
    network.add_argument("--num-classes", metavar="N", help="its classes (default: 80; video: 11)")
    network.add_argument("--width", metavar="N[-M]", help="its channels: of FPN and head, or of the cell")
    network.add_argument(
        "--data",
        metavar="PATH",
        help="images to compare onnxruntime with torch on (default: a run's test images, else built-in)",
    )
    return parser


def _run(arguments: Sequence[str] | None) -> None:
    given = _parser().parse_args(arguments)
    formats = _formats(given.format)
    sizes = _sizes(given)
    found = _find(given.what, given.rank)
    out = Path(given.out) if given.out else found.out
    exported: Exported | None = None
    clips: list[Any] = []
    images = ""
    if {"torch", "onnx"} & set(formats):
        from nas.exporting.networks import prepare

        weights = Path(given.weights) if given.weights else found.weights
        exported = prepare(found.name, found.architecture, sizes, weights, found.space, found.modules)
    if "onnx" in formats:
        from nas.exporting.images import clips_of

        task = found.architecture.space.proxy_task
        try:
            clips, images = clips_of(task, given.data or found.data)
        except InputError as error:
            if given.data or not found.data:
                raise
            warnings.warn(f"the run's test images cannot be had ({error}); built-in ones are compared", stacklevel=1)
            clips, images = clips_of(task, None)
    _check_folder(out, out / f"{found.name}.{ENDINGS[formats[0]]}")
    for name in formats:
        try:
            _write(name, found, out, exported, clips, images)
        except OSError as error:
            raise InputError(f"cannot write to {out}: {error.strerror or error}") from error


def _formats(text: str) -> list[str]:
    formats = text.split(",")
    for name in formats:
        if name not in ENDINGS:
            raise InputError(f"there is no export format {name!r}; known: {', '.join(ENDINGS)}")
    if "onnx" in formats:
        from nas.exporting import check_installed

        check_installed()
    return formats


def _sizes(given: argparse.Namespace) -> dict[str, Any]:
    """What the network's builder is told beside its defaults."""
    sizes: dict[str, Any] = {"backbone": given.backbone} if given.backbone else {}
    if given.num_classes is not None:
        sizes["num_classes"] = _whole("--num-classes", given.num_classes)
    if given.width is not None:
        sizes["width"] = int(given.width) if given.width.isdecimal() else given.width
    return sizes


def _whole(flag: str, text: str | None) -> int:
    if text is not None and not (text.isdecimal() and int(text) >= 1):
        raise InputError(f"{flag} must be a whole number of at least 1, got {text!r}")
    return int(text or 1)


def _find(what: str, rank: str | None) -> _Found:
    from nas.building import find_architecture

    source = Path(what)
    if source.is_dir():
        return _from_run(source, _whole("--rank", rank))
    if rank is not None:
        raise InputError(f"--rank chooses among a run's trials, but {what!r} is not a run")
    architecture = find_architecture(what)
    named = source.suffix != ".json" and not source.is_file()
    return _Found(what if named else architecture.key, architecture, Path(), architecture.space.name)


def _from_run(path: Path, rank: int) -> _Found:
    """The architecture of that rank, and where it comes from."""
    from nas.exporting import promoted_weights
    from nas.run.reading import Run

    run = Run(path)
    best = run.best_with_trials(rank)
    if len(best) < rank:
        raise InputError(f"the run {path} has {len(best)} different architectures that are done, so no rank {rank}")
    architecture, trials = best[rank - 1]
    fingerprints = run.record.fingerprints.values()
    provenance = {
        "run": path.absolute().name,
        "trials": [trial.trial for trial in trials],
        "reward": trials[-1].reward,
        "data": next((stage["data"] for stage in fingerprints if "data" in stage), None),
    }
    key, settings = architecture.key, run.settings
    space = settings.space if ":" in settings.space else architecture.space.name
    weights, data = promoted_weights(path, key), settings.data
    return _Found(key, architecture, path / "exported", space, provenance, settings.imports, weights, data)


def _check_folder(out: Path, first: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(f"cannot write {first}: {error.strerror}") from error


def _write(name: str, found: _Found, out: Path, exported: "Exported | None", clips: list[Any], images: str) -> None:
    """Writes the files of one format and prints their paths, and what there is to know of them."""
    path = out / f"{found.name}.{ENDINGS[name]}"
    if name in ("json", "svg"):
        from nas.drawing import draw
        from search_spaces.files import write_whole

        text = draw(found.architecture) if name == "svg" else found.architecture.to_json(**found.provenance)
        write_whole(path, text)
        print(path)
    elif name == "png":
        from nas.drawing import write_png

        write_png(found.architecture, path)
        print(path)
    elif name == "torch":
        from nas.exporting.torch_files import write_torch

        assert exported is not None
        print(*write_torch(exported, out), sep="\n")
        print(f"  weights: {exported.origin}")
    else:
        from nas.exporting.onnx_files import write_onnx

        assert exported is not None
        for file, apart in write_onnx(exported, out, clips):
            print(file)
            print(f"  weights: {exported.origin}")
            apart_by = f"{apart.absolute:.1e}, {apart.relative:.1e} of an output's largest value"
            print(f"  onnxruntime differs from torch by at most {apart_by}, on {images}")


if __name__ == "__main__":
    sys.exit(main())
