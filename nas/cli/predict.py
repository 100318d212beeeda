"""``nas-predict``: runs a trained network on images, a video or a camera."""

import argparse
import sys
from collections.abc import Sequence

from nas.cli.errors import exit_status
from search_spaces.registry import import_user_modules

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``nas-predict`` and returns its exit status."""
    return exit_status("nas-predict", lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-predict",
        description="Run a network that nas-promote has trained, and draw what it finds.",
        epilog="Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("what", metavar="WEIGHTS|RUN", help="a full training's weights or folder, or a run's best")
    parser.add_argument("--input", required=True, metavar="IMAGE|FOLDER|VIDEO|CAMERA", help="a camera by its number")
    parser.add_argument("--out", required=True, metavar="DIR", help="where pictures and predictions.json go")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where (default: auto)")
    parser.add_argument("--import", dest="imports", metavar="MODULE[,...]", help="modules that register your own parts")
    return parser


def _run(arguments: Sequence[str] | None) -> None:
    given = _parser().parse_args(arguments)

    import_user_modules(given.imports)

    from nas.predicting.predict import IMAGES, predict

    done = predict(given.what, given.input, given.out, given.device)
    rate = f", {done.frames / done.seconds:.1f} a second" if done.seconds else ""
    first, *more = [place.name for place in done.places[:-1]]
    drawn = f"{1 + len(more)} pictures" if more else first
    images = "1 image" if done.frames == 1 else f"{done.frames} images"
    print(f"{images}{rate}; {drawn}, {done.places[-1].name} and {IMAGES} are in {given.out}.")


if __name__ == "__main__":
    sys.exit(main())
