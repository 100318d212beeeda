import itertools
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.models.detection import FCOS, fcos
from torchvision.models.detection.anchor_utils import AnchorGenerator

from experiments import published
from search_spaces.fcos.choices import FCOS_HEAD
from search_spaces.fcos.head import SearchedHead, StandardHead

OPERATIONS = FCOS_HEAD.choices[0].options


def head_of(*operations, share):
    return FCOS_HEAD.from_named(
        {f"head.{i}.op": operation for i, operation in enumerate(operations, start=1)} | {"head.share": str(share)}
    )


def pyramid(width=8, n=2):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(n, width, *size, generator=rng) for size in ((12, 20), (6, 10), (3, 5), (2, 3), (1, 2))]


def layers_of(architecture):
    """The network itself: operation and sharing of every layer that does something."""
    named = architecture.named
    operations = [named[f"head.{i}.op"] for i in range(1, 7)]
    return [(op, i >= int(named["head.share"])) for i, op in enumerate(operations) if op != "skip"]


def test_options_and_cardinality():
    assert FCOS_HEAD.cardinality == 7**6 * 7
    assert FCOS_HEAD.choices[6].options == tuple("0123456")


def test_number_of_networks():
    skip = OPERATIONS.index("skip")
    other = next(i for i in range(7) if i != skip)
    canonical = {
        FCOS_HEAD.canonical((*layers, share))
        for layers in itertools.product((skip, other), repeat=6)
        for share in range(7)
    }
    assert len(canonical) == sum(layers + 1 for layers in range(7))


tokens = st.tuples(*[st.integers(0, len(c.options) - 1) for c in FCOS_HEAD.choices]).map(FCOS_HEAD.architecture)


@settings(deadline=None)
@given(tokens, tokens)
def test_a_key_stands_for_a_network(one, other):
    assert layers_of(one.canonical) == layers_of(one)
    assert (one.key == other.key) == (layers_of(one) == layers_of(other))


@settings(deadline=None)
@given(st.permutations(["conv1x1", "dconv3x3", "conv3x3", "skip", "skip", "skip"]), st.integers(0, 6))
def test_skips_may_stand_anywhere(operations, share):
    one = head_of(*operations, share=share)
    shared = [op for op in operations[share:] if op != "skip"]
    own = [op for op in operations[:share] if op != "skip"]
    assert one.key == head_of(*own, *shared, "skip", "skip", "skip", share=len(own)).key


def test_moved_skips_compute_the_same_with_transported_weights(shake):
    one = shake(SearchedHead(head_of("skip", "conv1x1", "skip", "conv3x3", "skip", "dconv3x3", share=3), 8, 3))
    two = SearchedHead(head_of("conv1x1", "conv3x3", "dconv3x3", "skip", "skip", "skip", share=1), 8, 3)
    moved = {"1": "0", "3": "1", "5": "2"}
    state = {}
    for name, tensor in one.state_dict().items():
        tower, _, rest = name.partition(".layers.")
        layer, _, parameter = rest.partition(".")
        state[f"{tower}.layers.{moved[layer]}.{parameter}" if rest else name] = tensor
    two.load_state_dict(state)
    for name, expected in one(pyramid()).items():
        torch.testing.assert_close(two(pyramid())[name], expected)


@pytest.mark.parametrize("share", range(7))
def test_layers_before_the_index_have_weights_per_level(share):
    operations = ("conv1x1", "conv3x3", "sep3x3", "skip", "conv1x1", "dconv3x3")
    head = SearchedHead(head_of(*operations, share=share), 8, 3)
    for tower in (head.cls_tower, head.box_tower):
        assert [isinstance(layer, nn.ModuleList) for layer in tower.layers] == [i < share for i in range(6)]
        assert all(len(layer) == 5 for layer in tower.layers[:share])
    weights = {p.data_ptr() for p in head.cls_tower.parameters()} & {p.data_ptr() for p in head.box_tower.parameters()}
    assert not weights
    alone, with_others = head([x if i == 2 else x * 0 for i, x in enumerate(pyramid())]), head(pyramid())
    start, end = 12 * 20 + 6 * 10, 12 * 20 + 6 * 10 + 3 * 5
    for name, x in alone.items():
        torch.testing.assert_close(x[:, start:end], with_others[name][:, start:end], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "params"), [("nas_fcos_head", 4368946), ("fpn_fcos", 4920666)])
def test_published_number_of_parameters(name, params):
    with torch.device("meta"):
        head = published.load(name).build(in_channels={"C3": 8, "C4": 8, "C5": 8}, num_classes=80).head
    assert sum(p.numel() for p in head.parameters()) == params


def test_outputs_location_by_location(shake):
    head, maps = StandardHead(8, 3), pyramid()
    shake(head)
    outputs = head(maps)
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {
        "cls_logits": (2, 323, 3),
        "bbox_regression": (2, 323, 4),
        "bbox_ctrness": (2, 323, 1),
    }
    level, row, column = 1, 4, 7
    index = 12 * 20 + row * 10 + column
    cls, box = head.cls_tower(maps[level], level), head.box_tower(maps[level], level)
    expected = {
        "cls_logits": head.cls_logits(cls),
        "bbox_regression": (head.scales[level] * head.bbox_reg(box)).exp(),
        "bbox_ctrness": head.bbox_ctrness(cls),
    }
    for name, x in expected.items():
        torch.testing.assert_close(outputs[name][:, index], x[:, :, row, column])


def test_initial_predictions_follow_the_prior():
    head = StandardHead(64, 20)
    outputs = head(pyramid(64))
    assert outputs["cls_logits"].sigmoid().mean().item() == pytest.approx(0.01, rel=0.2)
    assert outputs["bbox_regression"].mean().item() == pytest.approx(1, rel=0.2)
    for conv in (head.cls_logits, head.bbox_reg, head.bbox_ctrness):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.2)


def test_standard_towers_equal_torchvision_s():
    ours, theirs = StandardHead(64, 5), fcos.FCOSClassificationHead(64, 1, 5)
    pairs = zip(ours.cls_tower.parameters(), theirs.conv.parameters(), strict=True)
    for mine, its in pairs:
        assert mine.shape == its.shape
        its.data.copy_(mine)
    theirs.cls_logits.load_state_dict(ours.cls_logits.state_dict())
    torch.testing.assert_close(ours(pyramid(64))["cls_logits"], theirs(pyramid(64)))


class Pyramid(nn.Module):
    out_channels = 8

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        x = self.stem(x)
        return OrderedDict((f"P{i}", nn.functional.avg_pool2d(x, 2**i, ceil_mode=True)) for i in range(3, 8))


def test_works_inside_torchvision_s_detector():
    torch.manual_seed(0)
    head = SearchedHead(head_of("conv1x1", "dconv3x3", "skip", "conv3x3", "sep3x3", "skip", share=2), 8, 3)
    anchors = AnchorGenerator(sizes=((8,), (16,), (32,), (64,), (128,)), aspect_ratios=((1.0,),) * 5)
    detector = FCOS(Pyramid(), num_classes=3, anchor_generator=anchors, head=head, min_size=128, max_size=128)
    images = [torch.rand(3, 128, 96), torch.rand(3, 100, 128)]
    boxes = torch.tensor([[10.0, 12.0, 60.0, 70.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([2])}, {"boxes": boxes[:0], "labels": torch.tensor([]).long()}]
    losses = detector(images, targets)
    assert set(losses) == {"classification", "bbox_regression", "bbox_ctrness"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())
    detector.score_thresh = 0.0
    for detections in detector.eval()(images):
        assert set(detections) == {"boxes", "scores", "labels"}
        assert len(detections["boxes"]) > 0
        assert detections["labels"].max() <= 2
