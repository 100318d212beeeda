"""Video datasets: CamVid, Cityscapes, layouts of one's own, and the built-in moving shapes."""

from collections.abc import Callable
from pathlib import Path

from proxy_tasks.data.layouts import recognised
from proxy_tasks.data.video.base import VIDEO_SUBSETS, VOID, VideoDataset
from proxy_tasks.data.video.files import FileVideoDataset
from proxy_tasks.data.video.moving_shapes import MovingShapes
from search_spaces import Registry

__all__ = [
    "VIDEO_DATASETS",
    "VIDEO_SUBSETS",
    "VOID",
    "FileVideoDataset",
    "MovingShapes",
    "VideoDataset",
    "open_video",
    "register_video",
]

VIDEO_DATASETS = Registry(
    "video layout",
    {
        "camvid": "proxy_tasks.data.video.camvid:CamVid",
        "cityscapes": "proxy_tasks.data.video.cityscapes:Cityscapes",
        "frames": "proxy_tasks.data.video.frames:FramesFolder",
    },
)


def register_video(name: str, reader: type[FileVideoDataset]) -> type[FileVideoDataset]:
    """Makes a layout of your own known to `open_video`; refuses a name that is taken."""
    VIDEO_DATASETS.register(name, reader)
    return reader


def open_video(
    path: str | Path | None, subset: str = "train", sequences: bool = True, sequence_length: int | None = None
) -> VideoDataset:
    """Opens the video dataset in the folder ``path``, whose layout is recognised; None is the built-in `MovingShapes`.

    Args:
        path: the folder.
        subset: ``"train"``, ``"val"`` or ``"test"``.
        sequences: whether sequences are asked for. Without them a dataset need not have any, and frames that are there
            for the sake of sequences alone are neither looked for nor read: Cityscapes then needs no
            ``leftImg8bit_sequence``.
        sequence_length: the number of frames in a sequence, at least 2; None is the published one: 3, of Cityscapes 2.

    Raises:
        InputError: no such folder, no known layout or several, or anything wrong with the data: file and place.
    """
    if path is None:
        return MovingShapes(subset=subset, sequence_length=sequence_length)
    reader: Callable[..., VideoDataset] = recognised(Path(path), VIDEO_DATASETS)
    return reader(path, subset, sequences, sequence_length)
