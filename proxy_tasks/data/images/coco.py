"""COCO: one JSON file a subset (Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014)."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from proxy_tasks.data.images.files import Annotation, FileDataset, ObjectAnnotation
from proxy_tasks.data.images.masks import MaskAnnotation, coco_mask
from search_spaces import InputError

__all__ = ["COCO"]

FILES = {"train": "instances_train*.json", "test": "instances_val*.json"}
LIMIT = 1e9  # no image is as large; whole numbers in JSON have no bound of their own
WORDS = {list: "a list", dict: "an object", int: "a whole number", str: "a string"}


class COCO(FileDataset):
    """A folder with ``annotations/instances_train*.json`` (training set) and ``instances_val*.json`` (test set).

    The images of ``instances_train2017.json`` lie in ``train2017/``, ``images/train2017/`` or ``images/``, the first
    that exists. Boxes in the file are ``x, y, width, height``, counted from 0. Labels are positions in ``categories``
    sorted by id. Crowd regions are marked as ignored. An image's ``image_id`` is its COCO id. Masks are polygons, runs
    or compressed runs.
    """

    layout = "COCO"
    crowds = has_masks = True
    looks_for = "annotations/instances_*.json"

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """Whether ``root`` holds an annotation file of this layout."""
        return any((root / "annotations").glob("instances_*.json"))

    @property
    def category_ids(self) -> tuple[int, ...]:
        """As the file numbers them; they need not be contiguous."""
        return self._category_ids

    def read(self, root: Path, subset: str) -> tuple[Sequence[str], Iterator[Annotation]]:
        """See `FileDataset.read`."""
        path = _annotation_file(root, subset)
        content = _load(path)
        classes = _by_id(content, "categories", f"{path}")
        images = _by_id(content, "images", f"{path}")
        labels = {category: label for label, category in enumerate(sorted(classes))}
        self._category_ids = tuple(labels)
        names = [_get(*classes[category], "name", str) for category in labels]
        if not names or len(set(names)) < len(names):
            raise InputError(f"{path}: categories must name each class once, got {names}")
        objects = _objects(content, str(path), images, labels, self.masks)
        folder = _image_folder(root, path)
        return names, (
            _annotation(image, place, folder, objects[image_id]) for image_id, (image, place) in images.items()
        )


def _annotation_file(root: Path, subset: str) -> Path:
    found = sorted((root / "annotations").glob(FILES[subset]))
    if len(found) != 1:
        what = ", ".join(path.name for path in found) or "none"
        raise InputError(f"{root / 'annotations'}: the {subset} set needs one file {FILES[subset]}, found {what}")
    return found[0]


def _image_folder(root: Path, path: Path) -> Path:
    name = path.stem.removeprefix("instances_")
    folders = (root / name, root / "images" / name, root / "images")
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise InputError(f"{path}: its images are in none of the folders {', '.join(map(str, folders))}")
    return folder


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: broken JSON, line {error.lineno} column {error.colno}: {error.msg}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: the file must hold a JSON object, got {type(content).__name__}")
    return content


def _get(item: Any, place: str, key: str, kind: type) -> Any:
    """``item[key]``, of the given JSON type."""
    if not isinstance(item, dict):
        raise InputError(f"{place} must be an object, got {item!r:.80}")
    value = item.get(key)
    if type(value) is not kind:
        got = f"got {value!r:.80}" if key in item else "which is missing"
        raise InputError(f"{place}: key {key!r} must be {WORDS[kind]}, {got}")
    return value


def _by_id(content: dict[str, Any], key: str, path: str) -> dict[int, tuple[Any, str]]:
    """The items of a list by their id, each with its place in the file."""
    found: dict[int, tuple[Any, str]] = {}
    for number, item in enumerate(_get(content, path, key, list)):
        place = f"{path}: {key}[{number}]"
        identity = _get(item, place, "id", int)
        if identity in found:
            raise InputError(f"{place}.id {identity} is taken already; ids in {key} are unique")
        found[identity] = (item, place)
    return found


def _objects(
    content: dict[str, Any], path: str, images: dict[int, Any], labels: dict[int, int], masks: bool
) -> dict[int, list[ObjectAnnotation]]:
    """The objects of each image, by image id."""
    objects: dict[int, list[ObjectAnnotation]] = defaultdict(list)
    for number, item in enumerate(_get(content, path, "annotations", list)):
        place = f"{path}: annotations[{number}]"
        image_id, category = _get(item, place, "image_id", int), _get(item, place, "category_id", int)
        if image_id not in images:
            raise InputError(f"{place}.image_id {image_id} is not the id of an image in the file")
        if category not in labels:
            raise InputError(f"{place}.category_id {category} is not the id of a category in the file")
        box = _get(item, place, "bbox", list)
        if len(box) != 4 or any(type(value) not in (int, float) or not abs(value) < LIMIT for value in box):
            raise InputError(f"{place}.bbox must be four finite numbers (x, y, width, height), got {box!r:.80}")
        x, y, width, height = box
        crowd = item.get("iscrowd", 0)
        if crowd not in (0, 1):
            raise InputError(f"{place}.iscrowd must be 0 or 1, got {crowd!r:.80}")
        area = item.get("area")
        if area is not None and (type(area) not in (int, float) or not 0 <= area < LIMIT):
            raise InputError(f"{place}.area must be a finite number that is not negative, got {area!r:.80}")
        corners = (x, y, x + width, y + height)
        mask = _mask(item, place) if masks else None
        place = f"{place}.bbox {box}"
        objects[image_id].append(ObjectAnnotation(corners, labels[category], bool(crowd), place, area, mask))
    return objects


def _mask(item: dict[str, Any], place: str) -> MaskAnnotation:
    if "segmentation" not in item:
        raise InputError(f"{place} has no key 'segmentation', from which its mask would be read")
    mask = coco_mask(item["segmentation"])
    if mask is None:
        raise InputError(
            f"{place}.segmentation must be a list of polygons, or an object with size and counts, "
            f"got {item['segmentation']!r:.80}"
        )
    return mask


def _annotation(image: Any, place: str, folder: Path, objects: Sequence[ObjectAnnotation]) -> Annotation:
    size = (_get(image, place, "width", int), _get(image, place, "height", int))
    return Annotation(folder / _get(image, place, "file_name", str), image["id"], size, objects, place)
