"""From an architecture, by whatever it is known, to the network around it."""

from pathlib import Path
from typing import Any

from nas.run.reading import Run
from search_spaces import Architecture, InputError

__all__ = ["build", "find_architecture", "is_run"]


def find_architecture(what: "str | Path | Architecture | Run") -> Architecture:
    """The architecture that ``what`` stands for: itself, a run's best, a file's or a published one's.

    Raises:
        InputError: nothing goes by that name, or the file or run is bad.
    """
    if isinstance(what, Architecture):
        return what
    if isinstance(what, Run):
        return what.best()[0]
    from experiments import published

    is_name = what in published.names()
    if is_run(what):
        return Run(what).best()[0]
    if not is_name and (isinstance(what, Path) or str(what).endswith(".json") or Path(what).is_file()):
        return Architecture.load(what)
    if not is_name:
        known = ", ".join(published.names())
        raise InputError(
            f"{what!r} is neither a run's directory, nor an architecture file, nor a published architecture ({known})"
        )
    architecture: Architecture = published.load(str(what))
    return architecture


def is_run(what: str | Path) -> bool:
    """Whether ``what`` stands for a run: a folder, but no published name, which such a folder does not hide."""
    from experiments import published

    return what not in published.names() and Path(what).is_dir()


def build(what: "str | Path | Architecture | Run", **options: Any) -> Any:
    """The whole network around an architecture.

    A detector takes and gives images and boxes as torchvision's `FCOS` does, a mask network as its `MaskRCNN`, labels
    from 0; see `proxy_tasks.video.network` for segmentation networks.

    Args:
        what: an architecture, an architecture file, a run (its best) or a published name such as ``"nas_fcos"``.
        options: backbone, classes and sizes, see `proxy_tasks.fcos.detector.build_detector`,
            `proxy_tasks.video.network.build_segmenter` and `proxy_tasks.masks.network.build_mask_network`.

    Raises:
        InputError: see `find_architecture`.
    """
    architecture = find_architecture(what)
    from proxy_tasks import build_network

    return build_network(architecture, **options)
