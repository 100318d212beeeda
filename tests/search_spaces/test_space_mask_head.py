"""Mask heads: the published ones against the algorithms written down, and the spellings of one network."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from masks_reference import algorithm, sam
from torch import nn

import search_spaces
from experiments import published
from search_spaces import InputError
from search_spaces.masks.attention import ChannelAttention, SpatialAttention, make_attention
from search_spaces.masks.choices import MASK_HEAD, MASK_HEAD_SINGLE, PLACES, places_of
from search_spaces.masks.head import make_mask_operation
from search_spaces.options import MASK_OPERATIONS

HEADS = {"htc": 1, "htca_if": 2, "htca_c": 3, "htca_d": 4}
NAMED = (*HEADS, "mask_rcnn", "centermask")
EXPECTED = {  # the tensors that attention is given in stage t, by the algorithms
    "htc": [set(), set(), set()],
    "htca_if": [set(), {"m-0"}, {"m-0", "m-1"}],
    "htca_c": [{"m-0"}, {"m-0", "m-1"}, {"m-0", "m-1", "m-2"}],
    "htca_d": [{"m-0"}, {"m-1"}, {"m-2"}],
}


def branch_of(name, shake, channels=4):
    torch.manual_seed(0)
    architecture = published.load(name)
    return shake(architecture.build(in_channels=channels, num_classes=3, width=channels)).eval()


def rois(seed, channels=4):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, 6, 5, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("stage", range(3))
@pytest.mark.parametrize("name", HEADS)
def test_the_published_heads_are_the_algorithms(name, stage, shake):
    """The same masks, and attention touches the same tensors and no other."""
    branch, (pyramid, semantic) = branch_of(name, shake), rois(stage)
    touched = []
    for module in branch.modules():
        if isinstance(module, SpatialAttention):
            module.register_forward_hook(lambda module, args, out: touched.append(args[0]))
    with torch.no_grad():
        found = branch.masks(stage, pyramid, semantic)
        expected, attended = algorithm(HEADS[name], branch, stage, pyramid, semantic)
    torch.testing.assert_close(found, expected)
    assert set(attended) == EXPECTED[name][stage]
    assert len(touched) == len(attended)
    for one, other in zip(touched, attended.values(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", HEADS)
def test_what_reaches_the_deconvolution_and_what_flows_on(name, shake):
    """Which of the two ways out of a stage is attended: the flow's, both, or the deconvolution's."""
    branch, (pyramid, semantic) = branch_of(name, shake), rois(5)
    seen = {}
    for number, stage in enumerate(branch.stages):
        for what, module in (("deconv", stage.deconv), ("flow", stage.flow), ("convs", stage.convs)):
            if module is not None:
                module.register_forward_hook(
                    lambda module, args, out, key=(number, what): seen.__setitem__(key, (args[0], out))
                )
    with torch.no_grad():
        branch({"pyramid": pyramid, "semantic": semantic})
    for number in range(2):
        after_convs, deconvolved, flowed = (
            seen[number, "convs"][1], seen[number, "deconv"][0], seen[number + 1, "flow"][0]
        )  # fmt: skip
        assert torch.equal(deconvolved, after_convs) == (name in ("htc", "htca_if"))
        assert torch.equal(flowed, after_convs) == (name in ("htc", "htca_d"))
        assert torch.equal(flowed, deconvolved) == (name in ("htc", "htca_c"))


def test_centermask_attends_before_the_deconvolution_of_its_one_stage(shake):
    branch, (x, _) = branch_of("centermask", shake), rois(1)
    plain = branch_of("mask_rcnn", shake)
    plain.load_state_dict({k: v for k, v in branch.state_dict().items() if "attention" not in k})
    with torch.no_grad():
        shared = plain.shared(0, x)
        expected = plain.stages[0].masks(sam(shared, branch.stages[0].attention["deconv"]))
        torch.testing.assert_close(branch.masks(0, x), expected)
    assert (branch.levels, plain.levels) == ("area", "fpn")


@pytest.mark.parametrize("name", NAMED)
def test_named_points_round_trip(name):
    architecture = published.load(name)
    space = search_spaces.get(architecture.space.name)
    assert space.from_named(architecture.named) == architecture
    assert space.architecture(architecture.tokens).key == architecture.key
    assert architecture.canonical.key == architecture.key


def test_the_named_heads_are_different_networks():
    assert len({published.load(name).key for name in NAMED}) == len(NAMED)


def spelled(space=MASK_HEAD, **changes):
    """The space's first options, with some changed: ``spelled(mask_2_flow="no")``."""
    named = {choice.name: choice.options[0] for choice in space.choices}
    changes = {name.replace("_", "."): option for name, option in changes.items()}
    assert changes.keys() <= named.keys()
    return space.from_named(named | changes)


SAME = [
    (spelled(mask_1_op2="skip"), spelled(mask_1_op4="skip")),
    (spelled(mask_1_attention="both"), spelled()),
    (spelled(mask_3_place="convs"), spelled(mask_3_place="deconv")),
    (spelled(mask_2_flow="no", mask_2_place="flow", mask_2_attention="channel"), spelled(mask_2_flow="no")),
    (spelled(mask_2_flow="no", mask_1_place="convs"), spelled(mask_2_flow="no", mask_1_place="deconv")),
    (spelled(MASK_HEAD_SINGLE, mask_1_place="convs"), spelled(MASK_HEAD_SINGLE, mask_1_place="deconv")),
    (spelled(mask_3_flow="no", mask_2_place="flow+convs"), spelled(mask_3_flow="no", mask_2_place="flow+deconv")),
]


@pytest.mark.parametrize("pair", SAME, ids=range(len(SAME)))
def test_equal_networks_share_a_key(pair, shake):
    """And are equal: with the same numbers in their parameters they give the same masks."""
    one, other = pair
    assert one != other
    assert one.key == other.key
    branches = []
    for architecture in pair:
        torch.manual_seed(0)
        branches.append(shake(architecture.build(in_channels=6, num_classes=3, width=4)))
    maps = dict(zip(("pyramid", "semantic"), rois(2, 6), strict=True))
    found, expected = (branch(maps) for branch in branches)
    assert list(found) == list(expected)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])


DIFFERENT = [
    spelled(),
    spelled(mask_1_place="convs"),
    spelled(mask_1_place="deconv"),
    spelled(mask_3_place="convs+deconv"),
    spelled(mask_3_place="deconv"),
    spelled(mask_2_place="flow"),
    spelled(mask_2_place="flow", mask_2_attention="channel"),
    spelled(mask_2_flow="no"),
    spelled(mask_2_semantic="no"),
    spelled(mask_levels="area"),
    spelled(mask_1_op1="conv1x1", mask_1_op2="sep3x3"),
    spelled(mask_1_op1="sep3x3", mask_1_op2="conv1x1"),
]


def test_different_networks_have_different_keys():
    assert len({architecture.key for architecture in DIFFERENT}) == len(DIFFERENT)


def test_a_stage_that_does_not_fuse_or_does_not_take_the_flow_is_deaf_to_it(shake):
    architecture = spelled(mask_2_flow="no", mask_2_semantic="no")
    torch.manual_seed(0)
    branch = shake(architecture.build(in_channels=4, num_classes=3, width=4)).eval()
    pyramid, semantic = rois(3)
    before = branch({"pyramid": pyramid, "semantic": semantic})
    after = branch({"pyramid": pyramid, "semantic": semantic + 1})
    assert torch.equal(before["mask2"], after["mask2"])
    assert not torch.equal(before["mask1"], after["mask1"])
    assert not torch.equal(before["mask3"], after["mask3"])
    with torch.no_grad():
        branch.stages[0].convs[0][0].bias += 1
    assert torch.equal(branch.masks(1, pyramid, semantic), before["mask2"])
    with torch.no_grad():
        branch.stages[1].convs[0][0].bias += 1
    assert not torch.equal(branch.masks(2, pyramid, semantic), before["mask3"])


def test_all_stages_at_once_are_each_stage_by_itself(shake):
    rng = np.random.default_rng(3)
    for _ in range(4):
        torch.manual_seed(0)
        branch = shake(MASK_HEAD.sample(rng).build(in_channels=4, num_classes=3, width=4)).eval()
        pyramid, semantic = rois(4)
        whole = branch({"pyramid": pyramid, "semantic": semantic})
        for stage in range(3):
            torch.testing.assert_close(branch.masks(stage, pyramid, semantic), whole[f"mask{stage + 1}"])


def test_channel_attention_is_cbams():
    torch.manual_seed(0)
    module, x = ChannelAttention(32), torch.randn(2, 32, 3, 4)
    first, _, second = module.layers
    assert first.out_features == 2
    for i in range(2):
        for c in range(32):
            total = 0.0
            for pooled in (x[i].mean(dim=(1, 2)), x[i].amax(dim=(1, 2))):
                hidden = torch.relu(first.weight @ pooled + first.bias)
                total = total + second.weight[c] @ hidden + second.bias[c]
            torch.testing.assert_close(module(x)[i, c], torch.sigmoid(total) * x[i, c])


def test_both_is_channel_before_spatial():
    torch.manual_seed(0)
    both, x = make_attention("both", 8), torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(both(x), sam(both[0](x), both[1]))
    with pytest.raises(InputError, match="there is no attention 'none'; known: spatial, channel, both"):
        make_attention("none", 8)


def test_operations_have_no_norm_and_keep_the_size():
    for name in MASK_OPERATIONS:
        if name == "skip":
            continue
        operation = make_mask_operation(name, 6, 8)
        assert not any(isinstance(module, nn.BatchNorm2d | nn.GroupNorm) for module in operation.modules())
        out = operation(torch.randn(2, 6, 14, 14))
        assert out.shape == (2, 8, 14, 14)
        assert (out >= 0).all()
        assert operation(torch.randn(0, 6, 14, 14)).shape == (0, 8, 14, 14)
    with pytest.raises(InputError, match="there is no operation 'gap' in mask heads; known: conv3x3"):
        make_mask_operation("gap", 8, 8)


def test_skips_alone_bring_the_width_to_that_of_the_stage():
    named = {f"mask_1_op{i}": "skip" for i in range(1, 5)}
    wide = spelled(MASK_HEAD_SINGLE, **named).build(in_channels=6, num_classes=3, width=4)
    same = spelled(MASK_HEAD_SINGLE, **named).build(in_channels=4, num_classes=3, width=4)
    assert [type(layer) for layer in wide.stages[0].convs] == [nn.Conv2d]
    assert len(same.stages[0].convs) == 0
    assert wide.masks(0, torch.randn(1, 6, 14, 14)).shape == (1, 3, 28, 28)


def test_the_published_convolutions_are_mask_rcnns(shake):
    branch, (x, _) = branch_of("mask_rcnn", shake), rois(6)
    y = x
    for layer in branch.stages[0].convs:
        y = F.relu(F.conv2d(y, layer[0].weight, layer[0].bias, padding=1))
    torch.testing.assert_close(branch.shared(0, x), y)


def test_places():
    assert {frozenset(places_of(option)) for option in PLACES} == {
        frozenset(part for part, taken in zip(("flow", "convs", "deconv"), bits, strict=True) if taken)
        for bits in np.ndindex(2, 2, 2)
    }
