"""RoIs, samples, losses and the cascade, against slow versions and torchvision."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_networks import batch, network
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops import MultiScaleRoIAlign, batched_nms, roi_align

from proxy_tasks.masks.boxes import BoxStage, box_losses, refined
from proxy_tasks.masks.rois import RoIPool, area_levels, fpn_levels
from proxy_tasks.masks.semantic import VOID, SemanticBranch, semantic_labels, semantic_loss
from proxy_tasks.masks.truth import Samples, Truth, assign, covered, sample


def boxes_of(rng, count, size=200.0):
    corner = torch.rand(count, 2, generator=rng) * size
    return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=rng) * size], dim=1)


sides = st.floats(0.5, 900)


@settings(max_examples=200, deadline=None)
@given(sides, sides, st.integers(32, 1400), st.integers(32, 1400))
def test_levels_are_the_equations(width, height, image_height, image_width):
    box = [torch.tensor([[3.0, 4.0, 3.0 + width, 4.0 + height]], dtype=torch.float64)]
    size = [(image_height, image_width)]
    exact = 4 + math.log2(math.sqrt(width * height) / 224)
    if abs(exact - round(exact)) > 1e-4:
        assert fpn_levels(box, size, 2, 5).tolist() == [min(5, max(2, math.floor(exact)))]
    exact = 5 - math.log2(image_height * image_width / (width * height))
    if abs(exact - round(exact)) > 1e-4:
        assert area_levels(box, size, 3, 5).tolist() == [min(5, max(3, math.ceil(exact)))]


def test_levels_at_their_bounds():
    box = torch.tensor([[0.0, 0, 224, 224], [0.0, 0, 223.9, 224], [0.0, 0, 448, 448], [0.0, 0, 2, 2], [5.0, 5, 5, 5]])
    assert fpn_levels([box], [(896, 896)], 2, 5).tolist() == [4, 3, 5, 2, 2]
    whole = torch.tensor([[0.0, 0, 896, 896], [0.0, 0, 448, 896], [0.0, 0, 449, 896], [0.0, 0, 4, 4], [5.0, 5, 5, 5]])
    assert area_levels([whole], [(896, 896)], 3, 5).tolist() == [5, 4, 5, 3, 3]


def test_pooling_is_torchvisions():
    rng = torch.Generator().manual_seed(0)
    levels = ("P2", "P3", "P4", "P5")
    maps = {f"P{k}": torch.randn(2, 3, 512 >> k, 768 >> k, generator=rng) for k in (2, 3, 4, 5)}
    boxes, sizes = [boxes_of(rng, 30, 600), boxes_of(rng, 5, 600)], [(512, 768), (500, 700)]
    theirs = MultiScaleRoIAlign(list(levels), 7, 2)
    torch.testing.assert_close(RoIPool(levels, 7)(maps, boxes, sizes), theirs(maps, boxes, [(512, 768)] * 2))
    by_area = RoIPool(levels[1:], 7, "area")(maps, boxes, sizes)
    taken = area_levels(boxes, sizes, 3, 5)
    assert len(set(taken.tolist())) == 3
    every = [(image, box) for image, one in enumerate(boxes) for box in one]
    for place, ((image, box), level) in enumerate(zip(every, taken.tolist(), strict=True)):
        roi = torch.cat([torch.tensor([float(image)]), box])[None]
        torch.testing.assert_close(by_area[place], roi_align(maps[f"P{level}"], roi, 7, 0.5**level, 2)[0])
    assert RoIPool(levels, 7)(maps, [torch.zeros(0, 4)] * 2, sizes).shape == (0, 3, 7, 7)


def test_covered_shares_are_those_of_a_grid():
    rng = np.random.default_rng(0)

    def whole(count):
        corner = rng.integers(0, 20, (count, 2))
        return np.concatenate([corner, corner + rng.integers(1, 20, (count, 2))], axis=1)

    boxes, crowds = whole(20), whole(3)
    expected = []
    for x1, y1, x2, y2 in boxes:
        shares = []
        for a1, b1, a2, b2 in crowds:
            inside = sum(a1 <= x < a2 and b1 <= y < b2 for x in range(x1, x2) for y in range(y1, y2))
            shares.append(inside / ((x2 - x1) * (y2 - y1)))
        expected.append(max(shares))
    found = covered(torch.tensor(boxes).float(), torch.tensor(crowds).float())
    assert found.tolist() == pytest.approx(expected)
    assert covered(torch.tensor(boxes).float(), torch.zeros(0, 4)).tolist() == [0.0] * 20
    assert covered(torch.tensor([[3.0, 3, 3, 3]]), torch.tensor([[0.0, 0, 9, 9]])).isfinite().all()


def truth_of(boxes, labels, crowds=(), side=40):
    masks = torch.zeros(len(boxes), side, side, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    tensors = [torch.tensor(one, dtype=torch.float32).reshape(-1, 4) for one in (boxes, crowds)]
    crowd_masks = torch.zeros(len(crowds), side, side, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(crowd_masks, crowds, strict=True):
        mask[y1:y2, x1:x2] = 1
    return Truth(tensors[0], torch.tensor(labels, dtype=torch.int64), masks, tensors[1], crowd_masks)


def test_a_roi_is_of_an_object_or_background_or_nothing_to_learn_from():
    truth = truth_of([(0, 0, 10, 10), (20, 20, 40, 40)], [1, 3], crowds=[(0, 0, 10, 30)])
    rois = torch.tensor(
        [
            [0.0, 0, 10, 9],  # the first object, though in the crowd
            [21.0, 21, 40, 40],  # the second
            [0.0, 12, 10, 28],  # of the crowd alone
            [4.0, 12, 16, 28],  # half in it: not more than half
            [3.0, 12, 13, 28],  # more than half in it
            [25.0, 0, 40, 15],  # background
        ]
    )
    labels, matched = assign(rois, truth, 0.5)
    assert labels.tolist() == [1, 3, -1, 0, -1, 0]
    assert matched[:2].tolist() == [0, 1]
    assert assign(rois, truth, 0.95)[0].tolist() == [-1, 0, -1, 0, -1, 0]
    assert assign(torch.zeros(0, 4), truth, 0.5)[0].shape == (0,)


def test_samples_have_the_objects_own_boxes_and_nothing_that_is_ignored():
    truth = truth_of([(0, 0, 10, 10)], [2], crowds=[(20, 20, 40, 40)])
    proposals = torch.tensor([[22.0, 22, 38, 38], [12.0, 0, 18, 10], [0.0, 0, 10, 12]])
    (found,) = sample([proposals], [truth], 0.5, BalancedPositiveNegativeSampler(512, 0.25))
    assert found.boxes.tolist() == [[12, 0, 18, 10], [0, 0, 10, 12], [0, 0, 10, 10]]
    assert found.labels.tolist() == [0, 2, 2]
    assert found.given.tolist() == [False, False, True]
    assert found.positive().boxes.tolist() == [[0, 0, 10, 12], [0, 0, 10, 10]]
    assert found.positive().targets.tolist() == [[0, 0, 10, 10]] * 2


def samples_of(rng, labels):
    boxes = boxes_of(rng, len(labels))
    targets = boxes + torch.rand(len(labels), 4, generator=rng)
    none = torch.zeros(len(labels), dtype=torch.bool)
    return Samples(boxes, torch.tensor(labels), torch.zeros(len(labels), dtype=torch.int64), targets, none)


def test_box_losses_are_torchvisions():
    rng = torch.Generator().manual_seed(0)
    samples = [samples_of(rng, [0, 2, 1]), samples_of(rng, [3, 0])]
    stage = BoxStage(4, 3, agnostic=False)
    logits, codes = torch.randn(5, 4, generator=rng), torch.randn(5, 16, generator=rng)
    goals = stage.coder.encode([one.targets for one in samples], [one.boxes for one in samples])
    expected = fastrcnn_loss(logits, codes, [one.labels for one in samples], list(goals))
    for found, other in zip(box_losses(stage, logits, codes, samples), expected, strict=True):
        torch.testing.assert_close(found, other)
    # one regression for all classes is that of every class
    agnostic = BoxStage(4, 3)
    single = codes[:, :4]
    expected = fastrcnn_loss(logits, single.repeat(1, 4), [one.labels for one in samples], list(goals))
    torch.testing.assert_close(box_losses(agnostic, logits, single, samples)[1], expected[1])
    empty = box_losses(agnostic, logits[:0], single[:0], [samples_of(rng, [])])
    assert [float(one) for one in empty] == [0, 0]


def test_later_stages_code_boxes_more_finely_and_refine_them():
    rng = torch.Generator().manual_seed(0)
    samples = samples_of(rng, [1, 0, 2])
    for number in range(3):
        stage = BoxStage(4, 3, number)
        assert stage.coder.weights == tuple((number + 1) * one for one in (10.0, 10.0, 5.0, 5.0))
        (codes,) = stage.coder.encode([samples.targets], [samples.boxes])
        torch.testing.assert_close(refined(stage, codes, [samples], [(900, 900)])[0], samples.targets)
    given = Samples(samples.boxes, samples.labels, samples.matched, samples.targets, torch.tensor([True, False, False]))
    assert len(refined(stage, codes, [given], [(900, 900)])[0]) == 2
    assert len(refined(stage, codes, [samples], [(1, 900)])[0]) <= 1  # clipped to nothing


def test_semantic_labels_are_drawn_pixel_by_pixel():
    truth = truth_of([(0, 0, 30, 30), (5, 5, 15, 15), (35, 0, 40, 8)], [4, 2, 1], crowds=[(20, 20, 40, 40)])
    found = semantic_labels(truth, (40, 40), (48, 64))
    for y in range(48):
        for x in range(64):
            if y >= 40 or x >= 40:
                expected = VOID
            elif 5 <= x < 15 and 5 <= y < 15:
                expected = 2  # the smaller one lies on the larger one
            elif x < 30 and y < 30:
                expected = 4
            elif x >= 35 and y < 8:
                expected = 1
            else:
                expected = VOID if x >= 20 and y >= 20 else 0
            assert found[y, x] == expected, (x, y)


def test_semantic_loss_is_the_mean_over_what_has_a_label():
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 2, 3, generator=rng)
    labels = torch.randint(-1, 3, (2, 16, 24), generator=rng)
    terms = []
    for image in range(2):
        for row in range(2):
            for column in range(3):
                label = int(labels[image, 8 * row + 4, 8 * column + 4])
                if label != VOID:
                    terms.append(-logits[image, :, row, column].log_softmax(dim=0)[label])
    assert 0 < len(terms) < 12
    torch.testing.assert_close(semantic_loss(logits, labels), torch.stack(terms).mean())
    assert semantic_loss(logits, torch.full_like(labels, VOID)) == 0


def test_the_semantic_branch_is_what_the_text_says():
    torch.manual_seed(0)
    levels = ("P2", "P3", "P4", "P5", "P6")
    branch = SemanticBranch(levels, 4, 5)
    maps = {f"P{k}": torch.randn(1, 4, 128 >> k, 192 >> k) for k in range(2, 7)}
    total = 0
    for level in levels:
        brought = F.interpolate(maps[level], (16, 24), mode="bilinear") if level != "P3" else maps[level]
        conv = branch.lateral[level]
        total = total + F.relu(F.conv2d(brought, conv.weight, conv.bias))
    for conv in branch.convs:
        total = F.relu(F.conv2d(total, conv.weight, conv.bias, padding=1))
    logits, features = branch(maps)
    torch.testing.assert_close(logits, F.conv2d(total, branch.logits.weight, branch.logits.bias))
    torch.testing.assert_close(features, F.relu(F.conv2d(total, branch.embedding.weight, branch.embedding.bias)))


def one_by_one(maps, levels, box, size, finest=2):
    """RoIAlign of one box, its level by eq. 2.4."""
    side = math.sqrt(max(float((box[2] - box[0]) * (box[3] - box[1])), 1e-12))
    level = min(5, max(finest, math.floor(4 + math.log2(side / 224) + 1e-6)))
    roi = torch.cat([torch.zeros(1), box])[None]
    return roi_align(maps[levels(level)], roi, size, 0.5 ** int(levels(level)[1:]), 2)


@pytest.mark.parametrize("name", ["htc", "htca_d"])
def test_the_cascade_is_algorithm_1(name):
    """b_2, c_2 and m_2 of one image, RoI by RoI, as algorithm 1 says; then torchvision's suppression."""
    made = network(name).eval()
    heads = made.roi_heads
    for stage in heads.boxes:
        stage.predictor.cls_score.weight.data *= 30  # some scores above the threshold
    maps = {
        f"P{k}": torch.randn(1, 8, 128 >> k, 128 >> k, generator=torch.Generator().manual_seed(k)) for k in range(2, 7)
    }
    rng = torch.Generator().manual_seed(1)
    proposals = boxes_of(rng, 12, 60).clamp(max=120)
    size = (120, 124)
    with torch.inference_mode():
        found, losses = heads(maps, [proposals], [size])
        _, features = heads.semantic(maps)
        boxes, scores = [], []
        for box in proposals:
            for stage in heads.boxes:
                x = one_by_one(maps, lambda k: f"P{k}", box, 7)
                x = x + one_by_one({"P3": features}, lambda k: "P3", box, 7)
                x = F.relu(F.linear(x.flatten(1), stage.head.fc6.weight, stage.head.fc6.bias))
                x = F.relu(F.linear(x, stage.head.fc7.weight, stage.head.fc7.bias))
                logits, codes = stage.predictor.cls_score(x), stage.predictor.bbox_pred(x)[0]
                wx, wy, ww, wh = stage.coder.weights
                w, h = box[2] - box[0], box[3] - box[1]
                x0, y0 = box[0] + w / 2 + codes[0] / wx * w, box[1] + h / 2 + codes[1] / wy * h
                w, h = w * torch.exp(codes[2] / ww), h * torch.exp(codes[3] / wh)
                box = torch.stack([x0 - w / 2, y0 - h / 2, x0 + w / 2, y0 + h / 2])
                box = torch.minimum(box.clamp(min=0), torch.tensor([size[1], size[0]] * 2))
            boxes.append(box)
            scores.append(logits.softmax(dim=1)[0, 1:])
        boxes, scores = torch.stack(boxes), torch.stack(scores)
        rows, labels = torch.where(scores > 0.05)
        flat = scores[rows, labels]
        kept = batched_nms(boxes[rows], flat, labels, 0.5)
        assert len(kept) > 3
        torch.testing.assert_close(found[0]["boxes"], boxes[rows][kept], rtol=1e-4, atol=1e-3)
        assert torch.equal(found[0]["labels"], labels[kept])
        torch.testing.assert_close(found[0]["scores"], flat[kept], rtol=1e-4, atol=1e-5)
        for place, (box, label) in enumerate(zip(boxes[rows][kept], labels[kept], strict=True)):
            pyramid = one_by_one(maps, lambda k: f"P{k}", box, 14)
            semantic = one_by_one({"P3": features}, lambda k: "P3", box, 14)
            mask = heads.masks.masks(2, pyramid, semantic)[0, label].sigmoid()
            torch.testing.assert_close(found[0]["masks"][place, 0], mask, rtol=1e-3, atol=1e-3)
    assert losses == {}


def test_mask_stages_learn_on_the_boxes_of_their_own_stage(monkeypatch):
    """Interleaved: what mask stage t is given are RoIs that box stage t has refined, not those it was given."""
    made, (images, targets) = network("htc"), batch(0, 1)
    heads, seen = made.roi_heads, []
    monkeypatch.setattr(
        heads.box_pool, "forward", lambda *args: _noted(seen, "box", RoIPool.forward, heads.box_pool, args)
    )
    monkeypatch.setattr(
        heads.mask_pool, "forward", lambda *args: _noted(seen, "mask", RoIPool.forward, heads.mask_pool, args)
    )
    made(images, targets)
    assert [what for what, _ in seen] == ["box", "mask"] * 3
    for (_, before), (_, masks) in zip(seen[::2], seen[1::2], strict=True):
        whole = torch.cat(before)
        known = [bool((whole == box).all(dim=1).any()) for box in torch.cat(masks)]
        truths = sum(len(target["boxes"]) for target in targets)
        assert sum(known) <= truths  # the objects' own boxes alone


def _noted(seen, what, function, module, arguments):
    seen.append((what, [box.clone() for box in arguments[1]]))
    return function(module, *arguments)
