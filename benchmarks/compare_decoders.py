"""What a search found against the standard FPN-FCOS decoder and against uniformly drawn ones.

    python benchmarks/compare_decoders.py runs/bccd --uniform 20 --seeds 3 --out docs/bccd

trains every decoder with the run's proxy task from several proxy-training seeds, none of them the search's, on the same
meta-train, and scores each on the same meta-val and on the test subset that no search sees: reward and COCO AP. Writes
``decoders.csv`` (one row a decoder and seed) and ``search.png`` (reward against trial), and prints a table.
"""

import argparse
import dataclasses
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

import nas
import search_spaces
from nas.searching.plan import make_plan, task_factory
from proxy_tasks.fcos.task import FCOSTask
from search_spaces import Architecture

matplotlib.use("Agg")
WINDOW = 10  # trials in the running mean


def nothing(what: str, done: int, total: int) -> None:
    """Shows no progress."""


def full_task(run: nas.Run, iterations: int | None) -> FCOSTask:
    """The run's proxy task for whole decoders, with other iterations where they are given."""
    settings = run.settings
    if iterations is not None:
        settings = settings.changed(task={**settings.task, "iterations": iterations})
    stage = dataclasses.replace(make_plan(settings)[0], space=search_spaces.get("fcos_decoder"))
    task = task_factory(stage, settings, None)()
    assert isinstance(task, FCOSTask)
    task.prepare(nothing)
    return task


def decoders(run: nas.Run, uniform: int) -> list[tuple[str, Architecture]]:
    rng = np.random.default_rng(run.settings.seed + 1)
    space = search_spaces.get("fcos_decoder")
    drawn = [(f"uniform {i + 1}", space.sample(rng)) for i in range(uniform)]
    return [("searched", run.best(1)[0]), ("standard", Architecture.of("fpn_fcos", ())), *drawn]


def measure(task: FCOSTask, chosen: list[tuple[str, Architecture]], seeds: range) -> pd.DataFrame:
    """One row a decoder and seed: reward and AP on meta-val, where the search chose, and on the held-out test set."""
    test_crops, test_cache = task.held_out(nothing)
    places = {
        "": (task.prepared.crops, task.prepared.cache, task.prepared.meta_val),
        "test_": (test_crops, test_cache, np.arange(len(test_crops))),
    }
    rows = []
    for name, architecture in chosen:
        for seed in seeds:
            model = task.train(architecture, seed)
            row: dict[str, object] = {"decoder": name, "seed": seed}
            for prefix, (crops, cache, indices) in places.items():
                row[f"{prefix}reward"] = -task.losses(model, cache, indices)["loss"]
                row[f"{prefix}ap"] = task.average_precision(model, crops, cache, indices)["ap"]
            rows.append(row | {"params": sum(p.numel() for p in model.parameters()), "key": architecture.key})
            print(
                {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()},
                flush=True,
            )
    return pd.DataFrame(rows)


FIGURES = ("reward", "ap", "test_reward", "test_ap")


def table(frame: pd.DataFrame) -> str:
    """Mean ± standard deviation over the seeds; the uniform ones as a group, over decoders, and the best of them."""
    means = frame.groupby("decoder", sort=False)[[*FIGURES, "params"]].mean()
    spread = frame.groupby("decoder", sort=False)[list(FIGURES)].std()
    head = "| decoder | reward | AP | reward, test | AP, test | parameters |"
    lines = [f"{frame['seed'].nunique()} proxy-training seeds", "", head, "| --- | --- | --- | --- | --- | --- |"]

    def line(name: str, mean: pd.Series, std: pd.Series) -> str:
        cells = [f"{mean[figure]:.4f} ± {std[figure]:.4f}" for figure in FIGURES]
        return "| " + " | ".join([name, *cells, f"{mean['params'] / 1e3:.0f} k"]) + " |"

    drawn = means[means.index.str.startswith("uniform")]
    best = str(drawn["reward"].idxmax())
    titles = {"searched": "searched", "standard": "standard", best: f"{best}, best of the uniform"}
    lines += [line(title, means.loc[name], spread.loc[name]) for name, title in titles.items()]
    lines.append(line(f"{len(drawn)} uniform, ± over decoders", drawn.mean(), drawn.std()))
    beaten = {figure: int((drawn[figure] < means.loc["searched", figure]).sum()) for figure in FIGURES}
    lines.append(f"\nUniform decoders that the searched one beats, of {len(drawn)}: {beaten}")
    return "\n".join(lines)


def plot(run: nas.Run, path: Path) -> None:
    """Reward against trial, a panel a stage: every trial, the controller's running mean, the best so far."""
    stages = [stage for stage, frame in run.trials.groupby("stage", sort=False)]
    figure, axes = plt.subplots(1, len(stages), figsize=(6 * len(stages), 4), squeeze=False, layout="constrained")
    for axis, stage in zip(axes[0], stages, strict=True):
        reward = run.trials.query("stage == @stage")["reward"].reset_index(drop=True)
        trial = reward.index + 1
        axis.plot(trial, reward, ".", color="0.6", label="trial")
        axis.plot(
            trial, reward.rolling(WINDOW, min_periods=WINDOW).mean(), color="C0", label=f"mean of the last {WINDOW}"
        )
        axis.plot(trial, reward.cummax(), color="C1", label="best so far")
        low, high = reward.quantile(0.05), reward.max()
        axis.set(xlabel="trial", ylabel="reward (negative loss on meta-val)", title=stage)
        axis.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--uniform", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--iterations", type=int, help="training steps; the run's own without it")
    parser.add_argument("--out", type=Path, default=Path("."))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    run = nas.load_run(given.run)
    plot(run, given.out / "search.png")
    seeds = range(100, 100 + given.seeds)
    frame = measure(full_task(run, given.iterations), decoders(run, given.uniform), seeds)
    frame.to_csv(given.out / "decoders.csv", index=False)
    print(table(frame))


if __name__ == "__main__":
    main()
