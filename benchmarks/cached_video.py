"""One cell's evaluation on the static network's cached outputs against that network run on the frames in every step.

    python benchmarks/cached_video.py --data path/to/camvid --static static.pth --set long_side=240 epochs=2

takes the settings of ``--preset paper`` with those of ``--set`` instead, trains and scores each of a few random cells
both ways, on the same batches, and prints the seconds, the sequences learned per second of training and the ratio of
the two evaluations. Rewards differ by the rounding of the cache to float16.
"""

import argparse
import dataclasses
import time
from functools import partial
from typing import Any

import numpy as np
import torch

import search_spaces
from nas.settings import read_pair
from proxy_tasks import TaskOptions
from proxy_tasks.images import normalise
from proxy_tasks.rows import Numbers
from proxy_tasks.video.preparing import Side
from proxy_tasks.video.task import VideoTask
from proxy_tasks.video.training import score, train_cell


class Uncached:
    """`StaticOutputs` with a network that runs anew for every batch; the decoder only where ``dec`` is asked for."""

    def __init__(self, task: VideoTask, side: Side):
        self._static, self._frames, self.device = task.prepared.static.network, side.frames, task.device
        self.labels = side.outputs.labels

    def maps(self, names: tuple[str, ...], indices: Numbers) -> dict[str, torch.Tensor]:
        images = self._frames.images(np.asarray(indices)).to(self.device)
        with torch.no_grad():
            features: dict[str, Any] = self._static.body(normalise(images))
            if "dec" in names:
                features["dec"] = self._static.decoder(features)["dec"]
        return {name: features[name] for name in names}


def evaluated(task: VideoTask, sides: list[Side], architecture) -> tuple[float, float, float]:
    """Seconds of the whole evaluation, which scores twice, sequences per second of its training, and the reward."""
    (learned, scored), settings = sides, task.settings
    classifier = task.prepared.static.network.decoder.classifier
    cell, begin = task.build(architecture, 0), time.perf_counter()
    for _, steps in train_cell(cell, classifier, learned, settings, 0):  # noqa: B007
        pass
    trained = time.perf_counter()
    outputs = partial(scored.unrolled, cell.eval(), classifier)
    reward = score(outputs, scored, len(task.prepared.classes), settings.batch_size)["score"]
    training, scoring = trained - begin, time.perf_counter() - trained
    return training + 2 * scoring, min(settings.batch_size, len(learned.sequences)) * steps / training, reward


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
    cached, rng = [task.prepared.meta_train, task.prepared.meta_val], np.random.default_rng(given.seed)
    uncached = [dataclasses.replace(side, outputs=Uncached(task, side)) for side in cached]
    print(f"{task.open_data().describe()}; {task.settings}; {torch.get_num_threads()} threads, {task.device}\n")
    print("| cell | cached, s | sequences/s | uncached, s | sequences/s | ratio | rewards |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for _ in range(given.cells):
        architecture = task.space.sample(rng)
        (short, fast, one), (long, slow, two) = (evaluated(task, sides, architecture) for sides in (cached, uncached))
        ratio = f"{short:.1f} | {fast:.1f} | {long:.1f} | {slow:.1f} | {long / short:.2f}"
        print(f"| {architecture.key} | {ratio} | {one:.4f}, {two:.4f} |", flush=True)


if __name__ == "__main__":
    main()
