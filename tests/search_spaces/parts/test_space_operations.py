import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from search_spaces import InputError
from search_spaces.options import FPN_OPERATIONS, HEAD_OPERATIONS, OPERATIONS, VIDEO_OPERATIONS
from search_spaces.parts.operations import DepthwiseConv2d, batch_norm, group_norm, make_operation

TAPS = {
    "sep3x3": (-1, 0, 1),
    "sep3x3_dil3": (-3, 0, 3),
    "sep5x5_dil6": (-12, -6, 0, 6, 12),
    "skip": (0,),
    "dconv3x3": (-1, 0, 1),
    "conv1x1": (0,),
    "conv3x3": (-1, 0, 1),
    "conv3x3_dil3": (-3, 0, 3),
    "gap": range(-15, 16),
    "linear3x3": (-1, 0, 1),
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
    "conv3x3_dil3": 9 * C * C,
    "gap": C * C,
    "linear3x3": 9 * C * C + C,
}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_the_head_adds_two_operations():
    assert set(OPERATIONS) == set(TAPS)
    assert set(HEAD_OPERATIONS) - set(FPN_OPERATIONS) == {"conv1x1", "conv3x3"}


def test_the_cell_adds_global_pooling_in_the_order_of_table_6_1():
    assert VIDEO_OPERATIONS == ("sep3x3", "gap", "sep3x3_dil3", "sep5x5_dil6", "skip", "dconv3x3")
    assert set(VIDEO_OPERATIONS) <= set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
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
@pytest.mark.parametrize("name", OPERATIONS)
def test_parameters_shape_and_memory_format(name, norm):
    operation = make_operation(name, C, norm).to(memory_format=torch.channels_last)
    assert parameters(operation) == PARAMETERS[name] + (0 if name in ("skip", "linear3x3") else 2 * C)
    x = torch.randn(2, C, 5, 6).contiguous(memory_format=torch.channels_last)
    y = operation(x)
    assert y.shape == x.shape
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert name in ("skip", "linear3x3") or y.min() == 0


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (128, 32), (64, 32), (32, 16), (48, 8), (8, 4), (7, 1)])
def test_group_norm_keeps_two_channels_a_group(channels, groups):
    assert group_norm(channels).num_groups == groups
    assert group_norm(channels)(torch.randn(1, channels, 1, 1)).abs().max() > 0


def test_unknown_operation():
    with pytest.raises(InputError, match=r"no operation 'conv7x7'; known: sep3x3, .*conv3x3, conv3x3_dil3, gap"):
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


@pytest.mark.parametrize("training", [True, False])
def test_global_pooling_is_the_mean_through_a_1x1_convolution_everywhere(training, shake):
    gap = shake(make_operation("gap", 5, batch_norm)).double().train(training)
    x = torch.randn(3, 5, 4, 7, dtype=torch.float64)
    mean, var = gap.norm.running_mean.clone(), gap.norm.running_var.clone()
    out = gap(x)
    for_each_image = torch.stack([gap.conv.weight[:, :, 0, 0] @ image.flatten(1).mean(1) for image in x])
    if training:
        mean, var = for_each_image.mean(0), for_each_image.var(0, unbiased=False)
    expected = (for_each_image - mean) / (var + gap.norm.eps).sqrt() * gap.norm.weight + gap.norm.bias
    torch.testing.assert_close(out, expected.clamp(min=0)[:, :, None, None].expand(3, 5, 4, 7))
    upsampled = F.interpolate(out[:, :, :1, :1], size=(4, 7), mode="bilinear", align_corners=False)
    torch.testing.assert_close(out, upsampled)


def test_global_pooling_of_one_image_in_training_uses_and_keeps_the_running_statistics(shake):
    gap = shake(make_operation("gap", 5, batch_norm))
    x = torch.randn(1, 5, 4, 7, requires_grad=True)
    before = {name: buffer.clone() for name, buffer in gap.named_buffers()}
    out = gap(x)
    assert all(torch.equal(buffer, before[name]) for name, buffer in gap.named_buffers())
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (*gap.parameters(), x))
    torch.testing.assert_close(out, gap.eval()(x))
