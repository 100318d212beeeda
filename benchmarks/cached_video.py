"""One cell's evaluation on the static network's cached outputs against that network run on the frames in every step.

    python benchmarks/cached_video.py --data path/to/camvid --static static.pth --set long_side=240 epochs=2

takes the settings of ``--preset paper`` with those of ``--set`` instead, trains and scores each of a few random cells
both ways, on the same batches, and prints the seconds, the sequences learned per second of training and the ratio of
the two evaluations. Rewards differ by the rounding of the cache to float16.
"""

import argparse
import time
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

import search_spaces
from nas.settings import read_pair
from proxy_tasks import TaskOptions
from proxy_tasks.images import normalise
from proxy_tasks.video.task import VideoTask


class Uncached:
    """`StaticOutputs` with a network that runs anew for every batch; the decoder only where ``dec`` is asked for."""

    def __init__(self, task: VideoTask):
        self._task, self.labels = task, task.outputs.labels

    def maps(self, names: tuple[str, ...], indices: np.ndarray) -> dict[str, torch.Tensor]:
        static, images = self._task.static, self._task.frames.images(indices).to(self._task.device)
        with torch.no_grad():
            features: dict[str, Any] = static.body(normalise(images))
            if "dec" in names:
                features["dec"] = static.decoder(features)["dec"]
        return {name: features[name] for name in names}


@contextmanager
def timed(task: VideoTask):
    """A list that gets the seconds of every training step, data and all, while the context lasts."""
    training, steps = task._training, []

    def measured(cell, seed):
        begin = time.perf_counter()
        for item in training(cell, seed):
            steps.append(time.perf_counter() - begin)
            yield item
            begin = time.perf_counter()

    task._training = measured
    yield steps
    task._training = training


def evaluated(task: VideoTask, outputs, architecture) -> tuple[float, float, float]:
    """Seconds of the whole evaluation, sequences per second of its training, and the reward."""
    task.outputs = outputs
    begin = time.perf_counter()
    with timed(task) as steps:
        *_, score = task.evaluate(architecture, 0)
    size = min(task.settings.batch_size, len(task.meta_train))
    return time.perf_counter() - begin, size * len(steps) / sum(steps), score.reward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", default="video_cell", choices=("video_cell", "video_cell_4"))
    parser.add_argument("--data")
    parser.add_argument("--static")
    parser.add_argument("--cache-dir")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cells", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE")
    given = parser.parse_args()
    sizes = dict(read_pair("--set", text) for text in given.set)
    options = TaskOptions(
        **{name: getattr(given, name) for name in ("data", "static", "cache_dir", "device", "seed")},
        preset="paper",
        reward="metric",
        backbone_weights="none",
        overrides=({} if given.static else {"pretrain_iterations": 0}) | sizes,
    )
    task = VideoTask(search_spaces.get(given.space), options)
    task.prepare(lambda what, done, total: None)
    cached, uncached, rng = task.outputs, Uncached(task), np.random.default_rng(given.seed)
    print(f"{task.open_data().describe()}; {task.settings}; {torch.get_num_threads()} threads, {task.device}\n")
    print("| cell | cached, s | sequences/s | uncached, s | sequences/s | ratio | rewards |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for _ in range(given.cells):
        architecture = task.space.sample(rng)
        (short, fast, one), (long, slow, two) = (evaluated(task, each, architecture) for each in (cached, uncached))
        ratio = f"{short:.1f} | {fast:.1f} | {long:.1f} | {slow:.1f} | {long / short:.2f}"
        print(f"| {architecture.key} | {ratio} | {one:.4f}, {two:.4f} |", flush=True)


if __name__ == "__main__":
    main()
