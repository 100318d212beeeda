"""arch2 against its published genotype, which a slow interpreter reads."""

import pytest
import torch
import torch.nn.functional as F

import search_spaces
from search_spaces import Architecture
from search_spaces.parts.complexity import count
from search_spaces.video.arch2 import Arch2Decoder

# As published: a cell of a first operation and three layers (input, input, operation, operation), and what the three
# merge cells connect. A cell's pool: its input, the first result, then for each layer both results and their sum.
CELL = (5, (0, 0, 4, 1), (3, 2, 0, 1), (5, 6, 5, 0))
CONNECTIONS = ((1, 3), (4, 3), (2, 2))
OPERATIONS = {0: (1, 1), 1: (3, 1), 4: "gap", 5: (3, 3)}  # kernel and dilation
CHANNELS = {"C2": 24, "C3": 32, "C4": 96, "C5": 320}
SIZES = {"C2": (24, 32), "C3": (12, 16), "C4": (6, 8), "C5": (3, 4)}


def convolved(state, prefix, x, kernel=1, dilation=1, parts=("0", "1")):
    """Convolution, batch norm of the running statistics and ReLU, written out."""
    conv, norm = (f"{prefix}.{part}." for part in parts)
    x = F.conv2d(x, state[conv + "weight"], None, 1, dilation * (kernel // 2), dilation)
    mean, var, gain, shift = (
        state[norm + name][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return ((x - mean) / (var + 1e-5).sqrt() * gain + shift).clamp(min=0)


def operation(state, prefix, number, x):
    if OPERATIONS[number] == "gap":
        pooled = convolved(state, prefix, x.mean((2, 3), keepdim=True), parts=("conv", "norm"))
        return pooled.expand_as(x)
    return convolved(state, prefix, x, *OPERATIONS[number])


def cell(state, prefix, x):
    """Sums the first operation's result and the layers' sums, as far as no layer takes them."""
    first, *layers = CELL
    ops = (f"{prefix}.ops.{number}" for number in range(7))
    pool = [x, operation(state, next(ops), first, x)]
    ends, taken = [0, 1], {0}
    for in1, in2, op1, op2 in layers:
        one, two = operation(state, next(ops), op1, pool[in1]), operation(state, next(ops), op2, pool[in2])
        pool += [one, two, one + two]
        ends.append(len(pool) - 1)
        taken |= {in1, in2}
    return sum(pool[number] for number in ends if number not in taken)


def larger(x, y):
    """Both at the larger one's size."""
    size = max(x.shape[-2:], y.shape[-2:])
    return [F.interpolate(value, size=size, mode="bilinear") for value in (x, y)]


def reference(state, features):
    """``dec``, class scores and the auxiliary class scores."""
    pool = [convolved(state, f"adapters.{level}", value) for level, value in features.items()]
    merged, taken = [], set()
    for number, pair in enumerate(CONNECTIONS):
        sides = []
        for side, index in enumerate(pair):
            branch = f"merges.{number}.branches.{side}"
            sides.append(convolved(state, branch, cell(state, f"{branch}.0", pool[index]), parts=("1", "2")))
        pool.append(sum(larger(*sides)))
        merged.append(pool[-1])
        taken |= set(pair)
    ends = [value for number, value in enumerate(pool) if number >= len(features) and number not in taken]
    dec = convolved(state, "bottleneck", torch.cat(larger(*ends), 1).clamp(min=0))

    def classified(name, x):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    return dec, classified("classifier", dec), [classified(f"auxiliary.{n}", x) for n, x in enumerate(merged)]


@pytest.fixture
def features():
    torch.manual_seed(0)
    return {level: torch.randn(2, CHANNELS[level], *size, dtype=torch.double) for level, size in SIZES.items()}


@pytest.fixture
def decoder():
    torch.manual_seed(1)
    decoder = Arch2Decoder(CHANNELS, num_classes=5, width=16, auxiliary=True).double()
    for name, value in decoder.state_dict().items():
        if name.endswith(("running_mean", "norm.bias", "1.bias", "2.bias")):
            value.normal_(std=0.2)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    return decoder.eval()


def test_it_computes_what_its_genotype_says(decoder, features):
    dec, logits, _ = reference(decoder.state_dict(), features)
    out = decoder(features)
    assert out.keys() == {"dec", "logits"}
    assert out["dec"].shape == (2, 16, *SIZES["C3"])
    torch.testing.assert_close(out["dec"], dec)
    torch.testing.assert_close(out["logits"], logits)
    assert out["logits"].std() > 0.01


def test_auxiliary_classifiers_read_the_merge_cells_in_training_alone(decoder, features):
    decoder.training = True  # the decoder alone: its batch norms go on with the running statistics
    out = decoder(features)
    for found, expected in zip(out["aux"], reference(decoder.state_dict(), features)[2], strict=True):
        torch.testing.assert_close(found, expected)
    assert "aux" not in decoder.eval()(features)
    assert "aux" not in Arch2Decoder(CHANNELS, 5, 16).double().train()(features)


def test_everything_but_the_adapter_of_c2_is_trained(decoder, features):
    decoder.train()
    out = decoder(features)
    (out["logits"].sum() + sum(x.sum() for x in out["aux"])).backward()
    without = {name for name, parameter in decoder.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in decoder.named_parameters() if name.startswith("adapters.C2")}


@pytest.mark.parametrize("size", [(33, 47), (32, 32), (180, 240), (100, 36)])
def test_frames_of_any_size(decoder, size):
    maps = {}
    for level, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True):
        maps[level] = torch.randn(1, CHANNELS[level], *(-(-side // stride) for side in size), dtype=torch.double)
    out = decoder(maps)
    assert out["dec"].shape[-2:] == out["logits"].shape[-2:] == maps["C3"].shape[-2:]
    torch.testing.assert_close(out["logits"], reference(decoder.state_dict(), maps)[1])


def test_the_adapter_of_c2_is_counted_though_it_is_not_run(features):
    decoder = Arch2Decoder(CHANNELS, 5, 16).double()
    less = {level: value for level, value in features.items() if level != "C2"}
    assert decoder.eval()(less)["dec"].shape[0] == 2
    unused = 2 * 24 * 16 * SIZES["C2"][0] * SIZES["C2"][1]
    run = []
    for layer in decoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda layer, args, out: run.append(out.numel() * layer.weight[0].numel()))
    decoder(less)
    expected = sum(run) + unused
    assert count(decoder, features).macs == expected


def test_the_space_has_one_point():
    space = search_spaces.get("arch2")
    assert (len(space), space.cardinality, space.proxy_task) == (0, 1, "video")
    assert space.from_named({}) == Architecture.of("arch2", ())
    decoder = Architecture.of("arch2", ()).build(in_channels=CHANNELS, num_classes=3, width=8)
    assert isinstance(decoder, Arch2Decoder)
    assert decoder.classifier.weight.shape == (3, 8, 3, 3)
