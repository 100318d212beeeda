"""One candidate's evaluation on cached features against the backbone run on the decoded images in every step.

    python benchmarks/cached_features.py --backbone mobilenet_v2

prints both times, their ratio and the ratio that the MACs predict: a training step costs three times a decoder's
forward pass, the frozen backbone its forward pass alone.
"""

import argparse
import tempfile
import time

import numpy as np
import torch

import proxy_tasks
import search_spaces
from experiments import published
from proxy_tasks.fcos.preparing import Prepared
from proxy_tasks.fcos.task import FCOSTask
from proxy_tasks.images import detector_input, padded
from proxy_tasks.rows import Numbers
from search_spaces.parts.complexity import count


class Uncached:
    """A feature cache's interface over a backbone that runs anew for every batch."""

    def __init__(self, prepared: Prepared):
        self._body, self._crops, self.rows = prepared.body, prepared.crops, prepared.cache.rows

    def features(self, indices: Numbers) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            maps = self._body(detector_input(self._crops.images(np.asarray(indices))))
        return {
            name: value.clone() for name, value in maps.items()
        }  # out of inference mode: the decoder is trained on it


def seconds(task: FCOSTask, features, architecture) -> float:
    begin = time.perf_counter()
    model = task.train(architecture, 0, features)
    task.losses(model, features, task.prepared.meta_val)
    return time.perf_counter() - begin


def predicted(task: FCOSTask, architecture, backbone_macs: float) -> float:
    decoder_macs = task.complexity(architecture)["macs"]
    trained, scored = task.settings.iterations * task.settings.batch_size, len(task.prepared.meta_val)
    cached = (3 * trained + scored) * decoder_macs
    return (cached + (trained + scored) * backbone_macs) / cached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--architecture", default="fpn_fcos", choices=published.names())
    parser.add_argument("--crop", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--width", default="32-64")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    settings = {name: getattr(given, name) for name in ("crop", "batch_size", "iterations", "width")}
    with tempfile.TemporaryDirectory() as root:
        options = proxy_tasks.TaskOptions(
            cache_dir=root,
            backbone=given.backbone,
            backbone_weights="none",
            overrides=settings | {"pretrain_iterations": 0},
        )
        task = FCOSTask(search_spaces.get("fcos_decoder_c2"), options)
        task.prepare(lambda what, done, total: None)
        architecture, uncached = published.load(given.architecture), Uncached(task.prepared)
        with torch.device("meta"):
            images = torch.empty(1, 3, padded(given.crop), padded(given.crop))
            body = proxy_tasks.backbones.make_backbone(given.backbone, "none")
            bound = predicted(task, architecture, float(count(body, images).macs))
        times = [
            (seconds(task, task.prepared.cache, architecture), seconds(task, uncached, architecture))
            for _ in range(given.repeats)
        ]
    cached, without = np.median(np.array(times), axis=0)
    print(f"{given.backbone}, {given.architecture} @{given.width}, {given.crop} px, {torch.get_num_threads()} threads")
    print("| cached, s | uncached, s | ratio | bound by MACs | ratio / bound |\n| --- | --- | --- | --- | --- |")
    print(f"| {cached:.2f} | {without:.2f} | {without / cached:.2f} | {bound:.2f} | {without / cached / bound:.2f} |")


if __name__ == "__main__":
    main()
