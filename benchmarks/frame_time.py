"""Milliseconds a frame of the per-frame baseline and of a run's promoted cells, and the baseline's score on meta-val.

    python benchmarks/frame_time.py RUN --data path/to/camvid --static static.safetensors --scale 0.5

The networks take turns, five times, so that a busy moment does not fall on one of them alone; the median of the five
medians is printed. The score is the search's own, of the static network frame by frame.
"""

import argparse
import statistics

import torch

from experiments.video.evaluation import cost
from nas.exporting.source import find_source
from nas.run.reading import Run
from nas.searching.plan import make_plan, task_factory
from proxy_tasks.data.video import open_video
from proxy_tasks.video.network import build_segmenter
from proxy_tasks.weights import load_weights
from search_spaces import Architecture

TURNS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--data", required=True)
    parser.add_argument("--static", required=True)
    parser.add_argument("--top", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0)
    given = parser.parse_args()
    run, data = Run(given.run), open_video(given.data, "test")
    task = task_factory(make_plan(run.settings)[0], run.settings, None)()
    task.prepare(lambda *_: None)
    print("the static network on meta-val:", task.baseline())

    networks = {"baseline": (Architecture.of("arch2", ()), given.static)}
    found = [find_source(given.run, rank) for rank in range(1, given.top + 1)]
    networks |= {source.name: (source.architecture, source.weights()) for source in found}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in networks}
    for _ in range(TURNS):
        for name, (architecture, weights) in networks.items():
            network = build_segmenter(
                architecture, task.settings.backbone, num_classes=len(data.classes), width=task.settings.width
            )
            load_weights(network, weights)
            network = network.to(memory_format=torch.channels_last)
            times[name].append(cost(network, data, given.scale, torch.device("cpu")))
    for name, found in times.items():
        median = {key: statistics.median(one[key] for one in found) for key in found[0]}
        print(f"{name:<18} first {median['ms_first']:6.1f} ms, following {median['ms_following']:6.1f} ms")


if __name__ == "__main__":
    main()
