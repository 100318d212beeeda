"""ONNX against torch: the largest difference before suppression, and milliseconds a frame side by side.

    python -m benchmarks.onnx_parity [--data DETECTION] [--video VIDEO] [--backbone NAME] [--width N] [--only TASK]

exports every registered space (an architecture drawn with seed 0) and every published architecture, or those of one
proxy task (``masks``), compares onnxruntime with torch on images of the data (the built-in ones by default), and times
both on the first of them, one frame at a time (``--threads``). Weights and batch norm statistics are drawn wide, so
that offsets of deformable convolutions and class scores are not those of a fresh network, which would hide errors.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import FCOS

import search_spaces
from experiments import published
from experiments.families import family_of
from experiments.graphs import Graph
from experiments.timing import median_milliseconds
from nas.exporting.networks import prepare
from nas.exporting.onnx_files import difference, export, graphs_of, session
from nas.exporting.writers import SAMPLES
from search_spaces import Architecture

REPEATS = 9


def architectures() -> dict[str, Architecture]:
    found = {name: published.load(name) for name in published.names()}
    for name in search_spaces.names():
        space = search_spaces.get(name)
        if space.choices:
            found[f"{name} (drawn)"] = space.sample(np.random.default_rng(0))
    return found


def widen(network: nn.Module) -> None:
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            with torch.no_grad():
                parameter.normal_(0, parameter[0].numel() ** -0.5)


def measure(name: str, graph: Graph, model: bytes, clips: list[torch.Tensor]) -> None:
    worst = max(difference(graph, model, clip).relative for clip in clips)
    arguments = graph.arguments(clips[0][:, :1])
    runtime = session(model)
    inputs = {key: value.numpy() for key, value in zip(graph.inputs, arguments, strict=True)}
    with torch.inference_mode():
        ours = median_milliseconds(lambda: graph(*arguments), "cpu", REPEATS, warmup=1)
    theirs = median_milliseconds(lambda: runtime.run(None, inputs), "cpu", REPEATS, warmup=1)
    height, width = clips[0].shape[-2:]
    label = name + graph.suffix.replace(".", ", ")
    print(
        f"{label:<34}{f'{height}x{width}':>12}{worst:12.1e}{ours:10.1f}{theirs:14.1f}{ours / theirs:8.2f}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a detection data set")
    parser.add_argument("--video", help="a video data set")
    parser.add_argument("--backbone", help="instead of the builders' own")
    parser.add_argument("--width", type=int, help="instead of the builders' own")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch and of onnxruntime")
    parser.add_argument("--only", help="a proxy task")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sizes = {name: value for name in ("backbone", "width") if (value := getattr(given, name)) is not None}
    print(f"{given.threads} threads; relative difference before suppression; median of {REPEATS}, ms a frame")
    print(f"{'':<34}{'image':>12}{'difference':>12}{'torch':>10}{'onnxruntime':>14}{'ratio':>8}")
    for name, architecture in architectures().items():
        task = architecture.space.proxy_task
        if given.only not in (None, task):
            continue
        samples = family_of(architecture.space).function("samples")
        clips, _ = samples(given.video if task == "video" else given.data, SAMPLES)
        exported = prepare(name, architecture, sizes)
        widen(exported.network)
        if isinstance(exported.network, FCOS):
            exported.network.score_thresh = 1.0  # no candidates: networks are timed, not the suppression of noise
        for graph in graphs_of(exported):
            measure(name, graph, export(graph, exported), clips)


if __name__ == "__main__":
    main()
