"""One mask head's evaluation on cached RoIs against the frozen network run on the images in every step.

    python benchmarks/cached_rois.py --data path/to/nuclei

prints both times, their ratio, the ratio that the MACs predict, and the bytes that a RoI takes in the cache. Uncached,
a step runs backbone, pyramid, proposals and box stages on the crops that its RoIs are of; a training step of the branch
costs three times its forward pass, in which stage t runs the stages before it too.
"""

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import proxy_tasks
import search_spaces
from experiments import published
from proxy_tasks.masks.cached_rois import Reader, learned
from proxy_tasks.masks.cascade import MASK_SIZE
from proxy_tasks.masks.costs import complexity
from proxy_tasks.masks.frozen import PROPOSALS
from proxy_tasks.masks.task import MaskTask
from proxy_tasks.rows import Numbers
from proxy_tasks.training import in_parts, minibatches
from search_spaces.parts.complexity import count


class Uncached:
    """The cached RoIs' interface over a network that runs anew for every batch."""

    def __init__(self, task: MaskTask):
        prepared = task.prepared
        self._kept, self.stages = prepared.learned, prepared.learned.stages
        self._reader = Reader(prepared.network, prepared.rows, task.device)
        self._count, self._seed = task.settings.rois, task.options.seed
        self._crops = self._kept["crops"]
        first = np.unique(self._crops, return_index=True)
        self._first = dict(zip(*(one.tolist() for one in first), strict=True))
        self._batch: tuple[bytes, dict[str, Tensor]] = (b"", {})

    def _of(self, name: str, indices: np.ndarray) -> Tensor:
        """The rows of an array, computed together with all others of the batch."""
        if self._batch[0] != indices.tobytes():
            crops = np.unique(self._crops[indices])
            with torch.inference_mode():
                found = learned(self._reader, crops, self._count, self._seed)
            starts = np.searchsorted(found["crops"].numpy(), self._crops[indices])
            places = [self._first[int(crop)] for crop in self._crops[indices]]
            chosen = torch.from_numpy(starts + indices - np.array(places))
            self._batch = indices.tobytes(), {key: value[chosen].clone() for key, value in found.items()}
        return self._batch[1][name]

    def rows(self, name: str, indices: Numbers) -> Tensor:
        return self._of(name, np.asarray(indices))

    def maps(self, names: Iterator[str], indices: Numbers) -> dict[str, Tensor]:
        return {name: self._of(name, np.asarray(indices)).permute(0, 3, 1, 2).float() for name in names}


class Learning(nn.Module):
    """All stages of a branch as a training step runs them, on one RoI each."""

    def __init__(self, branch: Any):
        super().__init__()
        self.branch = branch

    def forward(self, roi: Tensor) -> None:
        for stage in range(len(self.branch.stages)):
            self.branch.masks(stage, roi, roi)


def predicted(task: MaskTask, architecture: Any) -> float:
    """The ratio of the MACs of an evaluation, uncached over cached."""
    settings, prepared = task.settings, task.prepared
    with torch.device("meta"):
        roi = torch.empty(1, settings.width, MASK_SIZE, MASK_SIZE)
        branch = count(Learning(task.build(architecture, 0).to("meta")), roi).macs
    frozen = complexity(prepared.network, (settings.crop, settings.crop), boxes=PROPOSALS, masks=0).macs
    crops, rows = prepared.learned["crops"], 3 * settings.batch_size * settings.iterations + len(prepared.meta_val)
    batches = [*minibatches(prepared.meta_train, settings.batch_size, settings.iterations, 0)]
    batches += in_parts(prepared.meta_val, settings.batch_size)
    images = sum(len(np.unique(crops[batch])) for batch in batches)
    return (rows * branch + images * frozen) / (rows * branch)


def seconds(task: MaskTask, architecture: Any) -> tuple[float, float]:
    begin = time.perf_counter()
    *_, (_, branch) = task.training(architecture, 0)
    loss = task.losses(branch, task.prepared.meta_val)["loss"]
    return time.perf_counter() - begin, loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--architecture", default="htca_d", choices=published.names())
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--cache-dir")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        overrides = {"iterations": given.iterations, "pretrain_iterations": 2}
        options = proxy_tasks.TaskOptions(
            data=given.data, backbone=given.backbone, cache_dir=given.cache_dir or folder, overrides=overrides
        )
        architecture = published.load(given.architecture)
        task = proxy_tasks.make("masks", search_spaces.get(architecture.space.name), options)
        task.prepare(lambda what, done, total: None)
        cached, loss = seconds(task, architecture)
        bound = predicted(task, architecture)
        kept = task.prepared.learned
        names = [f"{rule}_1" for rule in ("fpn", "area", "semantic")] + ["targets_1", "boxes_1", "labels_1"]
        size = sum(kept[name][0].nbytes for name in names if name != "semantic_1" or kept.stages > 1)
        task._prepared = dataclasses.replace(task.prepared, learned=Uncached(task))
        uncached, same = seconds(task, architecture)
    print("| cached, s | uncached, s | ratio | bound by MACs | ratio / bound | loss, both ways | bytes a RoI |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ratio = uncached / cached
    losses = f"{loss:.4f}, {same:.4f}"
    print(f"| {cached:.2f} | {uncached:.2f} | {ratio:.2f} | {bound:.2f} | {ratio / bound:.2f} | {losses} | {size} |")


if __name__ == "__main__":
    main()
