"""Is a reward worth having? Decoders over the range of a search's rewards, each trained in full: reward against AP.

    python benchmarks/reward_against_ap.py runs/mine --iterations 300 --set min_size=192 --out docs/bccd

takes the five best of a detection search, ten of its first stage's trials evenly over the range of their rewards, and
the family's published references. The proxy task trains each from several seeds that no search has: the mean of the
reward, and of AP on meta-val. ``fcos_small`` trains each in full, backbone and all, from two seeds: AP on the test
images. Writes ``full.csv``, one row a decoder, kind of training and seed, as they come (what is there is not trained
again), and ``full.png`` (figure 7.6 of the thesis, and 7.9: AP as the reward); prints Kendall's tau with bootstrap
intervals over the decoders.
"""

import argparse
import dataclasses
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from compare_decoders import FIRST_SEED, full_task
from matplotlib import pyplot as plt
from scipy.stats import kendalltau

import nas
from experiments import published, recipes
from experiments.detection.jobs import train_detector
from experiments.families import family_of
from experiments.fcos.networks import NETWORKS
from experiments.promotion import JobOptions
from nas.settings import read_pair
from search_spaces import Architecture

matplotlib.use("Agg")
TOP, OVER_THE_RANGE = 5, 10
KINDS = {"best": "C3", "range": "C0", "reference": "0.3"}
BOOTSTRAPS = 2000


def chosen(run: nas.Run) -> list[tuple[str, str, Architecture]]:
    """Kind, name and architecture of each decoder."""
    best = [("best", f"best {rank}", one) for rank, one in enumerate(run.best(TOP), start=1)]
    stage = run.settings.search_space().stages[0]
    first = run.ranked()[stage.name]
    places = np.linspace(0, len(first) - 1, OVER_THE_RANGE).round().astype(int)
    middle = [("range", f"FPN {i + 1} of {len(first)}", stage.from_named(first[i].choices)) for i in places]
    names = [name for name in family_of(best[0][2].space).references if name in published.names()]
    return [*best, *middle, *(("reference", name, published.load(name)) for name in names)]


def measured(run: nas.Run, recipe: recipes.Recipe, given: argparse.Namespace) -> pd.DataFrame:
    """One row a decoder, kind of training (``proxy``, ``full``) and seed, with ``reward`` and ``ap``."""
    file = given.out / "full.csv"
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    there = {(row["key"], row["training"], row["seed"]) for row in rows}
    task, decoders = full_task(run, {}), chosen(run)

    def proxy(architecture: Architecture, seed: int) -> dict[str, float]:
        model = task.train(architecture, FIRST_SEED + seed)
        parts = task.prepared.cache, task.prepared.meta_val
        ap = task.average_precision(model, task.prepared.crops, *parts)["ap"]
        return {"reward": -task.losses(model, *parts)["loss"], "ap": ap, **task.complexity(architecture)}

    def full(architecture: Architecture, seed: int) -> dict[str, float]:
        options = JobOptions(data=run.settings.data, seed=seed, iterations=given.iterations)
        place = given.work / f"{architecture.key}-{seed}"
        result = train_detector(NETWORKS, place, architecture, recipe.settings, options, True, lambda *_: None)
        return {"ap": result["metrics"]["ap"], "macs": result["cost"]["macs"], "params": result["cost"]["params"]}

    trainings = (("proxy", proxy, range(given.proxy_seeds)), ("full", full, range(given.seeds)))
    for name, train, seeds in trainings:
        for seed, (kind, title, architecture) in product(seeds, decoders):
            if (architecture.key, name, seed) in there:
                continue
            there.add((architecture.key, name, seed))
            of = {"kind": kind, "decoder": title, "key": architecture.key, "training": name, "seed": seed}
            rows.append(of | train(architecture, seed))
            pd.DataFrame(rows).to_csv(file, index=False)
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    return pd.DataFrame(rows)


def tau(x: np.ndarray, y: np.ndarray) -> str:
    """Kendall's tau-b with its 95 % interval of the bootstrap over pairs."""
    rng = np.random.default_rng(0)
    drawn = [kendalltau(x[i], y[i]).statistic for i in rng.integers(len(x), size=(BOOTSTRAPS, len(x)))]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return f"{kendalltau(x, y).statistic:.2f} [{low:.2f}, {high:.2f}]"


def by_decoder(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a decoder: means over the seeds of the proxy's reward and AP, and of the full trainings' AP."""
    keys = ["kind", "decoder", "key"]
    proxy = frame[frame["training"] == "proxy"].groupby(keys, sort=False)[["reward", "ap"]].mean()
    full = frame[frame["training"] == "full"].groupby(keys, sort=False)[["ap", "macs"]].mean()
    joined = proxy.rename(columns={"ap": "ap_proxy"}).join(full.rename(columns={"ap": "ap_full"}))
    return joined.dropna().reset_index()


def plot(means: pd.DataFrame, path: Path) -> None:
    """AP of full training against the proxy's reward, and against the proxy's AP."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, figure_of in zip(axes, ("reward", "ap_proxy"), strict=True):
        for kind, colour in KINDS.items():
            part = means[means["kind"] == kind]
            axis.plot(part[figure_of], 100 * part["ap_full"], "o", color=colour, label=kind)
        axis.set_title(f"Kendall's tau {tau(means[figure_of].to_numpy(), means['ap_full'].to_numpy())}", fontsize=10)
    axes[0].set(xlabel="reward (negative loss on meta-val)", ylabel="AP of full training, test images")
    axes[1].set(xlabel="AP on meta-val as the reward")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--iterations", type=int, help="of a full training; the recipe's without it")
    parser.add_argument("--seeds", type=int, default=2, help="of full trainings")
    parser.add_argument("--proxy-seeds", type=int, default=3)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of fcos_small")
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--work", type=Path, help="where the trained detectors go (default: OUT/full)")
    given = parser.parse_args()
    given.work = given.work or given.out / "full"
    given.out.mkdir(parents=True, exist_ok=True)
    run = nas.load_run(given.run)
    recipe = recipes.load("fcos_small", dict(read_pair("--set", text) for text in given.set))
    sizes = {"backbone": run.settings.backbone, "width": str(full_task(run, {}).settings.width)}
    recipe = dataclasses.replace(recipe, settings=recipe.settings.around(**sizes))
    frame = measured(run, recipe, given)
    means = by_decoder(frame)
    plot(means, given.out / "full.png")
    print(means.sort_values("ap_full", ascending=False).to_string(index=False))
    for name in ("reward", "ap_proxy"):
        print(f"{name} against AP: tau {tau(means[name].to_numpy(), means['ap_full'].to_numpy())}")
    seeds = frame[frame["training"] == "full"].pivot_table("ap", "key", "seed").dropna()
    print(f"AP of one seed against the other's: tau {tau(seeds[0].to_numpy(), seeds[1].to_numpy())}")


if __name__ == "__main__":
    main()
