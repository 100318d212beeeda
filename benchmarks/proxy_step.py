"""One proxy training step of the published NAS-FCOS decoder: the fast operations against the plain ones.

    python benchmarks/proxy_step.py

fast: channels-last tensors and the CPU's deformable convolution. Plain: contiguous tensors and torchvision's kernel.
The step is forward, loss, backward and Adam; both ways start from the same weights, and the first losses are printed.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import torch
import torchvision
from torch import nn

from experiments import published
from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.fcos.loss import fcos_loss_sums
from proxy_tasks.fcos.settings import PRESETS
from proxy_tasks.fcos.targets import Locations, assign
from proxy_tasks.images import padded
from search_spaces import Architecture
from search_spaces.parts import deform_conv

STRIDES = (4, 8, 16, 32)


def torchvision_kernel(x, offset, weight, bias, mask, padding=1, dilation=1):
    """The signature of our CPU function over torchvision's kernel."""
    return torchvision.ops.deform_conv2d(x, offset, weight, bias, padding=padding, dilation=dilation, mask=mask)


def built(architecture: Architecture, given: argparse.Namespace) -> nn.Module:
    """The decoder with weights from a seed of its own."""
    torch.manual_seed(0)
    widths = {"fpn_width": given.width, "head_width": given.head_width}
    return architecture.build(in_channels=channels_of_backbone(given.backbone), num_classes=20, **widths)


def steps(
    decoder: nn.Module,
    given: argparse.Namespace,
    memory_format: torch.memory_format = torch.channels_last,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[float, float, float]:
    """Seconds of the first step, the median of the repeats after it, and the first loss; ``precision`` is forward's."""
    torch.manual_seed(0)
    channels, decoder = channels_of_backbone(given.backbone), decoder.to(memory_format=memory_format)
    features = {
        name: torch.randn(given.batch_size, width, padded(given.crop) // stride, padded(given.crop) // stride)
        for (name, width), stride in zip(channels.items(), STRIDES, strict=True)
    }
    features = {name: value.contiguous(memory_format=memory_format) for name, value in features.items()}
    boxes = torch.rand(given.batch_size, 5, 2) * given.crop / 2
    boxes = torch.cat([boxes, boxes + 8 + torch.rand(given.batch_size, 5, 2) * given.crop / 2], dim=-1)
    locations = Locations.of(given.crop, PRESETS["demo"].interest)
    targets = assign(boxes, torch.randint(20, boxes.shape[:2]), locations)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=8e-4, foreach=True)
    times, losses = [], []
    for _ in range(given.repeats + 1):
        begin = time.perf_counter()
        with precision():
            outputs = decoder(features)
        loss = fcos_loss_sums(_float32(outputs), targets, locations.sizes).total()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - begin)
        losses.append(float(loss.detach()))
    return times[0], float(torch.tensor(times[1:]).median()), losses[0]


def _float32(outputs: Any) -> Any:
    """Outputs of a decoder, tensors and lists of them by name."""
    return {k: v.float() if isinstance(v, torch.Tensor) else [x.float() for x in v] for k, v in outputs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    given.head_width = 2 * given.width
    nas_fcos = published.load("nas_fcos")
    _, fast, fast_loss = steps(built(nas_fcos, given), given)
    with mock.patch.object(deform_conv, "deform_conv2d", torchvision_kernel):
        _, plain, plain_loss = steps(built(nas_fcos, given), given, torch.contiguous_format)
    print(f"nas_fcos @{given.width}-{given.head_width}, {given.crop} px, batch {given.batch_size}, ", end="")
    print(f"{torch.get_num_threads()} threads; first losses {fast_loss:.5f} and {plain_loss:.5f}")
    print("| fast, s | plain, s | ratio |\n| --- | --- | --- |")
    print(f"| {fast:.3f} | {plain:.3f} | {plain / fast:.1f} |")


if __name__ == "__main__":
    main()
