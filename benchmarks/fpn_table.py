"""A table of trained decoders for the benchmarks of controllers: every FPN of a space of few choices, trained once.

    OMP_NUM_THREADS=1 python benchmarks/fpn_table.py

The space, 486 points, is that of ``fpn_like`` with six of its choices open, such that matter: which map is the finest
of the top-down path, what P3 and P4 take, how P3's block looks at it, and how the path aggregates. Each FPN is trained
once, with the standard head, on the built-in shapes, by a cheap proxy (``SETTINGS``); its reward is the negative loss
on meta-val. One row a point, tokens and reward; rows that are there are not trained anew. ``--noise N`` trains N points
drawn at random from two more seeds each, and prints how far their order is the same.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

import proxy_tasks
from experiments import published
from search_spaces import Architecture, Choice, SearchSpace

__all__ = ["SPACE", "TABLE", "read"]

TABLE = Path(__file__).with_name("fpn_table.csv")
SETTINGS = {"crop": 128, "iterations": 120, "batch_size": 8, "width": "16", "fpn_search_width": 16}
SPACE = SearchSpace(
    "fpn_table",
    (
        Choice("fpn.2.x1", "input", ("C3", "C4", "C5")),
        Choice("fpn.2.agg", "agg", ("sum", "concat")),
        Choice("fpn.6.x1", "input", ("C3", "C5", "b1")),
        Choice("fpn.7.x1", "input", ("C5", "b1", "b2")),
        Choice("fpn.7.x2", "input", ("C5", "b1", "b2")),
        Choice("fpn.7.op2", "op", ("dconv3x3", "sep3x3", "skip")),
    ),
)


def decoder(architecture: Architecture) -> Architecture:
    """The point of ``fcos_fpn`` that an architecture of the small space stands for."""
    like = published.load("fpn_like_fpn")
    return like.space.from_named({**like.named, **architecture.named})


def read() -> dict[tuple[int, ...], float]:
    """The rewards by tokens, as far as they are there."""
    if not TABLE.exists():
        return {}
    with TABLE.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return {tuple(int(token) for token in row[:-1]): float(row[-1]) for row in rows}


def reward(task: proxy_tasks.ProxyTask, tokens: tuple[int, ...], seed: int | None = None) -> float:
    """The reward of a point; the table's own are those of the task's seed."""
    *_, score = task.evaluate(decoder(SPACE.architecture(tokens)), seed)
    return score.reward


def noise(task: proxy_tasks.ProxyTask, count: int) -> str:
    """How points drawn at random, trained from two seeds, agree."""
    rng = np.random.default_rng(0)
    drawn = {SPACE.sample(rng).tokens for _ in range(count)}
    first, second = (np.array([reward(task, tokens, seed) for tokens in drawn]) for seed in (1, 2))
    spread, error = first.std(), (first - second).std() / 2**0.5
    correlation = spearmanr(first, second).statistic
    return f"{len(drawn)} points: spread {spread:.4f}, noise {error:.4f}, rank correlation {correlation:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache-dir")
    parser.add_argument("--noise", type=int, default=0, metavar="N")
    given = parser.parse_args()
    options = proxy_tasks.TaskOptions(overrides=SETTINGS, cache_dir=given.cache_dir)
    torch.set_num_threads(1)
    task = proxy_tasks.make("fcos", published.load("fpn_like_fpn").space, options)
    task.prepare(lambda what, done, total: print(what, done, total, flush=True) if done == total else None)
    if given.noise:
        print(noise(task, given.noise))
        return
    known = read()
    with TABLE.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not known:
            writer.writerow([*(choice.name for choice in SPACE.choices), "reward"])
        for tokens in np.ndindex(*(len(choice.options) for choice in SPACE.choices)):
            if tokens not in known:
                begin = time.process_time()
                found = reward(task, tokens)
                writer.writerow([*tokens, f"{found:.6f}"])
                file.flush()
                print(tokens, f"{found:.4f}, {time.process_time() - begin:.2f} s", flush=True)


if __name__ == "__main__":
    main()
