"""Detection datasets: Pascal VOC, COCO, layouts of one's own, and the built-in shapes.

A new layout is a subclass of `FileDataset` and one call of `register`.
"""

from pathlib import Path
from typing import Any

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
    "recognised",
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
    reader: type[FileDataset] = recognised(Path(path), DATASETS)
    return reader(path, subset, skip_bad_boxes)


def recognised(root: Path, layouts: Registry) -> Any:
    """The one reader of ``layouts`` that recognises the folder ``root``; raises `InputError` where there is not one."""
    if not root.is_dir():
        fault = f"{root} is not a folder" if root.exists() else f"there is no folder {root}"
        raise InputError(f"{fault}; a dataset's path is the folder that holds it")
    readers = [layouts.get(name) for name in layouts.names()]
    fitting = [reader for reader in readers if reader.recognise(root)]
    if not fitting:
        known = "; or ".join(f"{reader.layout} ({reader.looks_for})" for reader in readers)
        raise InputError(f"{root} has no known {layouts.what}; looked for {known}")
    if len(fitting) > 1:
        found = " and ".join(reader.layout for reader in fitting)
        raise InputError(f"{root} has more than one {layouts.what}, {found}; give each dataset a folder of its own")
    return fitting[0]
