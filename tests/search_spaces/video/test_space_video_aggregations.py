import pytest
import torch
import torch.nn.functional as F

from search_spaces import InputError
from search_spaces.options import COMMUTATIVE, VIDEO_AGGREGATIONS
from search_spaces.parts.complexity import count
from search_spaces.video.aggregations import (
    BilinearSampling,
    PairConv3d,
    Predictive,
    filter_positions,
    make_video_aggregation,
)

C = 3
DEPTHWISE = {"padding": 1, "groups": C}
PARAMETERS = {"sum": 2, "concat": 6, "predictive": 27, "bilinear": 6, "conv3d": 18, "attention": 0}  # times C
every_aggregation = pytest.mark.parametrize("name", VIDEO_AGGREGATIONS)


def at(x, k, i, j):
    """x[:, k, i, j], zero outside of the map."""
    inside = 0 <= i < x.shape[2] and 0 <= j < x.shape[3]
    return x[:, k, i, j] if inside else x.new_zeros(len(x))


def assembled(x, value):
    """The map of the shape of `x` whose value at channel k, row i, column j is `value(k, i, j)`."""
    rows = [
        [torch.stack([value(k, i, j) for j in range(x.shape[3])], -1) for i in range(x.shape[2])]
        for k in range(x.shape[1])
    ]
    return torch.stack([torch.stack(row, -2) for row in rows], 1)


def predictive(module, x, y):
    once, twice, last = (parameter for parameter in module.parameters())
    filters = F.conv2d(x.clamp(min=0), once, **DEPTHWISE).clamp(min=0)
    filters = F.conv2d(F.conv2d(filters, twice, **DEPTHWISE).clamp(min=0), last).exp()
    filters = filters / filters.sum(1, keepdim=True)

    def value(k, i, j):
        taps = [(di, dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)]
        return sum(filters[:, t, i, j] * at(y, k, i + di, j + dj) for t, (di, dj) in enumerate(taps))

    return assembled(x, value)


def bilinear(module, x, y):
    height, width = x.shape[2:]
    reduction, weight, bias = module.parameters()
    pooled = F.conv2d(y, reduction).clamp(min=0).mean((2, 3))
    matrix = F.linear(pooled, weight, bias).view(-1, 2, 3)

    def value(k, i, j):
        place = torch.tensor([(2 * j + 1) / width - 1, (2 * i + 1) / height - 1, 1.0], dtype=x.dtype)
        across, down = (matrix @ place).unbind(1)
        column, row = ((across + 1) * width - 1) / 2, ((down + 1) * height - 1) / 2
        found = []
        for n in range(len(x)):
            top, left = int(row[n].floor()), int(column[n].floor())
            a, b = row[n] - top, column[n] - left
            shares = {(0, 0): (1 - a) * (1 - b), (0, 1): (1 - a) * b, (1, 0): a * (1 - b), (1, 1): a * b}
            found.append(sum(s * at(x[n : n + 1], k, top + di, left + dj)[0] for (di, dj), s in shares.items()))
        return torch.stack(found) + y[:, k, i, j]

    return assembled(x, value)


def conv3d(module, x, y):
    return F.conv3d(torch.stack((x, y), 2), module.weight[:, None], padding=(0, 1, 1), groups=C).squeeze(2)


def attention(module, x, y):
    return x / (1 + (-y).exp())


def total(module, x, y):
    return assembled(x, lambda k, i, j: module.a[k, 0, 0] * x[:, k, i, j] + module.b[k, 0, 0] * y[:, k, i, j])


def concat(module, x, y):
    stack = module.norm(torch.cat((x, y), 1)).clamp(min=0)
    weight = module.conv.weight[:, :, 0, 0]
    return assembled(x, lambda k, i, j: (weight[k] * stack[:, 2 * k : 2 * k + 2, i, j]).sum(1))


OBVIOUS = {
    "sum": total,
    "concat": concat,
    "predictive": predictive,
    "bilinear": bilinear,
    "conv3d": conv3d,
    "attention": attention,
}


def pair(sizes=((4, 5), (4, 5)), channels=C):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, *size, generator=rng, dtype=torch.float64, requires_grad=True) for size in sizes]


def test_the_order_of_table_6_2():
    assert VIDEO_AGGREGATIONS == ("sum", "concat", "predictive", "bilinear", "conv3d", "attention")


@every_aggregation
def test_values_and_gradients_equal_the_definition(name, shake):
    module = shake(make_video_aggregation(name, C)).double()
    x, y = pair()
    of = [x, y, *module.parameters()]
    seed = torch.randn(2, C, 4, 5, dtype=torch.float64)
    found, expected = module(x, y), OBVIOUS[name](module, x, y)
    torch.testing.assert_close(found, expected)
    for mine, slow in zip(*(torch.autograd.grad((z * seed).sum(), of) for z in (found, expected)), strict=True):
        torch.testing.assert_close(mine, slow)
        assert mine.abs().max() > 0


@every_aggregation
@pytest.mark.parametrize("sizes", [((3, 4), (6, 7)), ((6, 7), (3, 4)), ((6, 7), (6, 4))])
def test_the_smaller_map_is_resized_bilinearly_to_the_larger(name, sizes, shake):
    module = shake(make_video_aggregation(name, C)).double()
    maps = pair(sizes)
    x, y = (F.interpolate(z, size=(6, 7), mode="bilinear", align_corners=False) for z in maps)
    torch.testing.assert_close(module(*maps), OBVIOUS[name](module, x, y))


@every_aggregation
def test_only_sum_and_3d_convolution_commute_with_their_weights(name, shake):
    module = shake(make_video_aggregation(name, C)).double().eval()
    x, y = pair()
    before = module(x, y)
    with torch.no_grad():
        if name == "sum":
            module.a.data, module.b.data = module.b.data, module.a.data
        if name == "conv3d":
            module.weight.copy_(module.weight.flip(1))
    assert torch.allclose(module(y, x), before) == (name in COMMUTATIVE)


@every_aggregation
def test_parameters(name):
    module = make_video_aggregation(name, 64)
    assert sum(p.numel() for p in module.parameters()) == PARAMETERS[name] * 64 + (42 if name == "bilinear" else 0)


@every_aggregation
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 7)])
def test_channels_last_stays_and_small_maps_are_finite(name, size, shake):
    module = shake(make_video_aggregation(name, 4)).double().to(memory_format=torch.channels_last)
    x, y = (z.contiguous(memory_format=torch.channels_last) for z in pair((size, size), 4))
    out = module(x, y)
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_filters_of_one_tap_shift_the_map():
    x = torch.arange(1.0, 13).view(1, 1, 3, 4)
    filters = torch.zeros(1, 9, 3, 4)
    filters[:, 5] = 1  # the tap one to the right
    assert filter_positions(x, filters)[0, 0].tolist() == [[2, 3, 4, 0], [6, 7, 8, 0], [10, 11, 12, 0]]


def test_filter_positions_equals_unfold():
    x, filters = torch.randn(2, 4, 5, 6, dtype=torch.float64), torch.randn(2, 9, 5, 6, dtype=torch.float64)
    columns = F.unfold(x, 3, padding=1).view(2, 4, 9, 5, 6)
    torch.testing.assert_close(filter_positions(x, filters), (columns * filters[:, None]).sum(2))


def impulse_response(module, maps, which):
    """The positions (rows, columns) of the output that an impulse in the middle of one of the maps changes."""
    before = module(*maps)
    maps = [x.clone() for x in maps]
    maps[which][0, :, 4, 4] += 10
    changed = (module(*maps) - before).abs().amax((0, 1)) > 1e-12
    return sorted({int(i) for i in changed.any(1).nonzero()}), sorted({int(j) for j in changed.any(0).nonzero()})


def positive(module):
    """The module with positive weights, so that no ReLU hides what an impulse changes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.1, 1)
    return module.double()


def test_the_predicted_filters_are_shares_of_a_neighbourhood_of_the_second_map():
    """The published operation's own checks: where the convolutions stand, and where none does."""
    module, rng = positive(Predictive(C)), torch.Generator().manual_seed(0)
    x, y = (torch.rand(1, C, 9, 9, generator=rng, dtype=torch.float64) for _ in range(2))
    assert torch.allclose(module(x, torch.ones_like(y))[..., 1:-1, 1:-1], torch.ones(7, 7, dtype=torch.float64))
    assert (module(x, torch.ones_like(y))[..., 0, :] < 1).all()  # zero outside
    assert impulse_response(module, [x, y], 1) == ([3, 4, 5], [3, 4, 5])
    assert impulse_response(module, [x, y], 0) == ([2, 3, 4, 5, 6], [2, 3, 4, 5, 6])


def test_the_predicted_filters_do_not_see_what_is_negative():
    module = positive(Predictive(C))
    x, y = pair()
    torch.testing.assert_close(module(x, y), module(x.clamp(min=0), y))


def test_the_grid_of_bilinear_sampling_comes_from_averages_after_relu():
    """Pixels that ReLU removes do not move the grid, though they would change an average before it."""
    module = positive(BilinearSampling(C))
    x, y = pair()
    y = y.detach()
    y[:, :, 0, 0] = -5  # negative in all six channels, whose weights are positive
    lower = y.clone()
    lower[:, :, 0, 0] = -50
    torch.testing.assert_close(module(x, lower) - lower, module(x, y) - y)


def test_bilinear_sampling_adds_no_identity_to_its_grid():
    module = BilinearSampling(C).double()
    x, y = pair()
    with torch.no_grad():
        module.matrix.weight.zero_()
        module.matrix.bias.copy_(torch.tensor([1.0, 0, 2 / 5, 0, 1, 0]))  # one pixel of a map five wide
    torch.testing.assert_close(module(x, y) - y, F.pad(x[..., 1:], (0, 1)))
    with torch.no_grad():
        module.matrix.bias.zero_()  # every position reads the middle of the map
    middle = (x[:, :, 1:2, 2:3] + x[:, :, 2:3, 2:3]) / 2
    torch.testing.assert_close(module(x, y) - y, middle.expand_as(x))


@pytest.mark.parametrize("name", ["predictive", "bilinear", "conv3d", "attention"])
def test_half_precision_by_autocast_stays_near(name, shake):
    module = shake(make_video_aggregation(name, 4))
    x, y = (z.detach().float() for z in pair(channels=4))
    with torch.autocast("cpu", torch.bfloat16):
        found = module(x, y)
    torch.testing.assert_close(found.float(), module(x, y), rtol=0.05, atol=0.05)


def test_nothing_that_multiplies_by_weights_is_uncharged():
    x, y = torch.randn(2, 2, 4, 5, 6)
    outputs = x.numel()
    depthwise, positions = 9 * outputs, 2 * 5 * 6
    assert count(PairConv3d(4), x, y).macs == 18 * outputs
    assert count(Predictive(4), x, y).macs == 2 * depthwise + positions * 4 * 9 + 9 * outputs
    assert count(BilinearSampling(4), x, y).macs == positions * 4 * 6 + 2 * 6 * 6
    assert count(make_video_aggregation("attention", 4), x, y).macs == 0


def test_unknown_aggregation():
    with pytest.raises(InputError, match="there is no aggregation 'max' of a cell; known: sum, concat, predictive,"):
        make_video_aggregation("max", C)
