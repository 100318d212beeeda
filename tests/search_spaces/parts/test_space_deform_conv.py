import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from search_spaces import InputError
from search_spaces.parts import deform_conv, deform_sampling
from search_spaces.parts.deform_conv import DeformConv3x3, deform_conv2d


def draw(n, channels, size, out_channels, groups, k, padding, dilation, dtype, spread):
    rng = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    out = [side + 2 * padding - dilation * (k - 1) for side in size]
    x = normal(n, channels, *size)
    offset = spread * normal(n, 2 * groups * k * k, *out)
    weight, bias = normal(out_channels, channels, k, k), normal(out_channels)
    mask = normal(n, groups * k * k, *out).sigmoid()
    return [t.requires_grad_() for t in (x, offset, weight, bias, mask)]


def value_and_gradients(function, inputs, padding, dilation):
    x, offset, weight, bias, mask = inputs
    y = function(x, offset, weight, bias, padding=padding, dilation=dilation, mask=mask)
    upstream = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y.dtype)
    return y, *torch.autograd.grad(y, inputs, upstream)


def assert_equal(inputs, padding=1, dilation=1):
    ours = value_and_gradients(deform_conv2d, inputs, padding, dilation)
    theirs = value_and_gradients(torchvision.ops.deform_conv2d, inputs, padding, dilation)
    tolerance = 1e-10 if inputs[0].dtype == torch.float64 else 2e-5
    for name, a, b in zip(("y", "x", "offset", "weight", "bias", "mask"), ours, theirs, strict=True):
        scale = b.abs().max().item() + 1
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance * scale, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.0, 0.5, 6.0], ids=["grid", "near", "beyond the border"])
def test_equals_torchvision_in_value_and_gradients(dtype, spread):
    assert_equal(draw(3, 8, (9, 13), 5, 2, 3, 1, 1, dtype, spread))


@pytest.mark.parametrize(
    ("groups", "k", "padding", "dilation"), [(1, 3, 0, 1), (4, 3, 3, 3), (2, 5, 2, 1), (1, 1, 0, 1)]
)
def test_other_kernels_groups_and_dilations(groups, k, padding, dilation):
    assert_equal(draw(2, 8, (11, 7), 3, groups, k, padding, dilation, torch.float64, 2.0), padding, dilation)


@pytest.mark.parametrize("far", [0.5, 1.0, 8.0, 9.0, -10.0, 1e6, -1e12])
def test_offsets_on_and_far_beyond_the_border(far):
    inputs = draw(2, 4, (8, 8), 3, 2, 3, 1, 1, torch.float64, 0.0)
    with torch.no_grad():
        inputs[1] += far
    assert_equal(inputs)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 3),
    groups=st.integers(1, 3),
    channels=st.integers(1, 19),  # in a group; vectors hold 8 or 16
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    k=st.sampled_from([1, 2, 3]),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
    spread=st.sampled_from([0.0, 0.3, 3.0, 1e3]),
)
def test_any_shape_equals_torchvision(n, groups, channels, size, k, padding, dilation, spread):
    assume(all(side + 2 * padding - dilation * (k - 1) >= 1 for side in size))
    inputs = draw(n, groups * channels, size, 2, groups, k, padding, dilation, torch.float64, spread)
    assert_equal(inputs, padding, dilation)


def test_not_a_number_in_the_offsets_reaches_the_output():
    inputs = draw(2, 4, (8, 8), 3, 2, 3, 1, 1, torch.float32, 1.0)
    with torch.no_grad():
        inputs[1][0, 0, 4, 4] = float("nan")
        inputs[1][1, 3, 2, 2] = float("inf")
    y = deform_conv2d(*inputs[:4], mask=inputs[4])
    assert y[0, :, 4, 4].isnan().all()
    assert y.isfinite().sum() >= y.numel() - 2 * y.shape[1]


@pytest.mark.parametrize("at_once", [1, 150, 10_000])
def test_images_may_be_taken_in_any_portions(monkeypatch, at_once):
    inputs = draw(5, 4, (7, 9), 3, 2, 3, 1, 1, torch.float64, 2.0)
    monkeypatch.setattr(deform_sampling, "POSITIONS_AT_ONCE", at_once)
    assert_equal(inputs)


def test_no_image_at_all():
    inputs = draw(0, 4, (6, 5), 3, 2, 3, 1, 1, torch.float64, 1.0)
    y, *gradients = value_and_gradients(deform_conv2d, inputs, 1, 1)
    assert y.shape == (0, 3, 6, 5)
    assert [gradient.shape for gradient in gradients] == [value.shape for value in inputs]
    assert not any(gradient.any() for gradient in gradients)


def test_the_operators_are_what_pytorch_asks_of_one():
    x, offset, weight, bias, mask = draw(2, 4, (6, 5), 3, 2, 3, 1, 1, torch.float64, 1.0)
    matrix = weight.detach().reshape(3, -1).requires_grad_()
    checks = torch.library.opcheck(deform_conv._deform_conv2d, (x, offset, matrix, bias, mask, 3, 1, 1))
    assert set(checks.values()) == {"SUCCESS"}


def test_kernels_are_compiled_where_machine_code_cannot_be_kept(monkeypatch):
    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: (function, options)

    monkeypatch.setattr(deform_sampling.numba, "njit", njit)
    assert deform_sampling._compiled(abs) == (abs, deform_sampling.OPTIONS)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_any_memory_format_gives_channels_last(memory_format):
    x, offset, weight, bias, mask = draw(2, 4, (6, 5), 3, 2, 3, 1, 1, torch.float64, 1.0)
    expected = torchvision.ops.deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    y = deform_conv2d(*(t.contiguous(memory_format=memory_format) for t in (x, offset, weight)), bias, mask)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=torch.channels_last)


def test_module_starts_as_a_regular_convolution_at_half_weight():
    layer, x = DeformConv3x3(6, 4), torch.randn(2, 6, 5, 7)
    expected = F.conv2d(x, layer.weight, padding=1) / 2 + layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_module_equals_torchvision_s_with_its_state_dict_both_ways(shake):
    ours = shake(DeformConv3x3(6, 4))
    theirs = torchvision.ops.DeformConv2d(6, 4, 3, padding=1)
    x = torch.randn(2, 6, 5, 7)
    for source, target in ((ours, theirs), (theirs, ours)):
        torch.nn.init.normal_(source.weight)
        shared = {name: source.state_dict()[name] for name in ("weight", "bias")}
        assert not target.load_state_dict(shared, strict=False).unexpected_keys
        offset, mask = ours.conv_offset_mask(x).split([36, 18], dim=1)
        torch.testing.assert_close(ours(x), theirs(x, offset, mask.sigmoid()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(2, 1), (5, 1), (1, 5), (1, 1)])
def test_module_takes_maps_of_one_row_or_column(size):
    module = DeformConv3x3(8, 8)
    torch.nn.init.normal_(module.conv_offset_mask.weight, std=0.3)
    x = torch.randn(2, 8, *size)
    predicted = module.conv_offset_mask(x)
    cut = predicted.shape[1] * 2 // 3
    offset, mask = predicted[:, :cut], predicted[:, cut:].sigmoid()
    expected = torchvision.ops.deform_conv2d(x, offset, module.weight, module.bias, padding=1, mask=mask)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-5)


def test_published_number_of_parameters():
    assert sum(p.numel() for p in DeformConv3x3(256, 256).parameters()) == 256 * 256 * 9 + 256 + 54 * 256 * 9 + 54


def test_meta_device_gives_the_shape():
    with torch.device("meta"):
        assert DeformConv3x3(6, 4)(torch.empty(2, 6, 5, 7)).shape == (2, 4, 5, 7)


def test_channels_that_do_not_divide_into_the_groups():
    with pytest.raises(InputError, match="2 offset groups needs a multiple of 2 channels, got 7"):
        DeformConv3x3(7, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_both_devices_agree(shake):
    layer, x = shake(DeformConv3x3(64, 64)), torch.randn(2, 64, 16, 16)
    expected = layer(x)
    torch.testing.assert_close(layer.cuda()(x.cuda()).cpu(), expected, rtol=1e-3, atol=1e-3)
