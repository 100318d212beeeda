"""COCO's figures of whole images, and the results file, against pycocotools on the dataset's own files."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
import torch
import trees
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import encode

from experiments.detection.evaluation import results_file
from experiments.detection.pictures import drawn
from proxy_tasks.average_precision import FIGURES, coco_figures
from proxy_tasks.data import open_dataset


@pytest.fixture
def tree(tmp_path):
    """COCO with categories that are not contiguous, areas that are not those of boxes, and a crowd."""
    root = trees.write_coco(tmp_path / "coco", n=3, n_test=8, size=(220, 180))
    path = root / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    ids = {category["id"]: 10 * number + 7 for number, category in enumerate(content["categories"])}
    for category in content["categories"]:
        category["id"] = ids[category["id"]]
    rng = np.random.default_rng(0)
    for number, item in enumerate(content["annotations"]):
        item["category_id"] = ids[item["category_id"]]
        item["area"] = item["bbox"][2] * item["bbox"][3] * float(rng.uniform(0.1, 1))
        item["iscrowd"] = int(number == 2)
    path.write_text(json.dumps(content))
    return root, path


def found_near(truth, rng, classes):
    """Detections of most objects, a little off, some of a wrong class, and some of nothing."""
    boxes = truth["boxes"] + torch.from_numpy(rng.normal(0, 4, truth["boxes"].shape)).float()
    extra = torch.from_numpy(rng.uniform(0, 90, (3, 2))).float()
    boxes = torch.cat([boxes, torch.cat([extra, extra + 30], dim=1)])
    labels = torch.cat([truth["labels"], torch.from_numpy(rng.integers(0, classes, 3))])
    return {"boxes": boxes, "labels": labels, "scores": torch.from_numpy(rng.uniform(0, 1, len(boxes))).float()}


def test_figures_are_pycocotools_on_the_written_results(tree, tmp_path):
    root, path = tree
    data, rng = open_dataset(str(root), "test"), np.random.default_rng(1)
    assert data.category_ids == (7, 17, 27)
    truth = [target for _, target in data]
    found = [found_near(target, rng, 3) for target in truth]
    ours = coco_figures(found, truth, 3)
    written = tmp_path / "detections.json"
    written.write_text(json.dumps(results_file(found, [target["image_id"] for target in truth], data.category_ids)))
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(path))
        evaluation = COCOeval(annotations, annotations.loadRes(str(written)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert 0 < ours["ap"] < 1
    for name, value in zip(FIGURES, evaluation.stats, strict=False):
        assert (math.isnan(ours[name]) and value == -1) or ours[name] == pytest.approx(value, abs=1e-4), name


def test_only_sure_detections_are_drawn(tree):
    root, _ = tree
    data = open_dataset(str(root), "test")
    image, _ = data[0]
    box = torch.tensor([[20.0, 20.0, 80.0, 90.0]])
    sure = {"boxes": box, "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
    picture = drawn(image, sure, data.classes)
    assert picture.shape == image.shape
    changed = (picture != image).any(dim=0)
    assert changed[20, 20:80].any()
    assert not changed[100:, 100:].any()
    assert torch.equal(drawn(image, {**sure, "scores": torch.tensor([0.1])}, data.classes), image)


def test_objects_with_masks_have_colours_of_their_own(tree):
    root, _ = tree
    data = open_dataset(str(root), "test")
    image = torch.zeros_like(data[0][0])
    sides = np.zeros((*image.shape[1:], 2), dtype=np.uint8, order="F")
    sides[30:60, 30:50, 0] = sides[30:60, 50:70, 1] = 1
    box = torch.tensor([[30.0, 30.0, 50.0, 60.0], [50.0, 30.0, 70.0, 60.0]])
    found = {"boxes": box, "labels": torch.tensor([1, 1]), "scores": torch.tensor([0.9, 0.8])}
    picture = drawn(image, {**found, "segmentations": encode(sides)}, data.classes)
    left, right = picture[:, 55, 40], picture[:, 55, 60]
    assert left.any()
    assert right.any()
    assert not torch.equal(left, right)
