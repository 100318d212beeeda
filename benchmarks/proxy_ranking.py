"""Does the proxy order decoders as long training does? Kendall's tau, for each way to train and each reward.

Decoders drawn over the whole range are trained ten times as long with backbone and all, which gives the order that is
sought, and by the proxy task from several seeds, under each proposal. Rows go to a CSV file as they come; what is there
is not measured again.

    python benchmarks/proxy_ranking.py --data path/to/bccd --out ranking.csv
"""

import argparse
import copy
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

import proxy_tasks
import search_spaces
from proxy_tasks.crops import Crops
from proxy_tasks.fcos.backbone import finetune
from proxy_tasks.fcos.task import FCOSTask
from proxy_tasks.images import detector_input
from proxy_tasks.rows import Site
from proxy_tasks.training import Schedule
from search_spaces import Architecture

FACTOR = 10  # how many times the proxy's iterations a long training has
SHORT = 60
WIDTH = "32-64"  # of the long training, and of proposals that name no other
PROPOSALS: dict[str, dict[str, object]] = {
    "scale 0.48": {"interest": 0.48, "mirrored": False, "iterations": 60},
    "scale 0.48, mirrored, 120 iterations": {"interest": 0.48, "mirrored": True, "iterations": 120},
    "sizes of interest by the crop": {"interest": 0.16, "mirrored": False, "iterations": 60},
    "scale 0.48, mirrored": {"interest": 0.48, "mirrored": True, "iterations": 60},
    "scale 0.48, mirrored, by centerness": {
        "interest": 0.48,
        "mirrored": True,
        "iterations": 60,
        "regression": "centerness",
    },
    "scale 0.32": {"interest": 0.32, "mirrored": False, "iterations": 60},
    "scale 0.48, mirrored, width 32": {"interest": 0.48, "mirrored": True, "iterations": 60, "width": "32"},
    "scale 0.48, mirrored, width 32, 120 iterations of 8": {
        "interest": 0.48,
        "mirrored": True,
        "iterations": 120,
        "batch_size": 8,
        "width": "32",
    },
}
REWARDS = {
    "loss (published)": lambda f: -f["loss"],
    "classification + 2 regression": lambda f: -f["loss_classification"] - 2 * f["loss_regression"],
    "classification": lambda f: -f["loss_classification"],
    "regression": lambda f: -f["loss_regression"],
    "AP": lambda f: f["ap"],
    "AP, any score": lambda f: f["ap_any"],
    "AP50, any score": lambda f: f["ap50_any"],
    "AP, any score - loss / 4": lambda f: f["ap_any"] - f["loss"] / 4,
}


class Images:
    """The images of crops, in the place of cached features."""

    def __init__(self, crops: Crops):
        self.crops = crops

    def features(self, indices: np.ndarray) -> Tensor:
        return detector_input(self.crops.images(indices))


def quiet(what: str, done: int, total: int) -> None:
    pass


def drawn(count: int, seed: int) -> list[tuple[str, Architecture]]:
    """The standard decoder; of the others one half uniform, one half uniform FPNs with a head of 3x3 convolutions."""
    rng, decoder = np.random.default_rng(seed), search_spaces.get("fcos_decoder")
    named = [("standard", Architecture.of("fpn_fcos"))]
    for number in range(1, count):
        architecture = decoder.sample(rng)
        if number % 2:
            plain = {f"head.{i}.op": "conv3x3" if i <= 4 else "skip" for i in range(1, 7)} | {"head.share": "0"}
            architecture = decoder.from_named({**architecture.named, **plain})
        named.append((f"drawn {number}", architecture))
    return named


def task_of(given: argparse.Namespace, overrides: dict[str, object]) -> FCOSTask:
    options = proxy_tasks.TaskOptions(
        data=given.data, backbone=given.backbone, cache_dir=given.cache_dir, overrides={"width": WIDTH, **overrides}
    )
    task = FCOSTask(search_spaces.get("fcos_decoder"), options)
    task.prepare(quiet)
    return task


def long_rows(given: argparse.Namespace, chosen: list[tuple[str, Architecture]]) -> Iterator[dict[str, object]]:
    """AP, on meta-val and test images, of every decoder after long training with its backbone."""
    task = task_of(given, {"iterations": SHORT})
    prepared, settings = task.prepared, task.settings
    test = task.held_out(quiet)[0]
    meta_train = prepared.meta_train[prepared.meta_train < len(prepared.crops)]  # it mirrors for itself
    for name, architecture in chosen:
        if (name, "long", 0) in given.done:
            continue
        decoder = task._sizes(prepared.crops).build(architecture, 0)
        body = copy.deepcopy(prepared.body).requires_grad_(True)
        detector = nn.Sequential(body, decoder).to(memory_format=torch.channels_last)
        schedule = Schedule(settings.batch_size, FACTOR * SHORT, settings.learning_rate, 0)
        site = Site(task.options.cache_root, task.device, quiet)
        finetune(detector, prepared.crops, meta_train, schedule, task.locations, site)
        detector.eval()
        row: dict[str, object] = {"decoder": name, "proposal": "long", "seed": 0}
        for place, crops, indices in (
            ("val", prepared.crops, prepared.meta_val),
            ("test", test, np.arange(len(test))),
        ):
            figures = task.average_precision(detector, crops, Images(crops), indices)
            row |= {f"{place}_{key}": value for key, value in figures.items()}
        yield row


def proxy_rows(given: argparse.Namespace, chosen: list[tuple[str, Architecture]]) -> Iterator[dict[str, object]]:
    """The figures of every decoder on meta-val by the proxy, under each proposal, from each seed."""
    for proposal, overrides in PROPOSALS.items():
        wanted = [(n, a, s) for s in range(given.seeds) for n, a in chosen if (n, proposal, s) not in given.done]
        if not wanted:
            continue
        task = task_of(given, overrides)
        prepared = task.prepared
        for name, architecture, seed in wanted:
            row: dict[str, object] = {"decoder": name, "proposal": proposal, "seed": seed}
            model = task.train(architecture, 1000 + seed)
            row |= task.losses(model, prepared.cache, prepared.meta_val)
            for suffix, threshold in (("", 0.05), ("_any", 0.0)):
                figures = task.average_precision(model, prepared.crops, prepared.cache, prepared.meta_val, threshold)
                row |= {key + suffix: value for key, value in figures.items()}
            yield row


def taus(frame: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau of each proposal and reward: between seeds, and with the AP of long training."""
    long = frame[frame["proposal"] == "long"].set_index("decoder")
    truth = (long["val_ap"] + long["test_ap"]) / 2
    rows = []
    for proposal in (name for name in PROPOSALS if name in set(frame["proposal"])):
        part = frame[frame["proposal"] == proposal]
        for reward, function in REWARDS.items():
            table = part.assign(reward=function(part)).pivot(index="decoder", columns="seed", values="reward").dropna()
            known = truth.reindex(table.index)
            between = [kendalltau(table[a], table[b]).statistic for a, b in combinations(table.columns, 2)]
            single = [kendalltau(table[seed], known).statistic for seed in table.columns]
            low, high = interval(table.mean(axis=1).to_numpy(), known.to_numpy())
            mean = kendalltau(table.mean(axis=1), known).statistic
            rows.append(
                {
                    "proposal": proposal,
                    "reward": reward,
                    "decoders": len(table),
                    "between seeds": np.mean(between) if between else np.nan,
                    "with long training, one seed": np.mean(single),
                    "mean of seeds": mean,
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows)


def interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The 95 % bootstrap interval of tau over decoders."""
    rng = np.random.default_rng(0)
    picks = rng.integers(len(a), size=(1000, len(a)))
    low, high = np.nanquantile([kendalltau(a[pick], b[pick]).statistic for pick in picks], [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data")
    parser.add_argument("--backbone")
    parser.add_argument("--cache-dir")
    parser.add_argument("--decoders", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", choices=("proxy", "long", "table"), action="append", help="all of them without it")
    parser.add_argument("--out", type=Path, default=Path("ranking.csv"))
    given = parser.parse_args()
    parts = given.part or ["long", "proxy", "table"]
    chosen = drawn(given.decoders, 0)
    for part in ("long", "proxy"):
        file = given.out.with_stem(f"{given.out.stem}-{part}")
        there = pd.read_csv(file).to_dict("records") if file.exists() else []
        given.done = {(row["decoder"], row["proposal"], row["seed"]) for row in there}
        if part in parts:
            for row in (long_rows if part == "long" else proxy_rows)(given, chosen):
                there.append(row)
                pd.DataFrame(there).to_csv(file, index=False)
                print({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    if "table" in parts:
        files = [given.out.with_stem(f"{given.out.stem}-{part}") for part in ("long", "proxy")]
        table = taus(pd.concat([pd.read_csv(file) for file in files]))
        print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
