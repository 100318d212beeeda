import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import InputError
from search_spaces.options import COMMUTATIVE
from search_spaces.parts.complexity import count
from search_spaces.video.choices import INPUTS, VIDEO_CELL, VIDEO_CELL_4

SPACES = (VIDEO_CELL, VIDEO_CELL_4)
MOBILENET_V2 = {"C3": 32, "C4": 96, "C5": 320}
NARROW = {"C3": 5, "C4": 6, "C5": 7}
ODD = {"C3": (23, 30), "C4": (12, 15), "C5": (6, 8)}
every_cell = pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)


def layers_of(space):
    return len(space) // 5


def cell_of(space, *rows):
    """The architecture whose layers are (x1, x2, op1, op2, agg), the last row repeated."""
    rows = [*rows, *[rows[-1]] * (layers_of(space) - len(rows))]
    return space.from_named(dict(zip((c.name for c in space.choices), itertools.chain(*rows), strict=True)))


def frames(channels, width, n=2, dtype=torch.float32, sizes=ODD):
    """The current frame's maps and those of the frame before."""
    rng = torch.Generator().manual_seed(0)
    current = {k: torch.randn(n, channels[k], *size, generator=rng, dtype=dtype) for k, size in sizes.items()}
    dec = torch.randn(n, width, *sizes["C3"], generator=rng, dtype=dtype)
    return current, {"C5": torch.randn(current["C5"].shape, generator=rng, dtype=dtype), "dec": dec}


def tokens_of(space):
    return st.tuples(*[st.integers(0, len(c.options) - 1) for c in space.choices])


def renumbered(named, order, swaps):
    """Layer `order[k]` becomes layer k + 1; the pairs of the layers in `swaps` are exchanged."""
    new = {f"c{old}": f"c{k}" for k, old in enumerate(order, start=1)}
    out = {}
    for k, old in enumerate(order, start=1):
        x1, x2, op1, op2, agg = (named[f"cell.{old}.{part}"] for part in ("x1", "x2", "op1", "op2", "agg"))
        if old in swaps:
            x1, x2, op1, op2 = x2, x1, op2, op1
        parts = {"x1": new.get(x1, x1), "x2": new.get(x2, x2), "op1": op1, "op2": op2, "agg": agg}
        out |= {f"cell.{k}.{part}": value for part, value in parts.items()}
    return out


def valid_orders(named):
    numbers = range(1, len(named) // 5 + 1)
    takes = [(named[f"cell.{i}.{x}"], i) for i in numbers for x in ("x1", "x2")]
    needs = [(int(name[1:]), i) for name, i in takes if name.startswith("c")]
    return [o for o in itertools.permutations(numbers) if all(o.index(a) < o.index(b) for a, b in needs)]


def commuting(named):
    return [i for i in range(1, len(named) // 5 + 1) if named[f"cell.{i}.agg"] in COMMUTATIVE]


def all_spellings(named):
    layers = commuting(named)
    swaps = [s for n in range(len(layers) + 1) for s in itertools.combinations(layers, n)]
    return [renumbered(named, order, s) for order in valid_orders(named) for s in swaps]


@every_cell
def test_choices_and_cardinality(space):
    layers = layers_of(space)
    assert layers == {"video_cell": 5, "video_cell_4": 4}[space.name]
    assert [c.name for c in space.choices[:5]] == ["cell.1.x1", "cell.1.x2", "cell.1.op1", "cell.1.op2", "cell.1.agg"]
    assert [c.kind for c in space.choices[:5]] == ["input", "input", "op", "op", "agg"]
    assert space.choices[15].options == (*INPUTS, "c1", "c2", "c3")
    assert INPUTS == ("prev_C5", "prev_dec", "C3", "C4", "C5")
    assert space.cardinality == np.prod([(5 + i) ** 2 * 6**3 for i in range(layers)], dtype=object)
    assert space.proxy_task == "video"


@every_cell
def test_the_smallest_and_the_largest_cell_have_the_published_counts(space):
    layers = layers_of(space)
    classifier = {5: 64 * 9 * 11 + 11, 4: 64 * 9 * 19 + 19}[layers]  # the published figures include it
    chain = [("C3", "C3"), *[(f"c{i}", f"c{i}") for i in range(1, layers)]]
    smallest = cell_of(space, *[(*pair, "skip", "skip", "attention") for pair in chain])
    largest = cell_of(space, ("C3", "prev_dec", "dconv3x3", "dconv3x3", "predictive"))
    sizes = [sum(p.numel() for p in a.build(in_channels=MOBILENET_V2).parameters()) for a in (smallest, largest)]
    assert [n + classifier for n in sizes] == {5: [64459, 771623], 4: [69075, 633987]}[layers]
    assert sizes[0] == 53888 + 4224


@every_cell
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_tokens_build_and_learn_on_odd_sizes(space, data):
    cell = space.architecture(data.draw(tokens_of(space))).build(in_channels=NARROW, width=4)
    n = data.draw(st.sampled_from([1, 3]))
    current, previous = frames(NARROW, 4, n)
    for training in (True, False):
        cell.train(training).zero_grad()
        dec = cell(current, previous)
        assert dec.shape == (n, 4, 23, 30)
        dec.square().sum().backward()
        for name, parameter in cell.named_parameters():
            learns = parameter.grad is not None and bool(parameter.grad.isfinite().all())
            used = not name.startswith("adapters.") or name.split(".")[1] in cell.used
            assert learns == used, name
    one = {k: x[:1] for k, x in current.items()}, {k: x[:1] for k, x in previous.items()}
    torch.testing.assert_close(cell(*one), dec[:1], rtol=1e-3, atol=1e-3)


def obvious(cell, named, current, previous):
    """The wiring by recursion on names, with the layers of `cell`."""
    sources = {"prev_C5": previous["C5"], "prev_dec": previous["dec"], **current}

    def value(name):
        if name in sources:
            return cell.adapters[name](sources[name])
        i = int(name[1:])
        layer = cell.layers[i - 1]
        return layer.agg(
            layer.op1(value(named[f"cell.{i}.x1"])),
            layer.op2(value(named[f"cell.{i}.x2"])),
        )

    taken = [option for choice, option in named.items() if choice.endswith(("x1", "x2"))]
    free = [value(f"c{i}") for i in range(1, len(cell.layers) + 1) if f"c{i}" not in taken]
    size = current["C3"].shape[-2:]
    free = [F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in free]
    conv, norm, _ = cell.output
    return norm(F.conv2d(torch.cat(free, 1), conv.weight)).clamp(min=0)


@every_cell
@pytest.mark.parametrize("seed", range(8))
def test_wiring_equals_the_recursive_definition(space, seed, shake):
    architecture = space.sample(np.random.default_rng(seed))
    cell = shake(architecture.build(in_channels=NARROW, width=4)).double().eval()
    maps = frames(NARROW, 4, dtype=torch.float64)
    torch.testing.assert_close(cell(*maps), obvious(cell, architecture.named, *maps), rtol=1e-9, atol=1e-9)


def test_the_output_joins_all_that_no_layer_takes_at_the_size_of_c3():
    rows = [("C4", "C5"), ("prev_C5", "C5"), ("c1", "C4"), ("C3", "C3"), ("c3", "c1")]
    architecture = cell_of(VIDEO_CELL, *[(*pair, "skip", "skip", "sum") for pair in rows])
    cell = architecture.build(in_channels=NARROW, width=4)
    assert cell.dangling == ["c2", "c4", "c5"]
    assert cell.output[0].in_channels == 12
    assert cell(*frames(NARROW, 4)).shape == (2, 4, 23, 30)


@every_cell
@pytest.mark.parametrize("seed", range(10))
def test_every_spelling_has_one_key(space, seed):
    architecture = space.sample(np.random.default_rng(seed))
    tokens = {space.from_named(named).tokens for named in all_spellings(architecture.named)}
    some = itertools.islice(sorted(tokens), 0, None, max(1, len(tokens) // 50))
    assert {space.architecture(t).canonical.tokens for t in some} == {min(tokens)}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_two_neighbours_share_a_key_only_if_they_are_spellings_of_one_cell(data):
    one = VIDEO_CELL_4.sample(np.random.default_rng(data.draw(st.integers(0, 10**6))))
    i = data.draw(st.integers(0, 19))
    tokens = list(one.tokens)
    tokens[i] = data.draw(st.integers(0, len(VIDEO_CELL_4.choices[i].options) - 1))
    other = VIDEO_CELL_4.architecture(tokens)
    assert (one.key == other.key) == (other.named in all_spellings(one.named))


@pytest.mark.parametrize("agg", ["sum", "concat", "predictive", "bilinear", "conv3d", "attention"])
def test_the_pairs_of_sum_and_3d_convolution_alone_commute(agg):
    one, other = (
        cell_of(VIDEO_CELL, (x1, x2, op1, op2, agg), ("C5", "C5", "skip", "skip", "sum"))
        for x1, x2, op1, op2 in (("C3", "C4", "gap", "skip"), ("C4", "C3", "skip", "gap"))
    )
    assert (one.key == other.key) == (agg in COMMUTATIVE)


@pytest.mark.parametrize("seed", range(8))
def test_spellings_compute_the_same_with_transported_weights(seed, shake):
    architecture = VIDEO_CELL.sample(np.random.default_rng(seed))
    named = architecture.named
    order, swaps = valid_orders(named)[-1], commuting(named)
    respelled = VIDEO_CELL.from_named(renumbered(named, order, swaps))
    one, two = (a.build(in_channels=NARROW, width=4).double().eval() for a in (architecture, respelled))
    shake(one)
    two.adapters = one.adapters
    for k, old in enumerate(order):
        block, target = one.layers[old - 1], two.layers[k]
        ops = (block.op2, block.op1) if old in swaps else (block.op1, block.op2)
        target.op1.load_state_dict(ops[0].state_dict())
        target.op2.load_state_dict(ops[1].state_dict())
        agg = block.agg.state_dict()
        if old in swaps:
            agg = {"weight": agg["weight"].flip(1)} if "weight" in agg else {"a": agg["b"], "b": agg["a"]}
        target.agg.load_state_dict(agg)
    (conv, norm, _), (conv_two, norm_two, _) = one.output, two.output
    norm_two.load_state_dict(norm.state_dict())
    places = [one.dangling.index(f"c{order[int(name[1:]) - 1]}") for name in two.dangling]
    conv_two.weight.data = torch.cat([conv.weight.data.split(4, dim=1)[k] for k in places], dim=1)
    maps = frames(NARROW, 4, dtype=torch.float64)
    torch.testing.assert_close(two(*maps), one(*maps), rtol=1e-9, atol=1e-9)


def test_an_unused_adapter_runs_only_while_counting():
    cell = cell_of(VIDEO_CELL, ("C3", "prev_dec", "skip", "skip", "sum")).build(in_channels=NARROW, width=4)
    current, previous = frames(NARROW, 4)
    assert cell({"C3": current["C3"]}, {"dec": previous["dec"]}).shape == (2, 4, 23, 30)
    with pytest.raises(KeyError, match="prev_C5"):
        count(cell, {"C3": current["C3"]}, {"dec": previous["dec"]})
    names = [name for name in INPUTS if name not in ("C3", "prev_dec")]
    assert [adapter for adapter, _ in cell.unused_adapters(current, previous)] == [cell.adapters[n] for n in names]


def test_macs_of_the_smallest_cell_by_hand():
    cell = cell_of(VIDEO_CELL_4, *[(x, x, "skip", "skip", "attention") for x in ("C3", "c1", "c2", "c3")])
    positions = {k: h * w for k, (h, w) in ODD.items()}
    adapters = sum(positions[k] * c * 4 for k, c in (*NARROW.items(), ("C5", 7), ("C3", 4)))
    counted = count(cell.build(in_channels=NARROW, width=4), *frames(NARROW, 4, n=1))
    assert counted.macs == adapters + positions["C3"] * 4 * 4


@every_cell
def test_channels_and_widths_that_cannot_be(space):
    architecture = cell_of(space, ("C3", "C4", "dconv3x3", "skip", "sum"))
    with pytest.raises(InputError, match="in_channels must give the channels of C4, got C3, C5"):
        architecture.build(in_channels={"C3": 5, "C5": 7})
    with pytest.raises(InputError, match="needs a multiple of 2 channels, got 5"):
        architecture.build(in_channels=NARROW, width=5)
