"""Detection datasets: Pascal VOC, COCO, Cityscapes, layouts of one's own, and the built-in shapes.

A new layout is a subclass of `FileDataset` and one call of `register`.
"""

from pathlib import Path

from proxy_tasks.data.images.base import SUBSETS, DetectionDataset, Target
from proxy_tasks.data.images.files import Annotation, FileDataset, ObjectAnnotation
from proxy_tasks.data.images.part import held_apart, meta_split
from proxy_tasks.data.images.shapes import Shapes
from proxy_tasks.data.layouts import recognised
from search_spaces import Registry

__all__ = [
    "DATASETS",
    "SUBSETS",
    "Annotation",
    "DetectionDataset",
    "FileDataset",
    "ObjectAnnotation",
    "Shapes",
    "Target",
    "held_apart",
    "meta_split",
    "open_dataset",
    "register",
]

DATASETS = Registry(
    "dataset layout",
    {
        "voc": "proxy_tasks.data.images.voc:PascalVOC",
        "coco": "proxy_tasks.data.images.coco:COCO",
        "cityscapes": "proxy_tasks.data.images.cityscapes:CityscapesInstances",
    },
)


def register(name: str, reader: type[FileDataset]) -> type[FileDataset]:
    """Makes a layout of your own known to `open_dataset`; refuses a name that is taken."""
    DATASETS.register(name, reader)
    return reader


def open_dataset(
    path: str | Path | None, subset: str = "train", skip_bad_boxes: bool = False, masks: bool = False
) -> DetectionDataset:
    """Opens the dataset in the folder ``path``, whose layout is recognised; None is the built-in `Shapes`.

    Args:
        path: the folder.
        subset: ``"train"`` or ``"test"``.
        skip_bad_boxes: drop boxes outside their image or of no area, with one warning, instead of refusing the data.
        masks: targets have ``masks`` too; those of `Shapes` always do, since they are drawn anyway.

    Raises:
        InputError: no such folder, no known layout or several, or anything wrong with the data: file and place.
    """
    if path is None:
        return Shapes(subset=subset)
    reader: type[FileDataset] = recognised(Path(path), DATASETS)
    return reader(path, subset, skip_bad_boxes, masks)
