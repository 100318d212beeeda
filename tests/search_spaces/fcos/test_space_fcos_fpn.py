import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from experiments import published
from search_spaces import InputError, get
from search_spaces.fcos.choices import FCOS_FPN, FCOS_FPN_C2
from search_spaces.fcos.fpn import SearchedFPN, StandardFPN
from search_spaces.parts.complexity import count

SPACES = (FCOS_FPN, FCOS_FPN_C2)
NAMES = ("C2", "C3", "C4", "C5")


def draws(space, n, seed=0):
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(n)]


def respelled(named, order, swaps):
    """Blocks 1 … 4 renumbered (block `order[k]` becomes block k + 1), the pairs of the blocks in `swaps` exchanged."""
    new = {f"b{old}": f"b{k}" for k, old in enumerate((*order, 5, 6, 7), start=1)}
    out = {}
    for old in range(1, 8):
        i = int(new[f"b{old}"][1:])
        x1, x2, op1, op2, agg = (named[f"fpn.{old}.{part}"] for part in ("x1", "x2", "op1", "op2", "agg"))
        if old in swaps:
            x1, x2, op1, op2 = x2, x1, op2, op1
        parts = {"x1": new.get(x1, x1), "x2": new.get(x2, x2), "op1": op1, "op2": op2, "agg": agg}
        out |= {f"fpn.{i}.{part}": value for part, value in parts.items()}
    return out


def valid_orders(named):
    for order in itertools.permutations((1, 2, 3, 4)):
        takes = [(named[f"fpn.{i}.{x}"], i) for i in (1, 2, 3, 4) for x in ("x1", "x2")]
        if all(order.index(int(a[1:])) < order.index(i) for a, i in takes if a.startswith("b")):
            yield order


def all_spellings(named):
    sums = [i for i in range(1, 8) if named[f"fpn.{i}.agg"] == "sum"]
    for order in valid_orders(named):
        for n in range(len(sums) + 1):
            for swaps in itertools.combinations(sums, n):
                yield respelled(named, order, swaps)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_choices_and_cardinality(space):
    levels = len(space.choices[0].options)
    assert len(space) == 35
    assert [c.name for c in space.choices[:5]] == ["fpn.1.x1", "fpn.1.x2", "fpn.1.op1", "fpn.1.op2", "fpn.1.agg"]
    assert space.choices[30].options == (*NAMES[4 - levels :], "b1", "b2", "b3", "b4", "b5", "b6")
    assert space.cardinality == np.prod([(levels + i) ** 2 * 5 * 5 * 2 for i in range(7)], dtype=object)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("seed", range(15))
def test_every_spelling_has_one_key(space, seed):
    (architecture,) = draws(space, 1, seed)
    spellings = list(all_spellings(architecture.named))
    tokens = {space.from_named(named).tokens for named in spellings}
    assert {space.architecture(t).canonical.tokens for t in tokens} == {min(tokens)}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_two_neighbours_share_a_key_only_if_they_are_spellings_of_one_network(data):
    one = FCOS_FPN.sample(np.random.default_rng(data.draw(st.integers(0, 10**6))))
    i = data.draw(st.integers(0, 34))
    tokens = list(one.tokens)
    tokens[i] = data.draw(st.integers(0, len(FCOS_FPN.choices[i].options) - 1))
    other = FCOS_FPN.architecture(tokens)
    same = any(other.named == spelling for spelling in all_spellings(one.named))
    assert (one.key == other.key) == same


def test_the_arguments_of_a_concatenation_do_not_commute():
    named = draws(FCOS_FPN, 1)[0].named | {"fpn.7.x1": "C3", "fpn.7.x2": "C4"}
    for agg, same in (("sum", True), ("concat", False)):
        one = named | {"fpn.7.agg": agg}
        assert (FCOS_FPN.from_named(one).key == FCOS_FPN.from_named(respelled(one, (1, 2, 3, 4), (7,))).key) == same


@pytest.mark.parametrize("seed", range(8))
def test_spellings_compute_the_same_with_transported_weights(seed, features, sizes, shake):
    rng = np.random.default_rng(seed)
    architecture = FCOS_FPN_C2.sample(rng)
    named = architecture.named
    order = list(valid_orders(named))[-1]
    swaps = [i for i in range(1, 8) if named[f"fpn.{i}.agg"] == "sum"]
    other = FCOS_FPN_C2.from_named(respelled(named, order, swaps))
    channels = sizes["in_channels"]
    one, two = (SearchedFPN(a, channels, 4, 8).double().eval() for a in (architecture, other))
    shake(one)
    two.adapters, two.top = one.adapters, one.top
    for k, old in enumerate((*order, 5, 6, 7)):
        block = copy.deepcopy(one.blocks[old - 1])
        if old in swaps:
            block.op1, block.op2 = block.op2, block.op1
            block.agg.a, block.agg.b = block.agg.b, block.agg.a
        two.blocks[k].load_state_dict(block.state_dict())
    features = {level: x.double() for level, x in features.items()}
    for a, b in zip(one(features).values(), two(features).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def bilinear(x, like):
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def obvious(fpn, named, features):
    """The wiring by recursion on names, with the layers of `fpn`."""

    def value(name):
        if name.startswith("C"):
            return fpn.adapters[name](features[name])
        i = int(name[1:])
        block = fpn.blocks[i - 1]
        x = block.op1(value(named[f"fpn.{i}.x1"]))
        y = block.op2(value(named[f"fpn.{i}.x2"]))
        if x.shape[-1] < y.shape[-1]:
            x = bilinear(x, y)
        if y.shape[-1] < x.shape[-1]:
            y = bilinear(y, x)
        return block.agg(x, y)

    inputs = [option for choice, option in named.items() if choice.endswith(("x1", "x2"))]
    p3, p4, p5 = (bilinear(value(b), features[c]) for b, c in (("b7", "C3"), ("b6", "C4"), ("b5", "C5")))
    for dangling in ("b1", "b2", "b3", "b4"):
        if dangling not in inputs:
            extra = value(dangling)
            p3, p4, p5 = p3 + bilinear(extra, p3), p4 + bilinear(extra, p4), p5 + bilinear(extra, p5)
    p3, p4, p5 = (p.repeat(1, 2, 1, 1) for p in (p3, p4, p5))
    p6 = F.conv2d(p5, fpn.top.p6_p7.p6.weight, fpn.top.p6_p7.p6.bias, stride=2, padding=1)
    p7 = F.conv2d(p6.relu(), fpn.top.p6_p7.p7.weight, fpn.top.p6_p7.p7.bias, stride=2, padding=1)
    return {"P3": p3, "P4": p4, "P5": p5, "P6": p6, "P7": p7}


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("seed", range(8))
def test_wiring_equals_the_recursive_definition(space, seed, features, sizes, shake):
    (architecture,) = draws(space, 1, seed)
    fpn = shake(SearchedFPN(architecture, sizes["in_channels"], 4, 8)).double().eval()
    features = {level: x.double() for level, x in features.items()}
    expected, found = obvious(fpn, architecture.named, features), fpn(features)
    assert list(found) == list(expected)
    for level, x in found.items():
        torch.testing.assert_close(x, expected[level], rtol=1e-9, atol=1e-9, msg=lambda m, level=level: f"{level}: {m}")


def test_published_wiring_and_counts():
    named = published.load("nas_fcos_fpn").named
    fpn = SearchedFPN(published.load("nas_fcos_fpn"), dict(zip(NAMES, (256, 512, 1024, 2048), strict=True)), 8, 16)
    assert fpn.dangling == ["b3"]
    assert "C2" not in fpn.used
    assert "C2" in fpn.adapters
    operations = [option for name, option in named.items() if ".op" in name]
    assert (operations.count("dconv3x3"), operations.count("skip")) == (12, 2)
    assert [named[f"fpn.{i}.agg"] for i in range(1, 8)] == ["concat"] * 7
    assert (named["fpn.6.x1"], named["fpn.6.x2"], named["fpn.7.x1"], named["fpn.7.x2"]) == ("b1", "b4", "b4", "C4")


def test_an_unused_adapter_runs_only_while_counting(features, sizes):
    fpn = SearchedFPN(published.load("nas_fcos_fpn"), sizes["in_channels"], 4, 8)
    without = {level: x for level, x in features.items() if level != "C2"}
    fpn(without)
    with pytest.raises(KeyError, match="C2"):
        count(fpn, without)
    ((adapter, x),) = fpn.unused_adapters(features)
    assert adapter is fpn.adapters["C2"]
    assert x is features["C2"]


def test_standard_fpn_widens_by_repetition_and_tops_up_from_p5(features, sizes):
    fpn = StandardFPN(sizes["in_channels"], 4, 8)
    maps = fpn(features)
    plain = fpn.fpn({level: features[level] for level in ("C3", "C4", "C5")})
    for level, source in zip(("P3", "P4", "P5"), ("C3", "C4", "C5"), strict=True):
        torch.testing.assert_close(maps[level], torch.cat((plain[source], plain[source]), dim=1))
    top = fpn.top.p6_p7
    torch.testing.assert_close(maps["P6"], nn.functional.conv2d(maps["P5"], top.p6.weight, top.p6.bias, 2, 1))
    torch.testing.assert_close(maps["P7"], nn.functional.conv2d(maps["P6"].relu(), top.p7.weight, top.p7.bias, 2, 1))


@pytest.mark.parametrize("name", ["fcos_fpn", "fcos_fpn_c2", "fcos_head", "fcos_decoder", "fpn_fcos"])
def test_widths_and_channels_that_cannot_be(name, sizes):
    architecture = get(name).sample(np.random.default_rng(0))
    with pytest.raises(InputError, match="the head's width must be a multiple of the FPN's width 4, got 6"):
        architecture.build(**sizes | {"head_width": 6})
    with pytest.raises(InputError, match="in_channels must give the channels of C4, got C2, C3, C5"):
        architecture.build(**sizes | {"in_channels": {"C2": 4, "C3": 4, "C5": 4}})
