"""Small datasets on disk for tests: noisy images with one coloured rectangle an object."""

import json
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

CLASSES = ("disc", "nut", "washer")
COLOURS = ((230, 40, 40), (40, 220, 60), (50, 70, 235), (240, 220, 30))


def draw(rng, width, height, classes, empty):
    """One image, uint8 (H, W, 3), and its objects as (label, x1, y1, x2, y2) in whole half-open pixels."""
    image = rng.integers(60, 160, (height, width, 3), dtype=np.uint8)
    objects = []
    for _ in range(0 if empty else rng.integers(1, 4)):
        label = int(rng.integers(len(classes)))
        w, h = (int(rng.integers(side // 5, side // 2)) for side in (width, height))
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        image[y : y + h, x : x + w] = COLOURS[label % len(COLOURS)]
        objects.append((label, x, y, x + w, y + h))
    return image, objects


def voc_xml(name, width, height, objects, classes=CLASSES):
    """An annotation's text; ``objects`` as `draw` gives them."""
    body = "".join(
        f"<object><name>{escape(classes[label])}</name><difficult>0</difficult><bndbox><xmin>{x1 + 1}</xmin>"
        f"<ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
        for label, x1, y1, x2, y2 in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>\n<filename>{name}.jpg</filename>\n{size}\n{body}</annotation>\n"


def write_voc(root, n=6, n_test=2, size=(96, 64), classes=CLASSES, seed=0):
    """Writes ``n`` training and ``n_test`` test images in Pascal VOC layout; the last of each has no object.

    A set of one image has objects in it. Images are ``a000.jpg``, ``a001.jpg``, ... of ``size`` (width, height) pixels.
    Returns ``root``.
    """
    root, rng = Path(root), np.random.default_rng(seed)
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"a{number:03d}" for number in range(n + n_test)]
    empty = ([names[n - 1]] if n > 1 else []) + ([names[-1]] if n_test > 1 else [])
    for name in names:
        image, objects = draw(rng, *size, classes, name in empty)
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        (root / "Annotations" / f"{name}.xml").write_text(voc_xml(name, *size, objects, classes))
    for subset, listed in (("trainval", names[:n]), ("test", names[n:])):
        (root / "ImageSets" / "Main" / f"{subset}.txt").write_text("".join(f"{name}\n" for name in listed))
    return root


def write_coco(root, n=6, n_test=2, size=(96, 64), classes=CLASSES, seed=0):
    """Writes ``n`` training and ``n_test`` test images in COCO 2017 layout; the last of each has no object.

    Category ids are 3, 5, 7, ... and listed last first; image ids count from 101. Returns ``root``.
    """
    root, rng = Path(root), np.random.default_rng(seed)
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    categories = [{"id": 3 + 2 * label, "name": name} for label, name in enumerate(classes)][::-1]
    for subset, first, count in (("train2017", 101, n), ("val2017", 101 + n, n_test)):
        (root / subset).mkdir(exist_ok=True)
        images, annotations = [], []
        for image_id in range(first, first + count):
            pixels, objects = draw(rng, *size, classes, 1 < count == image_id - first + 1)
            name = f"{image_id:012d}.jpg"
            Image.fromarray(pixels).save(root / subset / name, quality=95)
            images.append({"id": image_id, "file_name": name, "width": size[0], "height": size[1]})
            for label, x1, y1, x2, y2 in objects:
                w, h = x2 - x1, y2 - y1
                outline = [[x1, y1, x2, y1, x2, y2, x1, y2]]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": 3 + 2 * label,
                        "bbox": [x1, y1, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                        "segmentation": outline,
                    }
                )
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{subset}.json").write_text(json.dumps(content, indent=1))
    return root


STREET = {"sky": (128, 128, 128), "building": (128, 0, 0), "road": (128, 64, 128), "car": (64, 0, 128)}
CAMVID_VALUES = {"sky": 0, "building": 1, "road": 3, "car": 8, "void": 11}
CITYSCAPES_VALUES = {"sky": 23, "building": 11, "road": 7, "car": 26, "void": 3}


def draw_street(rng, size, time, values):
    """A street on which a car drives: image uint8 (H, W, 3) in noisy `STREET` colours, and labels uint8 (H, W).

    ``values`` gives the label of each class; the column on the left is void. Frames of one drive differ by ``time``.
    """
    width, height = size
    names = np.full((height, width), "building", object)
    names[: height // 4], names[2 * height // 3 :] = "sky", "road"
    x = (width // 8 + time * max(1, width // 24)) % (3 * width // 4)
    names[height // 2 : 4 * height // 5, x : x + width // 4] = "car"
    image = sum((names == name)[..., None] * np.array(colour) for name, colour in STREET.items())
    names[:, 0] = "void"
    labels = sum((names == name) * np.uint8(value) for name, value in values.items())
    noisy = image + rng.normal(0, 6, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), labels.astype(np.uint8)


def write_camvid(root, n=8, n_test=4, size=(96, 64), suffix=".png", seed=0):
    """Writes ``n`` training, ``n_test`` validation and ``n_test`` test frames in CamVid layout.

    The training frames are two clips, of recordings 0001TP and 0006R0 at steps of 30; the others are one clip each, of
    0016E5 at steps of 2 and of Seq05VD at steps of 30. Images are of ``size`` (width, height) pixels and have the given
    suffix, labels are PNG. Returns ``root``.
    """
    root, rng = Path(root), np.random.default_rng(seed)
    first = (n + 1) // 2
    drives = {
        "train": [f"0001TP_{6690 + 30 * t:06d}" for t in range(first)]
        + [f"0006R0_f{930 + 30 * t:05d}" for t in range(n - first)],
        "val": [f"0016E5_{7959 + 2 * t:05d}" for t in range(n_test)],
        "test": [f"Seq05VD_f{30 * t:05d}" for t in range(n_test)],
    }
    for subset, names in drives.items():
        for folder in (subset, f"{subset}annot"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for time, name in enumerate(names):
            image, labels = draw_street(rng, size, time, CAMVID_VALUES)
            Image.fromarray(image).save(root / subset / f"{name}{suffix}")
            Image.fromarray(labels).save(root / f"{subset}annot" / f"{name}.png")
    return root


def write_frames(root, n=8, n_test=4, size=(96, 64), subsets=("train", "val", "test"), seed=0):
    """Writes folders of frames with ``classes.txt``: two recordings of ``n`` training frames, one in the other subsets.

    Of every training recording the second frame has no label file. Returns ``root``.
    """
    root, rng = Path(root), np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    others = ("pole", "tree", "sign", "fence", "walker", "bin")
    classes = ["sky", "building", "road", "car", *others]
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in classes))
    values = {name: value for value, name in enumerate(classes[:4])} | {"void": 255}
    for subset in subsets:
        drives = {"morning": (n + 1) // 2, "night/second": n // 2} if subset == "train" else {"noon": n_test}
        for drive, count in drives.items():
            images, labels = (root / kind / subset / drive for kind in ("images", "labels"))
            images.mkdir(parents=True, exist_ok=True)
            labels.mkdir(parents=True, exist_ok=True)
            for time in range(count):
                image, found = draw_street(rng, size, time, values)
                Image.fromarray(image).save(images / f"f{5 * time:04d}.png")
                if time != 1 or subset != "train":
                    Image.fromarray(found).save(labels / f"f{5 * time:04d}.png")
    return root


def write_cityscapes(root, n=4, n_test=2, size=(96, 64), seed=0):
    """Writes ``n`` annotated training and ``n_test`` validation frames in Cityscapes layout, each with the one before.

    Each is frame 19 of a snippet of its own, half of the training frames are from aachen, half from bochum, the others
    from frankfurt. Labels are the official ids. Returns ``root``.
    """
    root, rng = Path(root), np.random.default_rng(seed)
    first = (n + 1) // 2
    drives = {
        "train": [f"aachen_{i:06d}" for i in range(first)] + [f"bochum_{i:06d}" for i in range(n - first)],
        "val": [f"frankfurt_{i:06d}" for i in range(n_test)],
    }
    for subset, snippets in drives.items():
        for snippet in snippets:
            city = snippet.split("_")[0]
            still, sequence, fine = (
                root / package / subset / city for package in ("leftImg8bit", "leftImg8bit_sequence", "gtFine")
            )
            for folder in (still, sequence, fine):
                folder.mkdir(parents=True, exist_ok=True)
            before, _ = draw_street(rng, size, 0, CITYSCAPES_VALUES)
            image, labels = draw_street(rng, size, 1, CITYSCAPES_VALUES)
            for number, pixels in ((18, before), (19, image)):
                Image.fromarray(pixels).save(sequence / f"{snippet}_{number:06d}_leftImg8bit.png")
            Image.fromarray(image).save(still / f"{snippet}_000019_leftImg8bit.png")
            Image.fromarray(labels).save(fine / f"{snippet}_000019_gtFine_labelIds.png")
            Image.fromarray(image).save(fine / f"{snippet}_000019_gtFine_color.png")
    return root


def write_instances(root, n=6, n_test=2, size=(96, 64), seed=0):
    """Writes ``n`` training and ``n_test`` validation images in Cityscapes layout with instances; the last has none.

    Objects are rectangles, of which later ones hide parts of earlier ones: persons, riders and cars, and in the first
    training image a group of cars on the left edge. Returns ``root``.
    """
    root, rng = Path(root), np.random.default_rng(seed)
    for subset, count in (("train", n), ("val", n_test)):
        still, fine = root / "leftImg8bit" / subset / "ulm", root / "gtFine" / subset / "ulm"
        still.mkdir(parents=True, exist_ok=True)
        fine.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image, objects = draw(rng, *size, CLASSES, 1 < count == number + 1)
            ids = np.full(size[::-1], 7, np.uint16)  # a road
            if (subset, number) == ("train", 0):
                ids[10:20, :3] = 26
            for instance, (label, x1, y1, x2, y2) in enumerate(objects):
                ids[y1:y2, x1:x2] = 1000 * (24 + label) + instance
            name = f"ulm_{number:06d}_000019"
            Image.fromarray(image).save(still / f"{name}_leftImg8bit.png")
            Image.fromarray(ids).save(fine / f"{name}_gtFine_instanceIds.png")
    return root
