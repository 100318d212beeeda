"""``nas-promote``: trains in full what a search found or a publication gives."""

import argparse
import sys
from collections.abc import Sequence

from nas.cli.errors import exit_status
from nas.settings import read_pair
from search_spaces.errors import InputError
from search_spaces.registry import import_user_modules

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``nas-promote`` and returns its exit status."""
    return exit_status("nas-promote", lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-promote",
        description="Train architectures in full and measure them, or measure what was trained (--measure).",
        epilog="Exit status: 0 done, 1 failed, 2 bad input, 130 interrupted (go on with --resume).",
        allow_abbrev=False,
    )
    what = "what is trained, or with --measure a run, or a training's folder or weights"
    parser.add_argument("what", metavar="RUN|ARCHITECTURE.json|PUBLISHED-NAME", help=what)
    parser.add_argument(
        "--recipe",
        metavar="NAME|FILE.yaml",
        help="how: a published recipe, or a file of your own",
    )
    parser.add_argument(
        "--measure",
        nargs="*",
        action="extend",
        metavar="NAME=VALUE[,...]",
        help="train nothing: measure a cell that was trained, given by its folder, its weights or its run, at all of"
        " these settings, e.g. keyframe_interval=1,2,3,5,0 scale=0.5,1 device=cpu,cuda",
    )
    parser.add_argument("--data", metavar="PATH", help="data set (layout recognised); the built-in one without it")
    parser.add_argument("--top", type=int, default=1, metavar="K", help="of a run: its K best (default: 1)")
    parser.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help="steps instead of the recipe's epochs",
    )
    parser.add_argument("--hours", type=float, metavar="H", help="end each training after so many hours at the latest")
    parser.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that train, on Ray Train (default: 0)",
    )
    parser.add_argument("--ray-address", metavar="ADDRESS", help="a Ray cluster to join (default: this machine)")
    parser.add_argument(
        "--loaders", type=int, default=0, metavar="N", help="processes that decode images beside each (default: 0)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where (default: auto)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights, order, augmentation (default: 0)")
    parser.add_argument("--backbone", metavar="NAME", help="the recipe's setting of this name: the encoder")
    parser.add_argument("--width", metavar="W", help="the recipe's setting of this name: channels, e.g. 128-256")
    parser.add_argument(
        "--backbone-weights",
        default="default",
        metavar="default|none|FILE",
        help="the encoder's at the start (default: default, which downloads ImageNet's where they are not installed)",
    )
    parser.add_argument(
        "--skip-bad-boxes", action="store_true", help="leave out boxes that lie outside their image or have no area"
    )
    parser.add_argument("--static", metavar="FILE", help="weights of a trained static network to start from")
    parser.add_argument("--pictures", type=int, default=0, metavar="N", help="draw the predictions of N test frames")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="recipe settings")
    parser.add_argument("--out", metavar="DIR", help="where to (default: RUN/promoted, or promoted)")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted or killed training")
    parser.add_argument("--import", dest="imports", metavar="MODULE[,...]", help="modules that register your own parts")
    return parser


def _run(arguments: Sequence[str] | None) -> None:
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.recipe is None and given.measure is None:
        parser.error("the following arguments are required: --recipe (or --measure, for what is trained already)")
    for name, least in (("top", 1), ("iterations", 1), ("workers", 0), ("loaders", 0), ("seed", 0), ("pictures", 0)):
        value = getattr(given, name)
        if value is not None and not least <= value < 2**63:
            raise InputError(f"--{name} must be a whole number of at least {least} and below 2^63, got {value}")
    if given.hours is not None and not 0 < given.hours < float("inf"):
        raise InputError(f"--hours must be a number above 0, got {given.hours}")
    if given.measure is not None:
        _measure(given)
        return
    changes = dict(read_pair("--set", text) for text in given.set)
    changes |= {name: getattr(given, name) for name in ("backbone", "width") if getattr(given, name) is not None}

    import_user_modules(given.imports)

    from experiments.promotion import JobOptions
    from nas.promoting import promote
    from nas.searching.plan import find_device

    options = JobOptions(
        data=given.data,
        device=find_device(given.device),
        seed=given.seed,
        iterations=given.iterations,
        hours=given.hours,
        loaders=given.loaders,
        backbone_weights=given.backbone_weights,
        static=given.static,
        pictures=given.pictures,
        skip_bad_boxes=given.skip_bad_boxes,
    )
    if given.ray_address and not given.workers:
        raise InputError("--ray-address needs --workers: with --workers 0 this process trains")
    promote(
        given.what,
        given.recipe,
        options,
        changes=changes,
        top=given.top,
        out=given.out,
        resume=given.resume,
        workers=given.workers,
        ray_address=given.ray_address,
        imports=given.imports.split(",") if given.imports else (),
    )


def _measure(given: argparse.Namespace) -> None:
    usual = _parser().parse_args([given.what])
    for name, value in vars(given).items():
        if name not in ("what", "measure", "data", "device", "out", "resume", "imports") and value != getattr(
            usual, name
        ):
            raise InputError(f"--{name.replace('_', '-')} is for a training, but --measure trains nothing")

    import_user_modules(given.imports)

    from nas.measuring import measure

    measure(given.what, given.measure, data=given.data, device=given.device, out=given.out, resume=given.resume)


if __name__ == "__main__":
    sys.exit(main())
