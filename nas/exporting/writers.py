"""The formats that an architecture is written in: one writer each."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.families import family_of
from nas.exporting.source import Source
from search_spaces.errors import InputError
from search_spaces.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from nas.exporting.networks import Exported

__all__ = ["WRITERS", "Export", "Writer"]

SAMPLES = 3  # images or clips that runtimes are compared on


@dataclass(frozen=True)
class Export:
    """One export: what is written, and what the formats need for it, made when it is first asked for.

    Args:
        source: what is exported.
        sizes: the network's sizes, where they are asked for: ``backbone``, ``num_classes``, ``width``.
        weights: a file; None is what the source has.
        data: a dataset to compare runtimes on; None is the source's.
    """

    source: Source
    sizes: dict[str, Any]
    weights: Path | None = None
    data: str | None = None

    @cached_property
    def network(self) -> "Exported":
        """The network with its weights; raises `InputError` where there is none, or they do not fit."""
        from nas.exporting.networks import prepare

        source, weights = self.source, self.weights or self.source.weights()
        return prepare(source.name, source.architecture, self.sizes, weights, source.space, source.modules)

    @cached_property
    def samples(self) -> "tuple[list[Tensor], str]":
        """Images to compare runtimes on and what they are, in words; raises `InputError` where the data are bad."""
        family = family_of(self.source.architecture.space)
        samples = family.function("samples")
        if samples is None:
            raise InputError(f"the family {family.name!r} has no images to compare runtimes on, so no ONNX is written")
        try:
            found: tuple[list[Tensor], str] = samples(self.data or self.source.data, SAMPLES)
        except InputError as error:
            if self.data or not self.source.data:
                raise
            warnings.warn(f"the run's test images cannot be had ({error}); built-in ones are compared", stacklevel=1)
            found = samples(None, SAMPLES)
        return found


@dataclass(frozen=True)
class Writer:
    """One format.

    Args:
        write: writes the files into a folder and yields what there is to say of them, line by line.
        prepare: makes what is needed, before any file of any format is written.
    """

    write: Callable[[Export, Path], Iterator[str]]
    prepare: Callable[[Export], object] = lambda export: None


def _json(export: Export, folder: Path) -> Iterator[str]:
    source = export.source
    yield str(_written(folder / f"{source.name}.json", source.architecture.to_json(**source.provenance)))


def _svg(export: Export, folder: Path) -> Iterator[str]:
    from nas.drawing import draw

    yield str(_written(folder / f"{export.source.name}.svg", draw(export.source.architecture)))


def _written(path: Path, text: str) -> Path:
    write_whole(path, text)
    return path


def _png(export: Export, folder: Path) -> Iterator[str]:
    from nas.drawing import write_png

    path = folder / f"{export.source.name}.png"
    write_png(export.source.architecture, path)
    yield str(path)


def _torch(export: Export, folder: Path) -> Iterator[str]:
    from nas.exporting.torch_files import write_torch

    yield from map(str, write_torch(export.network, folder))
    yield f"  weights: {export.network.origin}"


def _onnx(export: Export, folder: Path) -> Iterator[str]:
    from nas.exporting.onnx_files import write_onnx

    clips, images = export.samples
    for file, apart in write_onnx(export.network, folder, clips):
        yield str(file)
        yield f"  weights: {export.network.origin}"
        apart_by = f"{apart.absolute:.1e}, {apart.relative:.1e} of an output's largest value"
        yield f"  onnxruntime differs from torch by at most {apart_by}, on {images}"


def _check_onnx(export: Export) -> None:
    from nas.exporting import check_installed

    check_installed()
    assert export.network
    assert export.samples


WRITERS = {
    "json": Writer(_json),
    "torch": Writer(_torch, lambda export: export.network),
    "onnx": Writer(_onnx, _check_onnx),
    "svg": Writer(_svg),
    "png": Writer(_png),
}
"""Every format by its name."""
