"""A table of trained decoders for the benchmarks of controllers: every FPN of a space of few choices, trained once.

    OMP_NUM_THREADS=1 python benchmarks/fpn_table.py

The space, 432 points, is that of ``fpn_like`` with six of its choices open: how the two top-down blocks aggregate, what
follows the sum at each of the three outputs, and what the output P3 looks at beside. Each FPN is trained once, with the
standard head, on the built-in shapes, by a cheap proxy (``SETTINGS``); its reward is the negative loss on meta-val. One
row a point, tokens and reward; rows that are there are not trained anew.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch

import proxy_tasks
from experiments import published
from search_spaces import Architecture, Choice, SearchSpace

__all__ = ["SPACE", "TABLE", "read"]

TABLE = Path(__file__).with_name("fpn_table.csv")
SETTINGS = {"crop": 128, "iterations": 60, "batch_size": 8, "width": "16-16", "learning_rate": 4e-3}
OPERATIONS = ("sep3x3", "skip", "dconv3x3")
SPACE = SearchSpace(
    "fpn_table",
    (
        Choice("fpn.1.agg", "agg", ("sum", "concat")),
        Choice("fpn.2.agg", "agg", ("sum", "concat")),
        *(Choice(f"fpn.{block}.op2", "op", OPERATIONS) for block in (5, 6, 7)),
        Choice("fpn.7.x1", "input", ("C3", "C4", "b1", "b2")),
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache-dir")
    options = proxy_tasks.TaskOptions(overrides=SETTINGS, cache_dir=parser.parse_args().cache_dir)
    torch.set_num_threads(1)
    task = proxy_tasks.make("fcos", published.load("fpn_like_fpn").space, options)
    task.prepare(lambda what, done, total: print(what, done, total, flush=True) if done == total else None)
    known = read()
    with TABLE.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not known:
            writer.writerow([*(choice.name for choice in SPACE.choices), "reward"])
        for tokens in np.ndindex(*(len(choice.options) for choice in SPACE.choices)):
            if tokens not in known:
                begin = time.process_time()
                *_, score = task.evaluate(decoder(SPACE.architecture(tokens)))
                writer.writerow([*tokens, f"{score.reward:.6f}"])
                file.flush()
                print(tokens, f"{score.reward:.4f}, {time.process_time() - begin:.2f} s", flush=True)


if __name__ == "__main__":
    main()
