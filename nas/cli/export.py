"""``nas-export``: writes an architecture found or published as files of its own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.cli.errors import exit_status
from search_spaces.errors import InputError

__all__ = ["FORMATS", "main"]

FORMATS = ("json", "torch", "onnx", "svg", "png")
OF_NETWORK = {f"--{name.replace('_', '-')}": name for name in ("weights", "backbone", "num_classes", "width", "data")}


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
        "--pareto",
        metavar="COST",
        nargs="?",
        const="macs",
        help="of a run: all of its front of reward against macs (default), params or latency_ms",
    )
    parser.add_argument(
        "--format", default="json", metavar="NAME[,NAME…]", help=f"of the files: {', '.join(FORMATS)} (default: json)"
    )
    parser.add_argument("--out", metavar="DIR", help="where to (default: RUN/exported, or this directory)")
    network = parser.add_argument_group("of the network (torch, onnx)")
    network.add_argument(
        "--weights",
        metavar="FILE",
        help="its weights (default: those of a run's full training; else drawn from a seed)",
    )
    network.add_argument(
        "--backbone", metavar="NAME", help="its backbone (default: that of its weights, or the published one)"
    )
    network.add_argument(
        "--num-classes", metavar="N", help="its classes (default: those of its weights, or the published data set's)"
    )
    network.add_argument("--width", metavar="N[-M]", help="its channels: of FPN and head, or of the cell")
    network.add_argument(
        "--data",
        metavar="PATH",
        help="images to compare onnxruntime with torch on (default: a run's test images, else built-in)",
    )
    return parser


def _run(arguments: Sequence[str] | None) -> None:
    given = _parser().parse_args(arguments)
    formats, sizes = _formats(given.format), _sizes(given)
    _refuse_unused(given, formats)
    rank = None if given.rank is None else _whole("--rank", given.rank)

    if given.pareto and (given.rank or given.weights):
        raise InputError(f"--pareto exports a whole front, --{'rank' if given.rank else 'weights'} is of one network")

    from nas.exporting.source import find_front, find_source
    from nas.exporting.writers import WRITERS, Export
    from nas.folders import full_disk_told, make_writable

    sources = find_front(given.what, given.pareto) if given.pareto else [find_source(given.what, rank)]
    out = Path(given.out) if given.out else sources[0].folder
    weights = Path(given.weights) if given.weights else None
    for source in sources:  # one after the other: the networks of a front need not be in memory at once
        export = Export(source, sizes, weights, given.data)
        for name in formats:
            WRITERS[name].prepare(export)
        make_writable(out)
        with full_disk_told(out, "export again"):
            for name in formats:
                for line in WRITERS[name].write(export, out):
                    print(line)


def _refuse_unused(given: argparse.Namespace, formats: Sequence[str]) -> None:
    """Raises `InputError` for an option that no format makes use of."""
    for flag, name in OF_NETWORK.items():
        needs = ("onnx",) if name == "data" else ("torch", "onnx")
        if getattr(given, name) is not None and not set(needs) & set(formats):
            raise InputError(f"{flag} is for --format {' or '.join(needs)}, not for {','.join(formats)}")


def _formats(text: str) -> list[str]:
    for name in text.split(","):
        if name not in FORMATS:
            raise InputError(f"there is no export format {name!r}; known: {', '.join(FORMATS)}")
    return list(dict.fromkeys(text.split(",")))


def _sizes(given: argparse.Namespace) -> dict[str, Any]:
    """What the network's builder is told beside its defaults."""
    sizes: dict[str, Any] = {"backbone": given.backbone} if given.backbone else {}
    if given.num_classes is not None:
        sizes["num_classes"] = _whole("--num-classes", given.num_classes)
    if given.width is not None:
        sizes["width"] = int(given.width) if given.width.isdecimal() else given.width
    return sizes


def _whole(flag: str, text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise InputError(f"{flag} must be a whole number of at least 1, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
