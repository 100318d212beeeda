import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import search_spaces
from experiments import published
from search_spaces.parts.complexity import count
from search_spaces.parts.deform_conv import DeformConv3x3
from search_spaces.parts.operations import DepthwiseConv2d

C2_TO_C5 = {"MobileNetV2": (24, 32, 96, 320), "ResNet": (256, 512, 1024, 2048)}
SIZES = {"C2": (272, 200), "C3": (136, 100), "C4": (68, 50), "C5": (34, 25)}  # of 1088×800
# thesis table 7.2, recounted independently of this project: FPN and head, parameters in M and MACs in G
TABLE_7_2 = [
    ("fpn_fcos", 256, 256, "MobileNetV2", 3.066, 4.921, 10.96, 89.12),
    ("nas_fcos", 128, 128, "MobileNetV2", 2.883, 1.267, 11.05, 22.93),
    ("nas_fcos", 128, 256, "MobileNetV2", 3.768, 4.369, 11.17, 79.13),
    ("nas_fcos", 256, 256, "MobileNetV2", 9.895, 4.369, 37.22, 79.13),
    ("fpn_fcos", 256, 256, "ResNet", 3.869, 4.921, 13.82, 89.12),
    ("nas_fcos", 128, 128, "ResNet", 3.314, 1.267, 14.09, 22.93),
    ("nas_fcos", 128, 256, "ResNet", 4.199, 4.369, 14.21, 79.13),
    ("nas_fcos", 256, 256, "ResNet", 10.757, 4.369, 43.30, 79.13),
]


def on_meta(name, fpn_width, head_width, backbone):
    channels = dict(zip(SIZES, C2_TO_C5[backbone], strict=True))
    sizes = {"in_channels": channels, "num_classes": 80, "fpn_width": fpn_width, "head_width": head_width}
    with torch.device("meta"):
        decoder = published.load(name).build(**sizes)
        features = {level: torch.empty(1, channels[level], *size) for level, size in SIZES.items()}
        pyramid = decoder.fpn(features)
    return decoder, features, list(pyramid.values())


@pytest.mark.parametrize("row", TABLE_7_2, ids=lambda row: "-".join(map(str, row[:4])))
def test_decoders_of_table_7_2(row):
    *which, fpn_params, head_params, fpn_macs, head_macs = row
    decoder, features, pyramid = on_meta(*which)
    assert [tuple(x.shape[-2:]) for x in pyramid] == [(136, 100), (68, 50), (34, 25), (17, 13), (9, 7)]
    fpn, head = count(decoder.fpn, features), count(decoder.head, pyramid)
    assert fpn.params / 1e6 == pytest.approx(fpn_params, abs=0.002)
    assert head.params / 1e6 == pytest.approx(head_params, abs=0.002)
    assert fpn.macs / 1e9 == pytest.approx(fpn_macs, abs=0.02)
    assert head.macs / 1e9 == pytest.approx(head_macs, abs=0.02)
    assert count(decoder, features).macs == fpn.macs + head.macs


@pytest.mark.parametrize(
    ("name", "params", "macs", "ptflops"),
    [("nas_fcos", 4368946, 79.128, 79.189), ("fpn_fcos", 4920666, 89.118, 89.194)],
)
def test_published_heads_to_the_last_parameter(name, params, macs, ptflops):
    decoder, _, pyramid = on_meta(name, 256, 256, "ResNet")
    head = count(decoder.head, pyramid)
    assert head.params == params
    assert (round(head.macs / 1e9, 3), round(head.ptflops / 1e9, 3)) == (macs, ptflops)


def test_every_kind_of_layer_by_hand():
    layers = {  # input 2×4×6×6
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2): (2 * 9 * 8 * 9 * 2, 2 * 8 * 9),
        nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False): (2 * 36 * 4 * 6 * 4, 0),
        nn.Linear(6, 5): (2 * 24 * 6 * 5, 2 * 24 * 5),
        DeformConv3x3(4, 8): (2 * 36 * 9 * 4 * (8 + 54), 2 * 36 * (8 + 54)),
        nn.BatchNorm2d(4): (0, 2 * 2 * 4 * 36),
        nn.ReLU6(): (0, 2 * 4 * 36),
        nn.GroupNorm(2, 4): (0, 0),
    }
    for layer, (macs, extra) in layers.items():
        counted = count(layer, torch.randn(2, 4, 6, 6))
        assert (counted.macs, counted.ptflops) == (macs, macs + extra), layer


@pytest.mark.parametrize("name", ["fcos_fpn_c2", "fcos_head", "fcos_decoder", "fpn_fcos"])
def test_macs_are_half_of_torch_s_flop_counter(name, features, sizes, monkeypatch):
    monkeypatch.setattr(DepthwiseConv2d, "forward", nn.Conv2d.forward)  # counts charge taps on padding, as tables do
    torch.manual_seed(0)
    decoder = search_spaces.get(name).sample(np.random.default_rng(3)).build(**sizes).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(features)
        if hasattr(decoder.fpn, "unused_adapters"):
            for adapter, x in decoder.fpn.unused_adapters(features):
                adapter(x)
    assert count(decoder, features).macs * 2 == counter.get_total_flops()


def test_the_module_is_left_as_it_was(features, sizes):
    decoder = published.load("nas_fcos").build(**sizes)
    decoder.fpn.requires_grad_(False)
    decoder.head.eval()
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    counted = count(decoder, features)
    assert counted.trainable_params == sum(p.numel() for p in decoder.head.parameters()) < counted.params
    assert decoder.fpn.training
    assert not decoder.head.training
    assert not any(m._forward_hooks for m in decoder.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())


def test_an_error_in_the_module_leaves_no_hooks(sizes):
    decoder = published.load("nas_fcos").build(**sizes)
    with pytest.raises(KeyError, match="C3"):
        count(decoder, {})
    assert not any(m._forward_hooks for m in decoder.modules())
    assert decoder.training


class Scaled(nn.Module):
    """A layer of a user's own, which says itself what it takes: 3 per output, and it has a bias."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4, 1, 1))

    def forward(self, x):
        return 2 * x + self.bias

    def macs(self, x, output):
        return 3 * output.numel()


class WithSpare(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.spare = Scaled(), nn.Conv2d(4, 2, 1, bias=False)

    def forward(self, x, y):
        return self.layer(x)

    def unused_adapters(self, x, y):
        return [(self.spare, y)]


def test_a_layer_states_its_own_macs_and_a_network_its_unused_adapters():
    x, y = torch.zeros(1, 4, 5, 6), torch.zeros(1, 4, 3, 2)
    alone = count(Scaled(), x)
    assert (alone.macs, alone.ptflops) == (3 * 120, 4 * 120)
    assert count(WithSpare(), x, y).macs == 3 * 120 + 6 * 4 * 2
    run = []
    network = WithSpare()
    network.spare.register_forward_hook(lambda *_: run.append(1))
    network(x, y)
    assert run == []
