"""Parameters and MACs of the published networks, against the thesis and an independent reproduction of it."""

import functools

import pytest
import torch

from experiments import published
from proxy_tasks.masks.costs import complexity
from proxy_tasks.masks.network import build_mask_network

# of R. Manzanedo's thesis, tables 7 and 8: millions of parameters with 80 classes
PUBLISHED = {
    ("htc", "resnet50"): 80.0,
    ("htc", "efficientdet_d3"): 66.6,
    ("mask_rcnn", "resnet50"): 44.3,
    ("mask_rcnn", "efficientdet_d3"): 14.4,
    ("centermask", "efficientdet_d3"): 14.4,
}
# counted independently, with the same RoIs: giga-MACs and image, height and width
MACS = {
    ("htc", "resnet50"): (440.28, (800, 1280)),
    ("mask_rcnn", "resnet50"): (259.32, (800, 1280)),
    ("htc", "efficientdet_d3"): (306.75, (896, 896)),
    ("mask_rcnn", "efficientdet_d3"): (72.98, (896, 896)),
}


@functools.cache
def built(name, backbone):
    with torch.device("meta"):
        frozen = backbone == "resnet50"
        return build_mask_network(published.load(name), backbone, "none", frozen, semantic_classes=183)


def millions(network, trained=False):
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trained) / 1e6


@pytest.mark.parametrize("row", PUBLISHED, ids="-".join)
def test_published_parameters(row):
    # those of cascades on a ResNet were counted without the frozen stem and first stage
    trained = row == ("htc", "resnet50")
    assert millions(built(*row), trained) == pytest.approx(PUBLISHED[row], abs=0.1)


@pytest.mark.parametrize("backbone", ["resnet50", "efficientdet_d3"])
def test_attention_costs_next_to_nothing(backbone):
    plain = millions(built("htc", backbone))
    counts = {name: millions(built(name, backbone)) - plain for name in ("htca_if", "htca_c", "htca_d")}
    # a convolution of 2 x 3 x 3 numbers in two stages, in three, in three
    assert counts == pytest.approx({"htca_if": 36e-6, "htca_c": 54e-6, "htca_d": 54e-6}, abs=1e-9)


@pytest.mark.parametrize("row", MACS, ids="-".join)
def test_macs_with_the_rois_of_the_reproduction(row):
    macs, size = MACS[row]
    counted = complexity(built(*row), size)
    # our region proposal network has two anchor sides on P2 to P5, theirs one on P2 to P6
    assert counted.macs / 1e9 == pytest.approx(macs, rel=0.001)


def test_macs_grow_with_the_rois():
    network = built("htc", "resnet50")
    none, some = (complexity(network, (128, 128), boxes=n, masks=n).macs for n in (0, 10))
    stages = 3 * (12544 * 1024 + 1024 * 1024 + 1024 * 81 + 1024 * 4)  # two layers, classes, boxes
    convs = 3 * (4 * 196 * 9 * 256 * 256 + 196 * 4 * 256 * 256 + 784 * 256 * 80) + 2 * 196 * 256 * 256
    assert some - none == 10 * (stages + convs)
