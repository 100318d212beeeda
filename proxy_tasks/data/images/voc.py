"""Pascal VOC: one XML file an image (Everingham et al., The Pascal Visual Object Classes Challenge, IJCV 2010)."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

from proxy_tasks.data.images.files import Annotation, FileDataset, ObjectAnnotation
from search_spaces import InputError

__all__ = ["VOC_CLASSES", "PascalVOC"]

# fmt: off
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
CLASS_LISTS = ("classes.txt", "labels.txt")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".JPG", ".JPEG", ".PNG", ".BMP")
WITHHELD = tuple(f"VOC{year}" for year in range(2008, 2013))  # years whose test annotations were never released
SIDES = ("xmin", "ymin", "xmax", "ymax")


class PascalVOC(FileDataset):
    """A folder with ``Annotations/`` and ``JPEGImages/``, or one with ``VOC20xx/`` or ``VOCdevkit/VOC20xx/`` in it.

    Where there are several years, all are read, as the papers' "07+12". The test set is ``ImageSets/Main/test.txt``,
    else ``val.txt``; the training set is ``trainval.txt``, else ``train.txt``, else every annotation, and never holds
    an image of the test set. So VOC 2012, which has no public test set, gives its train set and its val set.

    Coordinates in the files count pixels from 1 and include the last one: the box is ``xmin - 1, ymin - 1, xmax,
    ymax``, and ``xmin == xmax`` is a box one pixel wide. Difficult objects are marked as ignored. The classes are those
    of ``classes.txt`` or ``labels.txt`` in the folder, one a line; else VOC's twenty in the official order, if no other
    occurs; else the names that occur in any subset, sorted. An image's ``image_id`` is its position.
    """

    layout = "Pascal VOC"
    looks_for = "Annotations/ and JPEGImages/, in the folder itself, in VOC20xx/ or in VOCdevkit/VOC20xx/"

    @classmethod
    def recognise(cls, root: Path) -> bool:
        """Whether ``root`` holds at least one year."""
        return bool(_years(root))

    def read(self, root: Path, subset: str) -> tuple[Sequence[str], Iterator[Annotation]]:
        """See `FileDataset.read`."""
        years = _years(root)
        chosen = _choose(years, subset)
        parsed = {xml: _parse(xml) for year in years for xml in sorted((year / "Annotations").glob("*.xml"))}
        classes, listed = _classes(root, parsed)
        return classes, (_annotation(xml, parsed[xml], number, classes, listed) for number, xml in enumerate(chosen))


def _years(root: Path) -> list[Path]:
    nested = [path for folder in (root / "VOCdevkit", root) for path in sorted(folder.glob("VOC20[0-9][0-9]"))]
    return [path for path in (root, *nested) if (path / "Annotations").is_dir() and (path / "JPEGImages").is_dir()]


def _choose(years: Sequence[Path], subset: str) -> list[Path]:
    """The subset's annotation files, those of all years."""
    lists = [_set_files(year) for year in years]
    held_out = next((name for name in ("test", "val") if any(found.get(name) for found in lists)), None)
    if subset == "test":
        if held_out is None:
            folders = " or ".join(str(year / "ImageSets" / "Main") for year in years)
            raise InputError(f"there is no test set: neither test.txt nor val.txt in {folders} lists an image")
        return [xml for found in lists for xml in found.get(held_out, ())]
    chosen = []
    for year, found in zip(years, lists, strict=True):
        every = found.get("trainval") or found.get("train") or sorted((year / "Annotations").glob("*.xml"))
        kept_back = set(found.get(held_out, ())) if held_out else set()
        chosen += [xml for xml in every if xml not in kept_back]
    return chosen


def _set_files(year: Path) -> dict[str, list[Path]]:
    """The annotation files that each set file of one year lists."""
    found: dict[str, list[Path]] = {}
    for name in ("train", "val", "trainval", "test"):
        path = year / "ImageSets" / "Main" / f"{name}.txt"
        if not path.is_file():
            continue
        ids = {number: line for number, line in enumerate(_lines(path), 1) if line}
        files = [year / "Annotations" / f"{image}.xml" for image in ids.values()]
        missing = [number for number, xml in zip(ids, files, strict=True) if not xml.is_file()]
        if missing and name == "test" and year.name in WITHHELD:
            continue
        if missing:
            raise InputError(
                f"{path}, line {missing[0]}: image {ids[missing[0]]!r} has no file in {year / 'Annotations'}"
            )
        if len(set(files)) < len(files):
            twice = next(image for image in ids.values() if list(ids.values()).count(image) > 1)
            raise InputError(f"{path}: image {twice!r} is listed twice")
        found[name] = files
    return found


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _parse(xml: Path) -> ElementTree.Element:
    try:
        tree = ElementTree.fromstring(xml.read_bytes())
    except ElementTree.ParseError as error:
        line, column = error.position
        reason = str(error).split(":")[0]
        raise InputError(f"{xml}: broken XML, line {line} column {column + 1}: {reason}") from error
    except (OSError, LookupError, ValueError) as error:  # unreadable, or an encoding that is unknown or not kept to
        raise InputError(f"{xml} cannot be read: {error}") from error
    if tree.tag != "annotation":
        raise InputError(f"{xml}: the outermost element must be <annotation>, got <{tree.tag}>")
    return tree


def _classes(root: Path, parsed: dict[Path, ElementTree.Element]) -> tuple[tuple[str, ...], str]:
    """The classes and where they are listed."""
    for path in (root / name for name in CLASS_LISTS):
        if path.is_file():
            names = [line for line in _lines(path) if line]
            if not names or len(set(names)) < len(names):
                raise InputError(f"{path}: a class list names each class once, one a line, got {names}")
            return tuple(names), str(path)
    occurring = {_name(xml, number, thing) for xml, tree in parsed.items() for number, thing in _objects(tree)}
    return (VOC_CLASSES if occurring <= set(VOC_CLASSES) else tuple(sorted(occurring))), str(root)


def _objects(tree: ElementTree.Element) -> Iterator[tuple[int, ElementTree.Element]]:
    return enumerate(tree.findall("object"), 1)


def _name(xml: Path, number: int, thing: ElementTree.Element) -> str:
    name = (thing.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{xml}: object {number} has no <name>")
    return name


def _annotation(xml: Path, tree: ElementTree.Element, image_id: int, classes: Sequence[str], listed: str) -> Annotation:
    folder = xml.parent.parent / "JPEGImages"
    paths = [folder / f"{xml.stem}{suffix}" for suffix in SUFFIXES]
    image = next((path for path in paths if path.is_file()), paths[0])
    size = None
    if tree.find("size") is not None:
        size = (_number(tree, "size/width", str(xml)), _number(tree, "size/height", str(xml)))
    objects = []
    for number, thing in _objects(tree):
        name = _name(xml, number, thing)
        if name not in classes:
            raise InputError(f"{xml}: object {number} is a {name!r}, a class that {listed} lacks: {', '.join(classes)}")
        x1, y1, x2, y2 = (_number(thing, f"bndbox/{side}", f"{xml}: object {number}") for side in SIDES)
        written = ", ".join(f"{side} {value:g}" for side, value in zip(SIDES, (x1, y1, x2, y2), strict=True))
        difficult = (thing.findtext("difficult") or "0").strip() == "1"
        place = f"{xml}: object {number} ({written})"
        objects.append(ObjectAnnotation((x1 - 1, y1 - 1, x2, y2), classes.index(name), difficult, place))
    return Annotation(image, image_id, size, objects, str(xml))


def _number(element: ElementTree.Element, path: str, place: str) -> float:
    text = element.findtext(path)
    try:
        return float(text or "")
    except ValueError as error:
        raise InputError(f"{place} needs a number in <{path.split('/')[-1]}>, got {text!r}") from error
