"""What is ignored (crowds, difficult objects): no loss where it lies, neither a miss nor a false alarm in the AP."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_tasks.average_precision import coco_ap
from proxy_tasks.fcos.loss import fcos_loss_sums
from proxy_tasks.fcos.targets import BACKGROUND, IGNORED, Locations, assign, pad_boxes

CLASSES = 2
BOX, OTHER = (10.0, 10.0, 50.0, 60.0), (60.0, 5.0, 90.0, 95.0)


def objects(boxes, labels=None, ignored=None, difficult=None, **more):
    columns = {"labels": labels, "iscrowd": ignored, "difficult": difficult}
    columns = {name: torch.tensor(value or [0] * len(boxes)).long() for name, value in columns.items()}
    return {"boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), **columns, **more}


def found(boxes, scores, labels=None):
    target = objects(boxes, labels)
    return {"boxes": target["boxes"], "labels": target["labels"], "scores": torch.tensor(scores)}


@pytest.mark.parametrize("difficult", [0, 1])
def test_a_perfect_detection_beside_an_ignored_object_is_perfect(difficult):
    images = [objects([BOX, OTHER], ignored=[0, 1], difficult=[0, difficult])]
    assert coco_ap([found([BOX], [0.9])], images, 1)["ap"] == pytest.approx(1.0)
    both = found([OTHER, OTHER, BOX], [0.95, 0.93, 0.9])  # found, and twice: no false alarms
    assert coco_ap([both], images, 1)["ap"] == pytest.approx(1.0)


def test_a_part_of_a_crowd_is_found_but_not_a_part_of_a_difficult_object():
    part = (62.0, 7.0, 80.0, 30.0)
    values = [
        coco_ap([found([part, BOX], [0.95, 0.9])], [objects([BOX, OTHER], None, [0, 1], [0, difficult])], 1)["ap"]
        for difficult in (0, 1)
    ]
    assert values == pytest.approx([1.0, 0.5])


def test_nothing_but_ignored_objects():
    assert np.isnan(coco_ap([found([BOX], [0.9])], [objects([BOX], ignored=[1])], 1)["ap"])


def overlap(box, truth, share):
    """IoU, or with ``share`` the share of ``box`` that lies in ``truth``."""
    width, height = (min(box[2 + i], truth[2 + i]) - max(box[i], truth[i]) for i in (0, 1))
    inner = max(0.0, width) * max(0.0, height)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, truth)]
    return inner / (areas[0] if share else areas[0] + areas[1] - inner)


def slow_ap(detections, truths, threshold, label):
    """COCO's AP of a class at an IoU, in loops; None where there is nothing to find."""
    judged, wanted = [], 0
    for detection, truth in zip(detections, truths, strict=True):
        things = [
            (box, bool(ignored), bool(ignored) and not difficult)
            for box, kind, ignored, difficult in zip(
                *(truth[name].tolist() for name in ("boxes", "labels", "iscrowd", "difficult")), strict=True
            )
            if kind == label
        ]
        wanted += sum(not ignored for _, ignored, _ in things)
        taken = set()
        rows = zip(*(detection[name].tolist() for name in ("scores", "boxes", "labels")), strict=True)
        for score, box, kind in sorted(rows, reverse=True):
            if kind != label:
                continue
            fits = {i: overlap(box, thing[0], thing[2]) for i, thing in enumerate(things)}
            fits = {i: value for i, value in fits.items() if value >= threshold}
            real = {i: value for i, value in fits.items() if not things[i][1] and i not in taken}
            if real:
                taken.add(max(real, key=real.get))
                judged.append((score, 1))
            elif not any(things[i][1] for i in fits):
                judged.append((score, 0))
    if not wanted:
        return None
    hits = np.cumsum([hit for _, hit in sorted(judged, reverse=True)])
    precision = hits / np.arange(1, len(hits) + 1)
    return np.mean([max(precision[hits / wanted >= r], default=0.0) for r in np.linspace(0, 1, 101)])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_the_average_precision_is_that_of_loops(seed):
    rng = np.random.default_rng(seed)
    truths, detections = [], []
    for _ in range(3):
        n = rng.integers(1, 7)
        corners = rng.uniform(0, 60, (n, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (n, 2))], axis=1)
        ignored = rng.random(n) < 0.5
        difficult = ignored & (rng.random(n) < 0.5)
        labels = rng.integers(0, CLASSES, n)
        truths.append(objects(boxes.tolist(), labels.tolist(), ignored.tolist(), difficult.tolist()))
        near = np.repeat(boxes, 3, axis=0) + rng.normal(0, 2, (3 * n, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        detections.append(found(near.tolist(), rng.random(3 * n).tolist(), np.repeat(labels, 3).tolist()))
    for name, thresholds in {"ap": np.arange(0.5, 0.96, 0.05), "ap50": [0.5], "ap75": [0.75]}.items():
        values = [slow_ap(detections, truths, t, label) for t in thresholds for label in range(CLASSES)]
        values = [value for value in values if value is not None]
        expected = np.mean(values) if values else np.nan
        assert coco_ap(detections, truths, CLASSES)[name] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_locations_in_an_ignored_region_are_neither_foreground_nor_background():
    locations = Locations.of(128)
    real, region = objects([(10, 10, 60, 60)], [1]), objects([(40, 40, 120, 100)], ignored=[1])
    both = {name: torch.cat([real[name], region[name]]) for name in real}
    alone, together = (assign(*pad_boxes([target]), locations).labels[0] for target in (real, both))
    for (x, y), before, after in zip(locations.centers.tolist(), alone.tolist(), together.tolist(), strict=True):
        inside = 40 < x < 120 and 40 < y < 100
        assert after == (IGNORED if inside and before == BACKGROUND else before)
    assert (alone >= 0).sum() == (together >= 0).sum() > 0


def test_ignored_locations_have_no_loss_and_no_gradient():
    torch.manual_seed(0)
    locations = Locations.of(128)
    targets = assign(*pad_boxes([objects([BOX, OTHER], [1, 0], [0, 1])]), locations)
    count, silent = len(locations.sizes), targets.labels[0] == IGNORED
    outputs = {
        "cls_logits": torch.randn(1, count, CLASSES),
        "bbox_regression": torch.rand(1, count, 4) + 0.1,
        "bbox_ctrness": torch.randn(1, count, 1),
    }
    without = {name: value[:, ~silent] for name, value in outputs.items()}
    kept = type(targets)(*(getattr(targets, name)[:, ~silent] for name in ("labels", "distances", "centerness")))
    expected = fcos_loss_sums(without, kept, locations.sizes[~silent]).terms()
    logits = outputs["cls_logits"].requires_grad_()
    sums = fcos_loss_sums(outputs, targets, locations.sizes)
    sums.total().backward()
    for name, value in sums.terms().items():
        assert float(value.detach()) == pytest.approx(float(expected[name]), rel=1e-5)
    assert silent.any()
    assert not logits.grad[0, silent].any()
    assert logits.grad[0, ~silent].any(dim=1).all()
