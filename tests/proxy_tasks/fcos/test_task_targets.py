"""Dense targets and the loss against torchvision's own matching and loss."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.image_list import ImageList

from proxy_tasks.fcos.loss import fcos_loss_sums
from proxy_tasks.fcos.targets import BACKGROUND, Locations, assign, level_sizes, pad_boxes
from proxy_tasks.images import padded
from search_spaces.fcos.head import StandardHead

CLASSES = 5


class Recorder(FCOSHead):
    """torchvision's head, which also keeps what the matching hands it."""

    def compute_loss(self, targets, head_outputs, anchors, matched_idxs):
        self.matched = matched_idxs
        return super().compute_loss(targets, head_outputs, anchors, matched_idxs)


def torchvision_loss(outputs, targets, crop):
    stem = nn.Identity()
    stem.out_channels = 32
    head = Recorder(32, 1, CLASSES)
    model = FCOS(stem, CLASSES, head=head)
    maps = [torch.empty(1, 1, side, side) for side in level_sizes(crop)]
    images = ImageList(torch.empty(len(targets), 3, padded(crop), padded(crop)), [(crop, crop)] * len(targets))
    anchors = model.anchor_generator(images, maps)
    losses = model.compute_loss(targets, outputs, anchors, [side * side for side in level_sizes(crop)])
    return losses, torch.stack(head.matched)


def random_targets(crop, counts, generator):
    targets = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * crop * 0.8
        size = 2 + torch.rand(count, 2, generator=generator) ** 2 * crop * 0.9
        boxes = torch.cat([corner, (corner + size).clamp(max=crop)], dim=1)
        labels = torch.randint(CLASSES, (count,), generator=generator)
        targets.append({"boxes": boxes, "labels": labels, "iscrowd": torch.zeros_like(labels)})
    return targets


def random_outputs(batch, crop, generator, requires_grad=False):
    locations = sum(side * side for side in level_sizes(crop))
    outputs = {
        "cls_logits": torch.randn(batch, locations, CLASSES, generator=generator),
        "bbox_regression": torch.randn(batch, locations, 4, generator=generator).exp(),
        "bbox_ctrness": torch.randn(batch, locations, 1, generator=generator),
    }
    return {name: value.requires_grad_(requires_grad) for name, value in outputs.items()}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    crop=st.sampled_from([128, 160, 384, 800]),
)
def test_loss_and_matching_equal_torchvision(seed, counts, crop):
    generator = torch.Generator().manual_seed(seed)
    targets = random_targets(crop, counts, generator)
    outputs = random_outputs(len(counts), crop, generator)
    expected, matched = torchvision_loss(outputs, targets, crop)
    locations = Locations.of(crop)
    dense = assign(*pad_boxes(targets), locations)
    labels = [
        t["labels"][m.clip(min=0)].where(m >= 0, torch.tensor(BACKGROUND))
        if len(t["labels"])
        else torch.full_like(m, -1)
        for t, m in zip(targets, matched, strict=True)
    ]
    assert torch.equal(dense.labels, torch.stack(labels))
    terms = fcos_loss_sums(outputs, dense, locations.sizes).terms()
    for ours, theirs in (
        ("classification", "classification"),
        ("regression", "bbox_regression"),
        ("centerness", "bbox_ctrness"),
    ):
        torch.testing.assert_close(terms[ours], expected[theirs], rtol=2e-5, atol=1e-6)


def test_gradients_equal_torchvision():
    generator = torch.Generator().manual_seed(0)
    targets = random_targets(192, [7, 0, 12], generator)
    outputs = random_outputs(3, 192, generator, requires_grad=True)
    losses, _ = torchvision_loss(outputs, targets, 192)
    expected = torch.autograd.grad(sum(losses.values()), list(outputs.values()))
    locations = Locations.of(192)
    total = fcos_loss_sums(outputs, assign(*pad_boxes(targets), locations), locations.sizes).total()
    for ours, theirs in zip(torch.autograd.grad(total, list(outputs.values())), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("crop", [64, 128, 160, 200, 384, 800])
def test_strides_are_exact_at_every_crop(crop):
    locations, whole = Locations.of(crop), -(-crop // 128) * 128
    levels = zip(
        (8, 16, 32, 64, 128),
        locations.centers.split(locations.levels),
        locations.sizes.split(locations.levels),
        strict=True,
    )
    for stride, centers, sizes in levels:
        line = torch.arange(0, whole, stride).float()  # torchvision's convention: from 0, not from half a stride
        assert torch.equal(centers, torch.cartesian_prod(line, line).flip(1))
        assert (sizes == stride).all()


@pytest.mark.parametrize("logit", [9.0, 90.0, 1e4])
def test_gradients_are_finite_whatever_the_background_says(logit):
    torch.manual_seed(0)
    head, locations = StandardHead(32, CLASSES), Locations.of(128)
    box = {"boxes": torch.tensor([[20.0, 20.0, 60.0, 70.0]]), "labels": torch.tensor([1])}
    targets = assign(*pad_boxes([box | {"iscrowd": torch.tensor([0])}]), locations)
    assert 0 < (targets.labels >= 0).sum() < 20
    pyramid = [torch.randn(1, 32, side, side) for side in level_sizes(128)]
    with torch.no_grad():
        head.bbox_reg.bias.fill_(logit)
    fcos_loss_sums(head(pyramid), targets, locations.sizes).total().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def test_sizes_of_interest_scale_with_the_input():
    """A box and its input shrunk alike are answered for by the same level."""
    for side in (50, 100, 200, 400, 700):
        levels = []
        for crop in (800, 400):
            scale = crop / 800
            box = torch.tensor([[[0.0, 0.0, side, side]]]) * scale + crop * 0.05
            locations = Locations.of(crop, scale)
            found = assign(box, torch.zeros(1, 1, dtype=torch.int64), locations).labels[0] >= 0
            levels.append([bool(part.any()) for part in found.split(locations.levels)])
        first, second = (level.index(True) for level in levels)
        assert first == second, (side, levels)


def test_images_without_boxes_are_all_background():
    dense = assign(
        *pad_boxes([{"boxes": torch.zeros(0, 4), **dict.fromkeys(("labels", "iscrowd"), torch.zeros(0).long())}]),
        Locations.of(128),
    )
    assert (dense.labels == BACKGROUND).all()
    assert not dense.distances.any()
    assert not dense.centerness.any()


def test_sums_do_not_depend_on_the_batch_size():
    generator = torch.Generator().manual_seed(3)
    targets = random_targets(128, [4, 0, 9, 1], generator)
    outputs = random_outputs(4, 128, generator)
    locations = Locations.of(128)
    whole = fcos_loss_sums(outputs, assign(*pad_boxes(targets), locations), locations.sizes)
    parts = [
        fcos_loss_sums(
            {name: value[i : i + 1] for name, value in outputs.items()},
            assign(*pad_boxes(targets[i : i + 1]), locations),
            locations.sizes,
        )
        for i in range(4)
    ]
    assert (parts[0] + parts[1] + parts[2] + parts[3]).total() == pytest.approx(float(whole.total()), rel=1e-5)
