"""How strongly a target should weigh: what searches under it find, on made-up rewards and costs.

    python benchmarks/target_weight.py --seeds 20 --proposals 100

The space is that of ``controller_learning``, of the shape of ``fcos_fpn``. Operations cost what they cost in a decoder,
in units of a depthwise-separable convolution; four fifths of the mean cost are fixed, as the head is at ``demo``. A
network's quality is a standard normal figure, half of it ``matches`` and half of it the cost, so that what is good is
dear. Two rewards are made of it: a negative loss, -1.6 + 0.06 quality, and an AP, 0.02 (1 + 0.22 quality); the figures
are those of random decoders at ``demo``. The target is met by a tenth, a quarter or a half of random networks.

A row has means over seeds: the share of the last 50 proposals that meet the target, the quality of the best network
that meets it, the cost of the winner (the best by what was told) over the target, and its quality. Without a target
(weight 0) the winner is the best by reward.
"""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from controller_learning import Landscape, block_space

import controllers
from nas.settings.targets import Targets

COSTS = {"sep3x3": 1.0, "sep3x3d3": 1.0, "sep5x5d6": 1.3, "skip": 0.0, "dconv3x3": 2.0, "concat": 0.3}
REWARDS = {"loss": lambda quality: -1.6 + 0.06 * quality, "AP": lambda quality: 0.02 * (1 + 0.22 * quality)}


@dataclass
class Networks:
    """Quality and cost of every network, by a seed."""

    seed: int

    def __post_init__(self):
        self.space = block_space()
        self.landscape = Landscape("matches", self.space, self.seed)
        rng = np.random.default_rng([self.seed, 1])
        sample = [self.space.sample(rng).tokens for _ in range(2000)]
        self.fixed = 4 * float(np.mean([self._operations(tokens) for tokens in sample]))
        figures = np.array([(self.landscape.value(tokens), self.cost(tokens)) for tokens in sample])
        self.mean, self.spread = figures.mean(axis=0), figures.std(axis=0)
        self.costs = figures[:, 1]

    def _operations(self, tokens):
        taken = (choice.options[token] for choice, token in zip(self.space.choices, tokens, strict=True))
        return sum(COSTS.get(option, 0.0) for option in taken)

    def cost(self, tokens):
        return self.fixed + self._operations(tokens)

    def quality(self, tokens):
        figures = np.array([self.landscape.value(tokens), self.cost(tokens)])
        return float(((figures - self.mean) / self.spread).sum() / np.sqrt(2))


def search(name, kind, share, weight, seed, proposals):
    """Share met of the last 50, best quality that meets, the winner's cost over the target and its quality."""
    networks = Networks(seed)
    limit = float(np.quantile(networks.costs, share))
    controller, goal = controllers.make(name, networks.space, seed=seed), Targets({"macs": limit}, weight)
    rows = []
    for _ in range(proposals):
        proposal = controller.ask()
        quality, cost = networks.quality(proposal.tokens), networks.cost(proposal.tokens)
        told = goal.told(REWARDS[kind](quality), {"macs": cost})
        controller.tell(proposal, told)
        rows.append((told, quality, cost))
    told, quality, cost = np.array(rows).T
    met, winner = cost <= limit, int(told.argmax())
    best = quality[met].max() if met.any() else np.nan
    return met[-50:].mean(), best, cost[winner] / limit, quality[winner]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--proposals", type=int, default=100)
    parser.add_argument("--controllers", nargs="+", default=["random", "evolution", "lstm-ppo"])
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.3, 1.0, 3.0, 10.0, 30.0])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.25, 0.5])
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| controller | reward | met by chance | weight | met, last 50 | best met | winner's cost | its quality |")
    print("|---|---|---|---|---|---|---|---|")
    for name in given.controllers:
        for kind in REWARDS:
            for share in given.shares:
                for weight in given.weights:
                    runs = [search(name, kind, share, weight, seed, given.proposals) for seed in range(given.seeds)]
                    found = np.array(runs)
                    met, best, cost, quality = np.nanmean(found, axis=0)
                    figures = f"{met:.2f} | {best:.2f} | {cost:.3f} | {quality:.2f}"
                    print(f"| {name} | {kind} | {share:g} | {weight:g} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
