import pytest
import torch
import torch.nn.functional as F

from search_spaces import InputError
from search_spaces.options import AGGREGATIONS
from search_spaces.parts.aggregations import make_aggregation
from search_spaces.parts.maps import resize

ALL = (*AGGREGATIONS, "concat_interleaved")
C = 4


def obvious(name, module, x, y):
    """The definitions, channel by channel; `x` and `y` have one size, batch norm is in evaluation mode."""
    if name == "sum":
        return torch.stack([module.a[k] * x[:, k] + module.b[k] * y[:, k] for k in range(C)], dim=1)
    stack = torch.cat((x, y), dim=1)
    norm = module.norm
    shape = (1, -1, 1, 1)
    stack = (stack - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    stack = (stack * norm.weight.view(shape) + norm.bias.view(shape)).clamp(min=0)
    pairs = [(2 * k, 2 * k + 1) if name == "concat" else (k, C + k) for k in range(C)]
    weight = module.conv.weight
    return torch.stack([weight[k, 0] * stack[:, i] + weight[k, 1] * stack[:, j] for k, (i, j) in enumerate(pairs)], 1)


@pytest.mark.parametrize("name", ALL)
def test_equals_the_definition(name, shake):
    module = shake(make_aggregation(name, C)).eval()
    x, y = torch.randn(2, 3, C, 5, 6)
    torch.testing.assert_close(module(x, y), obvious(name, module, x, y))


@pytest.mark.parametrize("name", ALL)
def test_the_smaller_map_is_resized_bilinearly_to_the_larger(name, shake):
    module = shake(make_aggregation(name, C)).eval()
    small, large = torch.randn(2, C, 3, 5), torch.randn(2, C, 12, 20)
    grown = F.interpolate(small, size=(12, 20), mode="bilinear", align_corners=False)
    torch.testing.assert_close(module(small, large), obvious(name, module, grown, large))
    torch.testing.assert_close(module(large, small), obvious(name, module, large, grown))


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_learns_and_channels_last_stays(name):
    module = make_aggregation(name, C)
    x, y = (t.contiguous(memory_format=torch.channels_last) for t in torch.randn(2, 3, C, 5, 6))
    out = module(x, y)
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in module.parameters())


def test_sum_starts_as_the_plain_sum():
    x, y = torch.randn(2, 3, C, 5, 6)
    torch.testing.assert_close(make_aggregation("sum", C)(x, y), x + y)


def test_concat_mixes_no_output_of_both_inputs_and_the_interleaved_form_all():
    for name, expected in (("concat", [0, 0, 1, 1]), ("concat_interleaved", [1, 1, 1, 1])):
        module = make_aggregation(name, C)
        torch.nn.init.ones_(module.conv.weight)
        x, y = torch.rand(2, 1, C, 1, 1)
        module.eval()
        moved = module(x, y + 1) != module(x, y)
        assert moved.flatten().int().tolist() == expected


def test_both_concatenations_share_a_state_dict():
    one, other = make_aggregation("concat", C), make_aggregation("concat_interleaved", C)
    assert one.conv.weight.shape == (C, 2, 1, 1)
    other.load_state_dict(one.state_dict())


def test_resize_to_the_same_size_is_the_map_itself():
    x = torch.randn(1, 2, 3, 4)
    assert resize(x, (3, 4)) is x


def test_unknown_aggregation():
    with pytest.raises(InputError, match="there is no aggregation 'max'; known: sum, concat, concat_interleaved"):
        make_aggregation("max", C)
