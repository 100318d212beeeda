"""What searches found, and uniformly drawn decoders, against the standard FPN-FCOS decoder, on unseen images.

    python benchmarks/compare_decoders.py runs/evolution runs/random --widths 48 64 --against random --out docs/bccd

trains the winner of every run, and every other decoder, by the runs' proxy task from several proxy-training seeds, none
of them a search's or a confirmation's, on the same meta-train, and scores each on the same meta-val and on the test
subset that no search sees: reward and COCO AP. The standard decoder is there at the width of the runs, and at all that
are asked for, since a found decoder may have more MACs. The runs share data, task and seed. Writes ``decoders.csv``,
one row a decoder and seed, as rows come: those that are there are not measured again. Writes ``search.png`` too (reward
against trial), and prints a table.
"""

import argparse
import dataclasses
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from scipy import stats

import nas
import search_spaces
from nas.building import find_architecture
from nas.searching.plan import make_plan, task_factory
from proxy_tasks.fcos.task import FCOSTask
from search_spaces import Architecture

matplotlib.use("Agg")
WINDOW = 10  # trials in the running mean
FIRST_SEED = 100_000
STANDARD = "standard"
FIGURES = ("reward", "ap", "test_reward", "test_ap")


def nothing(what: str, done: int, total: int) -> None:
    """Shows no progress."""


@dataclasses.dataclass
class Decoder:
    """What is measured: an architecture, and the task that trains it, which has its width."""

    architecture: Architecture
    task: FCOSTask


def full_task(run: nas.Run, overrides: dict[str, object], like: FCOSTask | None = None) -> FCOSTask:
    """The run's proxy task for whole decoders, with other settings where they are given.

    The backbone is fine-tuned under a decoder of the task's width; one ``like`` another task takes that one's features,
    so that decoders of several widths are trained and measured on the same.
    """
    settings = run.settings.changed(task={**run.settings.task, **overrides})
    stage = dataclasses.replace(make_plan(settings)[0], space=search_spaces.get("fcos_decoder"))
    task = task_factory(stage, settings, None)()
    assert isinstance(task, FCOSTask)
    if like is None:
        task.prepare(nothing)
    else:
        task._prepared = like.prepared
    return task


def decoders(runs: list[nas.Run], given: argparse.Namespace) -> dict[str, Decoder]:
    """The standard decoder at each width, others by name, each run's winner by its folder's name, uniform draws."""
    rng, space = np.random.default_rng(1), search_spaces.get("fcos_decoder")
    overrides = {} if given.iterations is None else {"iterations": given.iterations}
    task, standard = full_task(runs[0], overrides), Architecture.of("fpn_fcos")
    wider = {width: full_task(runs[0], {**overrides, "width": width}, task) for width in given.widths}
    return {
        STANDARD: Decoder(standard, task),
        **{f"{STANDARD} @{width}": Decoder(standard, other) for width, other in wider.items()},
        **{Path(name).stem: Decoder(find_architecture(name), task) for name in given.also},
        **{run.path.name: Decoder(run.best(1)[0], task) for run in runs},
        **{f"uniform {i + 1}": Decoder(space.sample(rng), task) for i in range(given.uniform)},
    }


def measure(chosen: dict[str, Decoder], seeds: range, file: Path) -> pd.DataFrame:
    """One row a decoder and seed: reward and AP on meta-val, where the search chose, and on the held-out test set."""
    task = chosen[STANDARD].task
    test_crops, test_cache = task.held_out(nothing)
    places = {
        "": (task.prepared.crops, task.prepared.cache, task.prepared.meta_val),
        "test_": (test_crops, test_cache, np.arange(len(test_crops))),
    }
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    there = {(row["decoder"], row["seed"], row["key"], row["iterations"]) for row in rows}
    for seed, (name, decoder) in product(seeds, chosen.items()):
        iterations, key = task.settings.iterations, decoder.architecture.key
        if (name, seed, key, iterations) in there:
            continue
        model = decoder.task.train(decoder.architecture, seed)
        row: dict[str, object] = {"decoder": name, "seed": seed, "iterations": iterations}
        for prefix, (crops, cache, indices) in places.items():
            row[f"{prefix}reward"] = -task.losses(model, cache, indices)["loss"]
            row[f"{prefix}ap"] = task.average_precision(model, crops, cache, indices)["ap"]
        rows.append(row | decoder.task.complexity(decoder.architecture) | {"key": key})
        pd.DataFrame(rows).to_csv(file, index=False)
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    frame = pd.DataFrame(rows)
    return frame[frame["iterations"] == task.settings.iterations]


def table(frame: pd.DataFrame, against: list[str]) -> str:
    """Mean ± standard deviation over the seeds, and mean differences with their intervals.

    Args:
        frame: what `measure` gives.
        against: with whom all others are compared, beside the standard decoders.
    """
    head = ["decoder", "reward, meta-val", "AP, meta-val", "reward, test", "AP, test", "parameters", "MACs"]
    lines = [f"{frame['seed'].nunique()} proxy-training seeds", "", _row(head), _row(["---"] * len(head))]
    drawn = frame["decoder"].str.startswith("uniform")
    values = {name: part.set_index("seed") for name, part in frame[~drawn].groupby("decoder", sort=False)}
    for name, part in values.items():
        cells = [f"{part[figure].mean():.4f} ± {part[figure].std():.4f}" for figure in FIGURES]
        lines.append(_row([name, *cells, f"{part['params'].mean() / 1e3:.0f} k", f"{part['macs'].mean() / 1e6:.1f} M"]))
    if drawn.any():
        means = frame[drawn].groupby("decoder")[[*FIGURES, "params", "macs"]].mean()
        cells = [f"{means[figure].mean():.4f} ± {means[figure].std():.4f}" for figure in FIGURES]
        sizes = [f"{means['params'].mean() / 1e3:.0f} k", f"{means['macs'].mean() / 1e6:.1f} M"]
        lines.append(_row([f"{len(means)} uniform (± over decoders)", *cells, *sizes]))
    for other in [*(name for name in values if name.startswith(STANDARD)), *against]:
        lines += ["", f"Above {other}, paired over the seeds, with the 95 % interval of Student's t:", ""]
        lines += [_row(["decoder", *head[1:5]]), _row(["---"] * 5)]
        for name in (name for name in values if name != other and not name.startswith(STANDARD)):
            gaps = values[name][list(FIGURES)] - values[other][list(FIGURES)]
            lines.append(_row([name, *(interval(gaps[figure].dropna()) for figure in FIGURES)]))
    return "\n".join(lines)


def interval(gaps: pd.Series) -> str:
    """Mean and 95 % interval."""
    low, high = stats.t.interval(0.95, len(gaps) - 1, gaps.mean(), stats.sem(gaps))
    return f"{gaps.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plot(runs: list[nas.Run], path: Path) -> None:
    """Reward against trial, a panel a stage, a colour a run: every trial, the running mean, the best so far."""
    stages = [space.name for space in runs[0].settings.search_space().stages]
    figure, axes = plt.subplots(1, len(stages), figsize=(6 * len(stages), 4), squeeze=False, layout="constrained")
    for axis, stage in zip(axes[0], stages, strict=True):
        rewards = []
        for number, run in enumerate(runs):
            reward = run.trials.query("stage == @stage")["reward"].reset_index(drop=True)
            rewards.append(reward)
            look, trial = {"color": f"C{number}"}, reward.index + 1
            axis.plot(trial, reward, ".", alpha=0.3, **look)
            axis.plot(trial, reward.rolling(WINDOW, min_periods=WINDOW).mean(), label=run.path.name, **look)
            axis.plot(trial, reward.cummax(), linestyle="--", **look)
        references = runs[0].references.sort_values("reward", ascending=False).to_dict("records")
        for row, above in zip(
            references if stage == stages[0] else [], (True, *[False] * len(references)), strict=False
        ):
            axis.axhline(row["reward"], color="0.3", linewidth=0.8)
            place = {"va": "bottom" if above else "top", "ha": "right"}
            axis.annotate(row["name"], (len(rewards[0]), row["reward"]), color="0.3", fontsize=8, **place)
        every = pd.concat(rewards)
        low, high = every.quantile(0.1), every.max()
        axis.set(xlabel="trial", ylabel="reward (negative loss on meta-val)", title=stage)
        axis.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(runs))
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--widths", nargs="+", default=[], help="of further standard decoders")
    parser.add_argument("--also", nargs="+", default=[], help="further decoders and FPNs: names or files")
    parser.add_argument("--against", nargs="+", default=[], help="runs with whose winners the others are compared too")
    parser.add_argument("--uniform", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--iterations", type=int, help="training steps; the runs' own without it")
    parser.add_argument("--out", type=Path, default=Path("."))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    runs = [nas.load_run(path) for path in given.runs]
    plot(runs, given.out / "search.png")
    seeds = range(FIRST_SEED, FIRST_SEED + given.seeds)
    print(table(measure(decoders(runs, given), seeds, given.out / "decoders.csv"), given.against))


if __name__ == "__main__":
    main()
