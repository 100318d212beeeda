"""How fast the controllers find the best rows of two tables of scored architectures.

    python benchmarks/controller_tables.py

- ``made up``: 8 choices of 3 options, 6,561 rows. A row's reward is the sum of an effect for each option, one for each
  pair of options of some choices and a little for the row alone, all drawn from a seed; no network was trained.
- ``fpn``: the FPNs of ``benchmarks/fpn_table.csv``, each of which was trained once.

A figure is the rank of the best row found after so many proposals, from 0, in percent of the rows: the mean over the
seeds ± its standard error. A row proposed again counts as a proposal.
"""

import argparse
import math
from itertools import combinations

import fpn_table
import numpy as np
import torch

import controllers
from search_spaces import Choice, SearchSpace

__all__ = ["made_up", "ranks"]

Table = dict[tuple[int, ...], float]


def made_up(seed: int = 0, choices: int = 8, options: int = 3) -> tuple[SearchSpace, Table]:
    """A space and the reward of each of its points: main effects of deviation 1, pairs of 0.4, single rows of 0.1."""
    rng = np.random.default_rng(seed)
    space = SearchSpace("made up", tuple(Choice(f"c{i}", "op", tuple("abcdefgh"[:options])) for i in range(choices)))
    scale = rng.exponential(size=choices)  # a few choices matter much, others hardly
    single = scale[:, None] * rng.normal(size=(choices, options))
    pairs = {pair: 0.4 * rng.normal(size=(options, options)) for pair in combinations(range(choices), 2)}
    pairs = {pair: effects for pair, effects in pairs.items() if rng.random() < 0.4}
    table = {}
    for tokens in np.ndindex(*[options] * choices):
        value = sum(single[i, token] for i, token in enumerate(tokens))
        value += sum(effects[tokens[i], tokens[j]] for (i, j), effects in pairs.items())
        table[tokens] = float(value + 0.1 * rng.normal())
    return space, table


def ranks(name: str, space: SearchSpace, table: Table, seed: int, counts: list[int]) -> list[float]:
    """The rank of the best row after each of ``counts`` proposals, from 0, in percent of the rows."""
    ordered = np.sort(list(table.values()))
    controller, rewards = controllers.make(name, space, seed=seed), []
    for _ in range(counts[-1]):
        proposal = controller.ask()
        rewards.append(table[proposal.tokens])
        controller.tell(proposal, rewards[-1])
    better = [len(ordered) - np.searchsorted(ordered, max(rewards[:count]), side="right") for count in counts]
    return [100 * int(number) / len(ordered) for number in better]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="at least 2")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--controllers", nargs="+", default=["random", "evolution", "lstm-ppo", "optuna:tpe"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    tables = {"made up": (*made_up(), [50, 100, 200]), "fpn": (fpn_table.SPACE, fpn_table.read(), [20, 50, 100])}
    for title, (space, table, counts) in tables.items():
        if len(table) < space.cardinality:
            print(f"{title}: {len(table)} of {space.cardinality} rows are there; see benchmarks/fpn_table.py")
            continue
        print(f"| {title}, {len(table)} rows | {' | '.join(f'after {count}' for count in counts)} |")
        print("|" + " --- |" * (1 + len(counts)))
        for name in given.controllers:
            seeds = range(given.first, given.first + given.seeds)
            figures = np.array([ranks(name, space, table, seed, counts) for seed in seeds])
            errors = figures.std(axis=0, ddof=1) / math.sqrt(len(seeds))
            cells = [f"{mean:.3f} % ± {error:.3f}" for mean, error in zip(figures.mean(axis=0), errors, strict=True)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
