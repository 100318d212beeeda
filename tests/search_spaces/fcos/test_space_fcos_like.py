"""The points of the spaces that are nearest to the standard FPN and to the standard head, beside those."""

import pytest
import torch
import torch.nn.functional as F

from experiments import published
from search_spaces.fcos.fpn import SearchedFPN, StandardFPN
from search_spaces.fcos.head import SearchedHead, StandardHead
from search_spaces.parts.complexity import count

CHANNELS = {"C3": 6, "C4": 10, "C5": 14}
SIZES = {"C3": (12, 20), "C4": (6, 10), "C5": (3, 5)}


def maps():
    generator = torch.Generator().manual_seed(0)
    return {c: torch.randn(2, CHANNELS[c], *SIZES[c], generator=generator) for c in CHANNELS}


def like():
    torch.manual_seed(0)
    return SearchedFPN(published.load("fpn_like_fpn"), CHANNELS, 8, 8)


@pytest.mark.parametrize("make", [like, lambda: StandardFPN(CHANNELS, 8, 8)], ids=["like", "standard"])
def test_information_flows_top_down_in_both(make):
    fpn, features = make().eval(), {c: x.requires_grad_() for c, x in maps().items()}
    seen = {}
    for level in ("P3", "P4", "P5"):
        gradients = torch.autograd.grad(fpn(features)[level].sum(), features.values(), allow_unused=True)
        seen[level] = {c for c, g in zip(features, gradients, strict=True) if g is not None and bool(g.any())}
    assert seen == {"P3": {"C3", "C4", "C5"}, "P4": {"C4", "C5"}, "P5": {"C5"}}


def test_it_starts_as_laterals_top_down_sums_and_3x3_convolutions_with_shortcuts():
    fpn, features = like().eval(), maps()
    lateral = {c: fpn.adapters[c](x) for c, x in features.items()}

    def with_conv(x, block, scale):
        deform, norm, _ = fpn.blocks[block - 1].op2
        # offsets start at 0 and masks at 0.5: a plain convolution
        return x + F.relu(norm(F.conv2d(0.5 * scale * x, deform.weight, deform.bias, padding=1)))

    def up(x, level):
        return F.interpolate(x, SIZES[level], mode="bilinear", align_corners=False)

    merged4 = lateral["C4"] + up(lateral["C5"], "C4")
    merged3 = lateral["C3"] + up(merged4, "C3")
    pyramid = fpn(features)
    for level, expected in {
        "P5": with_conv(lateral["C5"], 5, 2),  # the input of the convolution is the sum of a map with itself
        "P4": with_conv(merged4, 6, 2),
        "P3": with_conv(merged3, 7, 1),
    }.items():
        torch.testing.assert_close(pyramid[level], expected, atol=1e-5, rtol=1e-4)


def test_the_standard_pyramid_is_a_point_of_the_linear_space():
    """Where its rough maps are flat, so that it does not matter how they are resized."""
    ours = SearchedFPN(published.load("fpn_linear_fpn"), CHANNELS, 8, 8).double()
    standard = StandardFPN(CHANNELS, 8, 8).double()
    ours.top.load_state_dict(standard.top.state_dict())
    identity = torch.zeros(8, 8, 3, 3, dtype=torch.float64)
    identity[:, :, 1, 1] = torch.eye(8)
    blocks = zip((7, 6, 5), (1, 2, 2), standard.fpn.inner_blocks, standard.fpn.layer_blocks, strict=True)
    with torch.no_grad():
        for (block, copies, (lateral,), (layer,)), adapter in zip(blocks, ours.adapters.values(), strict=True):
            adapter.load_state_dict(lateral.state_dict())
            conv = ours.blocks[block - 1].op2  # beside a shortcut, of so many copies of its map
            conv.weight.copy_((layer.weight - identity) / copies)
            conv.bias.copy_(layer.bias)
    features = {level: x.double() for level, x in maps().items()}
    for level in ("C4", "C5"):
        features[level] = features[level][..., :1, :1].expand_as(features[level])
    pyramid = ours(features)
    for level, expected in standard(features).items():
        torch.testing.assert_close(pyramid[level], expected)


def test_the_head_is_the_standard_one_without_the_bias_of_its_convolutions():
    width = 16
    heads = SearchedHead(published.load("fpn_like_head"), width, 3), StandardHead(width, 3)
    levels = [torch.zeros(1, width, 2 ** (5 - i), 2 ** (5 - i)) for i in range(5)]
    searched, standard = (count(head, levels) for head in heads)
    assert standard.params - searched.params == 2 * 4 * width
    assert standard.macs == searched.macs
