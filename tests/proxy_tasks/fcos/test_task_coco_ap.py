"""COCO AP on cases whose value is known."""

import math

import pytest
import torch

from proxy_tasks.average_precision import coco_ap


def boxes_of(boxes, labels):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels or [0] * len(boxes)),
    }


def truth(*boxes, labels=None, ignored="", difficult=""):
    """``ignored`` and ``difficult`` have a 1 for each such box."""
    marks = (torch.tensor([int(mark) for mark in text or "0" * len(boxes)]).long() for text in (ignored, difficult))
    return boxes_of(boxes, labels) | dict(zip(("iscrowd", "difficult"), marks, strict=True))


def found(*boxes, scores, labels=None):
    return boxes_of(boxes, labels) | {"scores": torch.tensor(scores, dtype=torch.float32)}


BOX, OTHER = (10.0, 10.0, 50.0, 60.0), (60.0, 5.0, 90.0, 95.0)
NOTHING = found(scores=[])


def test_perfect_detections():
    images = [truth(BOX, OTHER, labels=[0, 1]), truth()]
    value = coco_ap([found(BOX, OTHER, scores=[0.9, 0.8], labels=[0, 1]), NOTHING], images, 2)
    assert value == pytest.approx({"ap": 1.0, "ap50": 1.0, "ap75": 1.0})


def test_a_false_alarm_ranked_first_halves_the_precision():
    wrong = (0.0, 70.0, 20.0, 90.0)
    value = coco_ap([found(wrong, BOX, scores=[0.9, 0.5])], [truth(BOX)], 1)
    assert value["ap"] == pytest.approx(0.5, abs=1e-6)


def test_one_of_two_found():
    value = coco_ap([found(BOX, scores=[0.9])], [truth(BOX, OTHER)], 1)
    assert value["ap"] == pytest.approx(51 / 101, abs=1e-6)  # recall 0.5 of 101 recall points


def test_overlap_decides_which_thresholds_count():
    shifted = (10.0, 10.0, 50.0, 51.0)  # IoU 0.82: the thresholds 0.50, 0.55, ..., 0.80, 7 of 10
    value = coco_ap([found(shifted, scores=[0.9])], [truth(BOX)], 1)
    assert value == pytest.approx({"ap": 0.7, "ap50": 1.0, "ap75": 1.0})


def test_the_label_must_match():
    assert coco_ap([found(BOX, scores=[0.9], labels=[1])], [truth(BOX)], 2)["ap"] == 0.0


def test_nothing_found_and_nothing_to_find():
    assert coco_ap([NOTHING], [truth(BOX)], 1) == {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}
    assert all(math.isnan(value) for value in coco_ap([NOTHING], [truth()], 1).values())


def test_nothing_is_printed(capsys):
    coco_ap([found(BOX, scores=[0.9])], [truth(BOX)], 1)
    assert capsys.readouterr().out == ""
