import itertools

import pytest
import torch
from torch import nn

from search_spaces import InputError
from search_spaces.operations import (
    FPN_OPERATIONS,
    HEAD_OPERATIONS,
    DepthwiseConv2d,
    batch_norm,
    group_norm,
    make_operation,
)

TAPS = {
    "sep3x3": (-1, 0, 1),
    "sep3x3_dil3": (-3, 0, 3),
    "sep5x5_dil6": (-12, -6, 0, 6, 12),
    "skip": (0,),
    "dconv3x3": (-1, 0, 1),
    "conv1x1": (0,),
    "conv3x3": (-1, 0, 1),
}
C = 64
PARAMETERS = {  # without the norm
    "sep3x3": 9 * C + C * C,
    "sep3x3_dil3": 9 * C + C * C,
    "sep5x5_dil6": 25 * C + C * C,
    "skip": 0,
    "dconv3x3": 9 * C * C + C + 9 * 54 * C + 54,
    "conv1x1": C * C,
    "conv3x3": 9 * C * C,
}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_the_head_adds_two_operations():
    assert set(HEAD_OPERATIONS) == set(TAPS)
    assert set(HEAD_OPERATIONS) - set(FPN_OPERATIONS) == {"conv1x1", "conv3x3"}


@pytest.mark.parametrize("name", HEAD_OPERATIONS)
def test_an_output_sees_exactly_the_taps(name):
    operation = make_operation(name, 4, norm=lambda channels: nn.Identity())
    with torch.no_grad():
        for parameter in operation.parameters():
            parameter.abs_()  # all contributions positive, so that ReLU and sums hide none
    x = torch.rand(1, 4, 31, 31, requires_grad=True)
    operation(x)[0, :, 15, 15].sum().backward()
    seen = {(i - 15, j - 15) for i, j in x.grad[0].sum(0).nonzero().tolist()}
    assert seen == set(itertools.product(TAPS[name], repeat=2))


@pytest.mark.parametrize("norm", [batch_norm, group_norm])
@pytest.mark.parametrize("name", HEAD_OPERATIONS)
def test_parameters_shape_and_memory_format(name, norm):
    operation = make_operation(name, C, norm).to(memory_format=torch.channels_last)
    assert parameters(operation) == PARAMETERS[name] + (0 if name == "skip" else 2 * C)
    x = torch.randn(2, C, 5, 6).contiguous(memory_format=torch.channels_last)
    y = operation(x)
    assert y.shape == x.shape
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert name == "skip" or y.min() == 0


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (128, 32), (64, 32), (32, 16), (48, 8), (8, 4), (7, 1)])
def test_group_norm_keeps_two_channels_a_group(channels, groups):
    assert group_norm(channels).num_groups == groups
    assert group_norm(channels)(torch.randn(1, channels, 1, 1)).abs().max() > 0


def test_unknown_operation():
    with pytest.raises(InputError, match=r"there is no operation 'conv7x7'; known: sep3x3, .*conv3x3"):
        make_operation("conv7x7", 8, batch_norm)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 4), (4, 7), (6, 13), (7, 12), (16, 5)])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 3), (5, 6)])
def test_skipped_taps_change_nothing(kernel, dilation, size):
    ours = DepthwiseConv2d(6, kernel, dilation)
    whole = nn.Conv2d(
        6, 6, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=6, bias=False, dtype=torch.float64
    )
    ours.double().load_state_dict(whole.state_dict())
    x = torch.randn(3, 6, *size, dtype=torch.float64, requires_grad=True)
    seed = torch.randn(3, 6, *size, dtype=torch.float64)
    gradients = []
    for conv in (ours, whole):
        y = conv(x)
        torch.testing.assert_close(y, whole(x))
        gradients.append(torch.autograd.grad((y * seed).sum(), [x, conv.weight]))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs)
