"""What the controllers learn in a few hundred proposals, on made-up rewards whose optimum is known.

    python benchmarks/controller_learning.py
    python benchmarks/controller_learning.py --seeds 5 --at 300 --open 1 16 64 --rewards "noisy matches" table

The space has the shape of ``fcos_fpn``: 7 blocks of two inputs, two operations and an aggregation, 35 choices, the
pool of inputs growing with each block. Every reward is negative, as minus a loss is. A controller sees the reward with
its noise; the table has the rewards without it.

With N open, N proposals are asked before one of them, drawn at random, is told, and one is told for each that is asked
from then on; the first N are thus proposed blindly. A figure is the mean over the seeds ± its standard error: of the
best of so many proposals, and of the mean of the last 50 of them. The defaults of ``lstm-ppo`` were chosen on seeds
from 100 on, not on those that are shown, 0 to 19.
"""

import argparse
import math
from dataclasses import dataclass

import numpy as np
import torch

import controllers
from search_spaces import Choice, SearchSpace

__all__ = ["LANDSCAPES", "Landscape", "block_space", "run"]

LANDSCAPES = ("matches", "noisy matches", "steep loss", "table")


def block_space(blocks: int = 7) -> SearchSpace:
    """The choices of a decoder with ``blocks`` basic blocks over a pool that starts with three features."""
    choices = []
    for block in range(blocks):
        pool = ("c3", "c4", "c5", *(f"x{i}" for i in range(block)))
        unary = ("sep3x3", "sep3x3d3", "sep5x5d6", "skip", "dconv3x3")
        decisions = {"x1": pool, "x2": pool, "op1": unary, "op2": unary, "agg": ("sum", "concat")}
        kinds = {"x": "input", "o": "op", "a": "agg"}
        choices += [Choice(f"fpn.{block}.{name}", kinds[name[0]], options) for name, options in decisions.items()]
    return SearchSpace("blocks", tuple(choices))


class Landscape:
    """A reward over token sequences, drawn from a seed.

    - ``matches``: minus the missing share of exponentially weighted matches with a hidden sequence, of which part
      counts only where both choices of a pair match;
    - ``noisy matches``: the same, observed with Gaussian noise of standard deviation 0.07;
    - ``steep loss``: minus a loss that falls exponentially with the same share; one observation in 30 is -50;
    - ``table``: the sum of a normal value for every option of every choice, below its maximum.
    """

    def __init__(self, name: str, space: SearchSpace, seed: int):
        self.name = name
        self.rng = np.random.default_rng([seed, 100 + LANDSCAPES.index(name)])
        self.target = space.sample(self.rng).tokens
        self.single = self.rng.exponential(size=len(space)) + 0.1
        self.pairs = [self.rng.choice(len(space), 2, replace=False) for _ in range(15)]
        self.paired = self.rng.exponential(size=len(self.pairs))
        self.table = [self.rng.normal(size=len(choice.options)) for choice in space.choices]

    @property
    def optimum(self) -> float:
        """The highest value there is."""
        return -0.8 - 4 * math.exp(-5) if self.name == "steep loss" else 0.0

    def value(self, tokens: tuple[int, ...]) -> float:
        """The reward without noise."""
        if self.name == "table":
            return float(sum(row[token] - row.max() for row, token in zip(self.table, tokens, strict=True)))
        match = np.equal(tokens, self.target)
        both = np.array([match[i] and match[j] for i, j in self.pairs])
        share = (self.single @ match + self.paired @ both) / (self.single.sum() + self.paired.sum())
        return float(-0.8 - 4 * math.exp(-5 * share) if self.name == "steep loss" else share - 1)

    def observe(self, tokens: tuple[int, ...]) -> float:
        """What a controller is told."""
        if self.name == "noisy matches":
            return self.value(tokens) + 0.07 * self.rng.normal()
        if self.name == "steep loss" and self.rng.random() < 1 / 30:
            return -50.0
        return self.value(tokens)


@dataclass
class Outcome:
    """Rewards without noise of one controller's proposals, in order."""

    values: list[float]

    def best(self, count: int) -> float:
        """Of the first ``count`` proposals."""
        return max(self.values[:count])

    def last(self, count: int) -> float:
        """The mean of the last 50 of the first ``count`` proposals."""
        return float(np.mean(self.values[max(0, count - 50) : count]))


def run(name: str, landscape: str, seed: int, proposals: int, opened: int = 1, blocks: int = 7) -> Outcome:
    """One controller, one landscape, one seed, with ``opened`` proposals open at a time."""
    space = block_space(blocks)
    controller, rewards = controllers.make(name, space, seed=seed), Landscape(landscape, space, seed)
    order, waiting, values = np.random.default_rng([seed, 7]), [], []
    for _ in range(proposals):
        waiting.append(controller.ask())
        values.append(rewards.value(waiting[-1].tokens))
        if len(waiting) == opened:
            proposal = waiting.pop(int(order.integers(opened)))
            controller.tell(proposal, rewards.observe(proposal.tokens))
    return Outcome(values)


def row(landscape: str, name: str, opened: int, outcomes: list[Outcome], counts: list[int]) -> str:
    """A line of the table."""
    cells = [landscape, f"{Landscape(landscape, block_space(), 0).optimum:.2f}", name, str(opened)]
    for count in counts:
        for column in np.array([(outcome.best(count), outcome.last(count)) for outcome in outcomes]).T:
            cells += [f"{column.mean():.3f} ± {column.std(ddof=1) / math.sqrt(len(column)):.3f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="at least 2")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--at", type=int, nargs="+", default=[100, 200, 300], help="after so many proposals, ascending")
    parser.add_argument("--open", type=int, nargs="+", default=[1], help="proposals open at a time")
    parser.add_argument("--rewards", nargs="+", default=list(LANDSCAPES), choices=LANDSCAPES)
    parser.add_argument("--controllers", nargs="+", default=["random", "evolution", "lstm-ppo"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    heads = [f"{what} of {count}" for count in given.at for what in ("best", "last 50")]
    print(f"| reward | optimum | controller | open | {' | '.join(heads)} |")
    print("|" + " --- |" * (4 + len(heads)))
    seeds = range(given.first, given.first + given.seeds)
    for landscape in given.rewards:
        for opened in given.open:
            for name in given.controllers:
                outcomes = [run(name, landscape, seed, given.at[-1], opened) for seed in seeds]
                print(row(landscape, name, opened, outcomes, given.at), flush=True)


if __name__ == "__main__":
    main()
