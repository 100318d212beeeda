"""Trials at the shapes of the published searches on a GPU, and from them the GPU-hours of the whole searches.

    python benchmarks/gpu_trials.py [--architectures 5] [--device cuda]

Drawn architectures are trained and scored as a search does, in several ways: as trials run on a GPU, a step captured in
a CUDA graph with bfloat16; so, but with maps in contiguous layout, where features come in channels_last; so, but with
group norm and ReLU, which only decoders have, compiled into one kernel; and step by step in float32. Decoders of both
stages train on generated features of ResNet-50 (384 px, 4000 + 1715 crops, batch 200, 300 steps; 24 GB of the GPU's
memory), cells on drawn clips with as many frames and pixels as CamVid's (370 of 416 x 416, sequences of 3, batch 48, 20
epochs) around a static network that has learnt nothing. The hours are those of the 2,800 FPNs and 600 heads that the
published search took 28 GPU-days for, and of as many cells as the paper preset draws, for which 2 GPU-days were
published without their number. ``--device cpu --small`` shows that the script runs, no more.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

import search_spaces
from experiments.timing import device_name
from proxy_tasks import TaskOptions, precision, training
from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.data.video import MovingShapes
from proxy_tasks.fcos.decoders import STRIDES
from proxy_tasks.fcos.detector import parse_width
from proxy_tasks.fcos.targets import BACKGROUND, level_sizes
from proxy_tasks.fcos.task import FCOSTask
from proxy_tasks.images import padded
from proxy_tasks.rows import Numbers
from proxy_tasks.task import Score
from proxy_tasks.video import training as video_training
from proxy_tasks.video.task import VideoTask
from search_spaces import Architecture, SearchSpace
from search_spaces.fcos.choices import LEVELS
from search_spaces.parts.precision import as_it_is

TRIALS = {"fcos_fpn": 2800, "fcos_head": 600}  # of the published search
CELLS = {"video_cell": 2000}  # of the paper preset
CROPS = (4000, 1715)  # of meta-train and meta-val
CLIPS = {"count": 10, "length": 37, "size": 416}
SMALL: dict[str, Any] = {"crop": 64, "batch_size": 4, "iterations": 5}
SMALL_CLIPS = {"count": 4, "length": 4, "size": 64}
CLASSES = 20  # of VOC
FOREGROUND = 0.02  # of all locations


class Generated:
    """The cache's interface over random features and targets, which lie on the device whole."""

    def __init__(self, maps: dict[str, tuple[int, int]], crops: int, locations: int, device: torch.device):
        self.names, self.key, self._device = tuple(maps), "generated", device
        draw = torch.Generator(device).manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=torch.float16, device=device).normal_(generator=draw)

        self._arrays = {name: normal(crops, side, side, channels) for name, (channels, side) in maps.items()}
        drawn = torch.rand(crops, locations, generator=draw, device=device)
        found = drawn < FOREGROUND
        labels = (drawn * CLASSES / FOREGROUND).long().where(found, BACKGROUND)
        self._arrays["labels"] = labels.to(torch.int16)
        self._arrays["distances"] = (
            8 * torch.rand(crops, locations, 4, generator=draw, device=device) * found[..., None]
        )
        self._arrays["centerness"] = torch.rand(crops, locations, generator=draw, device=device) * found

    def rows(self, name: str, indices: Numbers) -> Tensor:
        return self._arrays[name].index_select(0, torch.as_tensor(indices).to(self._device))

    def features(self, indices: Numbers) -> dict[str, Tensor]:
        dtype = precision.dtype_on(self._device)
        return {name: self.rows(name, indices).permute(0, 3, 1, 2).to(dtype) for name in self.names}


def task_of(space: str, device: str, crops: tuple[int, int], overrides: dict[str, Any]) -> tuple[FCOSTask, Generated]:
    """A task of the paper's preset, without data, and what its trials train on."""
    options = TaskOptions(preset="paper", device=device, backbone="resnet50", overrides=overrides)
    task = FCOSTask(search_spaces.get(space), options)
    prepared = SimpleNamespace(crops=SimpleNamespace(classes=range(CLASSES)), meta_train=np.arange(crops[0]))
    task._prepared = prepared  # type: ignore[assignment]
    sides = level_sizes(task.settings.crop)
    if task.head_only:
        _, wide = parse_width(task.width)
        maps = {name: (wide, side) for name, side in zip(LEVELS, sides, strict=True)}
    else:
        channels = channels_of_backbone("resnet50")
        side = padded(task.settings.crop)
        maps = {name: (channels[name], side // stride) for name, stride in zip(channels, STRIDES, strict=True)}
        del maps["C2"]  # which these spaces do not take
    return task, Generated(maps, sum(crops), sum(side * side for side in sides), task.device)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Within it trials run step by step in float32."""
    with (
        mock.patch.object(training, "losses_of_steps", map),
        mock.patch.object(video_training, "losses_of_steps", map),
        mock.patch.object(precision, "_lower", return_value=None),
    ):
        yield


@contextlib.contextmanager
def contiguous() -> Iterator[None]:
    """Within it weights are contiguous, and convolutions take, and so give, contiguous maps."""
    to = nn.Module.to

    def inputs(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return tuple(x.contiguous() for x in given) if isinstance(module, nn.Conv2d) else None

    def moved(module: nn.Module, *place: Any, memory_format: Any = None, **how: Any) -> nn.Module:
        return to(module, *place, **how)

    hook = register_module_forward_pre_hook(inputs)
    try:
        with mock.patch.object(nn.Module, "to", moved):
            yield
    finally:
        hook.remove()


@torch.compile
def _norm_relu(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.relu(F.group_norm(x, groups, weight, bias, eps))


def _forward(layers: nn.Sequential, x: Tensor) -> Tensor:
    """As `nn.Sequential`'s, with one kernel for a group norm and the ReLU behind it."""
    rest = list(layers)
    while rest:
        layer = rest.pop(0)
        if isinstance(layer, nn.GroupNorm) and rest and isinstance(rest[0], nn.ReLU) and x.shape[-1] > 1:
            with as_it_is(x):
                weight, bias = layer.weight.to(x.dtype), layer.bias.to(x.dtype)
                x = _norm_relu(x, layer.num_groups, weight, bias, layer.eps)
            del rest[0]
        else:
            x = layer(x)
    return x


def compiled() -> contextlib.AbstractContextManager[object]:
    """Within it a group norm and the ReLU behind it are one compiled kernel."""
    return mock.patch.object(nn.Sequential, "forward", _forward)


CAPTURED, COMPILED, PLAIN = "captured, bfloat16", "captured, bfloat16, compiled norms", "step by step, float32"
WAYS: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
    CAPTURED: contextlib.nullcontext,
    "captured, bfloat16, contiguous": contiguous,
    COMPILED: compiled,
    PLAIN: plain,
}

Evaluated = Callable[[Architecture], float]  # trains and scores; gives the final loss


@contextlib.contextmanager
def decoders(space: SearchSpace, device: str, small: bool) -> Iterator[Evaluated]:
    """Trials of a stage of detection decoders, scored halfway and at the end."""
    crops = (8, 4) if small else CROPS
    task, cache = task_of(space.name, device, crops, SMALL if small else {})
    meta_val = np.arange(crops[0], sum(crops))

    def evaluated(architecture: Architecture) -> float:
        losses = [task.losses(model, cache, meta_val)["loss"] for _, model in task.training(architecture, 0, cache)]
        return losses[-1]

    yield evaluated


@contextlib.contextmanager
def cells(space: SearchSpace, device: str, small: bool) -> Iterator[Evaluated]:
    """Whole trials of dynamic cells."""
    clips = MovingShapes(**(SMALL_CLIPS if small else CLIPS))
    settings = {"pretrain_iterations": 0} | ({"epochs": 1} if small else {})
    with tempfile.TemporaryDirectory() as root, mock.patch.object(VideoTask, "open_data", return_value=clips):
        options = TaskOptions(
            preset="paper", device=device, cache_dir=root, backbone_weights="none", overrides=settings
        )
        task = VideoTask(space, options)
        task.prepare(lambda what, done, total: None)

        def evaluated(architecture: Architecture) -> float:
            *_, score = task.evaluate(architecture)
            assert isinstance(score, Score)
            return score.metrics["loss"]

        yield evaluated


def measured(
    space: str, architectures: int, device: str, small: bool = False, ways: Sequence[str] = (CAPTURED, PLAIN)
) -> np.ndarray:
    """Seconds and losses, (architectures, ways, 2), after a first trial of each way that is not counted."""
    drawn, rng, found = search_spaces.get(space), np.random.default_rng(0), []

    def timed(evaluated: Evaluated, architecture: Architecture, way: str) -> tuple[float, float]:
        with WAYS[way]():
            begin = time.perf_counter()
            loss = evaluated(architecture)  # a number: the device has finished
            return time.perf_counter() - begin, loss

    with (cells if space in CELLS else decoders)(drawn, device, small) as evaluated:
        for number in range(-1, architectures):
            architecture = drawn.sample(rng)
            figures = [timed(evaluated, architecture, way) for way in ways]
            if number >= 0:
                found.append(figures)
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--architectures", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="shapes that take a CPU seconds")
    given = parser.parse_args()
    print(f"{device_name(given.device)}, torch {torch.__version__}")
    print(f"| space | way | a trial, s | times as fast as {PLAIN} | largest gap of losses | trials an hour |")
    print("| --- " * 6 + "|")
    hours = {}
    for space, trials in (TRIALS | CELLS).items():
        ways = [way for way in WAYS if way != COMPILED or space not in CELLS]  # cells have batch norm
        found = measured(space, given.architectures, given.device, given.small, ways)
        seconds = dict(zip(ways, found[..., 0].mean(axis=0), strict=True))
        gaps = np.abs(found[..., 1] - found[:, -1:, 1]).max(axis=0)
        for (way, took), gap in zip(seconds.items(), gaps, strict=True):
            figures = f"{took:.2f} | {seconds[PLAIN] / took:.1f} | {gap:.4f} | {3600 / took:.0f}"
            print(f"| {space} | {way} | {figures} |", flush=True)
        hours[space] = trials * seconds[CAPTURED] / 3600
    decoders_take = sum(hours[space] for space in TRIALS)
    print(f"Hours of this device: {decoders_take:.1f} for the published search's 2,800 FPNs and 600 heads,", end=" ")
    print(f"{hours['video_cell']:.1f} for 2,000 cells")


if __name__ == "__main__":
    main()
