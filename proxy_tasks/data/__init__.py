"""Detection datasets: Pascal VOC, COCO, layouts of one's own, and the built-in shapes.

A new layout is a subclass of `FileDataset` and one call of `register`.
"""

from pathlib import Path

from proxy_tasks.data.base import SUBSETS, DetectionDataset, Target
from proxy_tasks.data.files import Annotation, FileDataset, ObjectAnnotation
from proxy_tasks.data.shapes import Shapes
from search_spaces import InputError, Registry

__all__ = [
    "DATASETS",
    "SUBSETS",
    "Annotation",
    "DetectionDataset",
    "FileDataset",
    "ObjectAnnotation",
    "Shapes",
    "Target",
    "open_dataset",
    "register",
]

DATASETS = Registry(
    "dataset layout",
    {
        "voc": "proxy_tasks.data.voc:PascalVOC",
        "coco": "proxy_tasks.data.coco:COCO",
    },
)


def register(name: str, reader: type[FileDataset]) -> type[FileDataset]:
    """Makes a layout of your own known to `open_dataset`; refuses a name that is taken."""
    DATASETS.register(name, reader)
    return reader


def open_dataset(path: str | Path | None, subset: str = "train", skip_bad_boxes: bool = False) -> DetectionDataset:
    """Opens the dataset in the folder ``path``, whose layout is recognised; None is the built-in `Shapes`.

    Args:
        path: the folder.
        subset: ``"train"`` or ``"test"``.
        skip_bad_boxes: drop boxes outside their image or of no area, with one warning, instead of refusing the data.

    Raises:
        InputError: no such folder, no known layout or several, or anything wrong with the data: file and place.
    """
    if path is None:
        return Shapes(subset=subset)
    root = Path(path)
    if not root.exists():
        raise InputError(f"there is no folder {root}; a dataset's path is the folder that holds it")
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; a dataset's path is the folder that holds it")
    readers: list[type[FileDataset]] = [DATASETS.get(name) for name in DATASETS.names()]
    fitting = [reader for reader in readers if reader.recognise(root)]
    if not fitting:
        known = "; or ".join(f"{reader.layout} ({reader.looks_for})" for reader in readers)
        raise InputError(f"{root} has no known dataset layout; looked for {known}")
    if len(fitting) > 1:
        found = " and ".join(reader.layout for reader in fitting)
        raise InputError(f"{root} has more than one dataset layout, {found}; give each dataset a folder of its own")
    return fitting[0](root, subset, skip_bad_boxes)
