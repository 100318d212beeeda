"""Trained segmentation networks side by side over training seeds: figures, classes, distance from the keyframe.

    python benchmarks/video_table.py --data path/to/camvid baseline=static0/arch2-camvid_static-…,static1/arch2-… \
        "cell 1=promoted0/…,promoted1/…" --interval 3 --out distance.csv

Every name has its trainings' folders, one a seed, in the same order of seeds; the first name is what the others are
held against. The figures and the IoU of each class are those of the folders' ``result.json``. By distance: the test
clips are played as in evaluation, and the mIoU is taken over the frames that are so far from the last keyframe; of a
network that looks at every frame by itself over the same frames. Rows of the CSV that are there are not measured again.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

from experiments.job_folder import read_job, read_result, trained_sizes
from experiments.video.evaluation import predictions
from proxy_tasks.data.video import open_video
from proxy_tasks.data.video.base import VideoDataset
from proxy_tasks.video.metrics import SegmentationMeter
from proxy_tasks.video.network import build_segmenter
from proxy_tasks.weights import load_weights
from search_spaces import SPACES

CLASSIFIERS = ("decoder.classifier.bias", "static.decoder.classifier.bias")
TOTALS = ("miou", "macc", "gacc", "tiou")


def by_distance(folder: Path, data: VideoDataset, interval: int) -> list[float]:
    """The mIoU of the frames at each distance from the last keyframe, from 0 on."""
    job = read_job(folder / "job.json")
    sizes = trained_sizes(folder / "weights.safetensors", CLASSIFIERS)
    network = build_segmenter(SPACES.get(job["space"]).from_named(job["choices"]), **sizes)
    load_weights(network, folder / "weights.safetensors")
    network = network.to(memory_format=torch.channels_last)
    place = {index: position for clip in data.clips for position, index in enumerate(clip)}
    meters = [SegmentationMeter(len(data.classes)) for _ in range(interval)]
    for index, found in predictions(network, data, job["recipe"]["scale"], interval, torch.device("cpu")):
        if data.annotated[index]:
            meters[place[index] % interval].update(found, data.labels(index))
    return [meter.result()[0].miou for meter in meters]


def measured(folders: dict[str, list[Path]], data: VideoDataset, interval: int, file: Path) -> pd.DataFrame:
    """One row a name, seed and distance."""
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    there = {(row["name"], row["seed"]) for row in rows}
    for name, places in folders.items():
        for seed, folder in enumerate(places):
            if (name, seed) not in there:
                found = by_distance(folder, data, interval)
                rows += [{"name": name, "seed": seed, "distance": d, "miou": miou} for d, miou in enumerate(found)]
                pd.DataFrame(rows).to_csv(file, index=False)
    return pd.DataFrame(rows)


def figures(folders: dict[str, list[Path]]) -> pd.DataFrame:
    """One row a name and seed: the figures of the folders' results, in per cent."""
    rows = []
    for name, places in folders.items():
        for seed, folder in enumerate(places):
            result = read_result(folder)
            assert result is not None, f"{folder} is not finished"
            shares = {key: 100 * value for key, value in result["metrics"].items()}
            rows.append({"name": name, "seed": seed, **shares, "macs": result["cost"]["macs_following"] / 1e9})
    return pd.DataFrame(rows)


def side_by_side(frame: pd.DataFrame, columns: list[str]) -> str:
    """A Markdown table: a row a name, the seeds' values, and their mean gain over the first name's."""
    names = list(dict.fromkeys(frame["name"]))
    lines = [f"| network | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    values = {name: frame[frame["name"] == name].set_index("seed")[columns] for name in names}
    for name in names:
        cells = [" / ".join(f"{value:.1f}" for value in values[name][column]) for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name in names[1:]:
        gains = (values[name] - values[names[0]]).mean()
        lines.append(f"| {name}, mean gain | {' | '.join(f'{gains[column]:+.1f}' for column in columns)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER,…")
    parser.add_argument("--data", required=True)
    parser.add_argument("--interval", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("distance.csv"))
    given = parser.parse_args()
    pairs = [text.partition("=") for text in given.folders]
    folders = {name: [Path(place) for place in places.split(",")] for name, _, places in pairs}
    every = figures(folders)
    print(side_by_side(every, [*TOTALS, "macs"]), end="\n\n")
    classes = [column for column in every.columns if column.startswith("iou ")]
    print(side_by_side(every, classes), end="\n\n")
    distances = measured(folders, open_video(given.data, "test"), given.interval, given.out)
    table = distances.pivot_table("miou", ["name", "seed"], "distance", sort=False).mul(100).reset_index()
    columns = [f"distance {d}" for d in range(given.interval)]
    print(side_by_side(table.set_axis(["name", "seed", *columns], axis=1), columns))


if __name__ == "__main__":
    main()
