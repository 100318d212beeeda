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
