"""How large early stopping leaves the effects of options, by several estimates, where the true effects are known.

    python benchmarks/effects_under_stopping.py --searches 200 --trials 200

A random search draws one of 4 options in each of 4 choices. A final score is the sum of its options' effects and a
deviation of the architecture; an interim score is the final score (or what the scenario makes of it) and a noise. The
stopping rule is that of the search. Each estimate yields a difference of means for every option:

- ``all trained``: final scores of all trials, had none been stopped; what can be had at best.
- ``survivors``: final scores of the trials that were not stopped.
- ``interim``: interim scores of all trials.
- ``weighted``: final scores of survivors; one that the rule would have stopped, but for chance, counts ten times.
- ``filled``: final scores, those of stopped trials filled in by a straight line through the survivors' pairs of interim
  and final scores.
- ``filled by options``: the same by a regression on the interim score and the options.

The size is the slope of the estimated on the true differences through the origin (1: neither shrunk nor stretched), in
the mean over searches and its standard deviation; the error is the root mean square of estimated less true
differences, over the root mean square of the true ones. For estimates that have a score for every trial, the last
column is the share of true differences that the 95 % bootstrap intervals of `nas.analysis.effects` hold.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nas.analysis.effects import bootstrap_interval
from nas.searching.early_stopping import StoppingRule
from proxy_tasks.task import Interim

__all__ = ["SCENARIOS", "Search", "estimates", "scores", "simulate"]

CHOICES, OPTIONS = 4, 4
SCENARIOS: Mapping[str, tuple[float, float, float]] = {
    "little noise (0.5)": (0.5, 1.0, 0.0),
    "noise as wide as the scores (1)": (1.0, 1.0, 0.0),
    "much noise (2)": (2.0, 1.0, 0.0),
    "interim scores 0.7 as wide, noise 0.5": (0.5, 0.7, 0.0),
    "an option that learns late, noise 0.5": (0.5, 1.0, -1.0),
}
"""Of interim scores: the noise's deviation, their width, both in units of the final scores; what option 0 lacks."""


class Search(NamedTuple):
    """One simulated search.

    Args:
        taken: uint8 (trials, choices * options), 1 where the trial took the option.
        effects: float (choices * options,), the true difference of each option from the others of its choice.
        final, interim: float (trials,), both known of every trial.
        stopped: bool (trials,).
        would_stop: bool (trials,), those that the rule stops and those that it lets go on by chance.
    """

    taken: np.ndarray
    effects: np.ndarray
    final: np.ndarray
    interim: np.ndarray
    stopped: np.ndarray
    would_stop: np.ndarray


def simulate(trials: int, scenario: tuple[float, float, float], seed: int) -> Search:
    """A random search with early stopping after the first of two steps."""
    noise, width, late = scenario
    rng = np.random.default_rng(seed)
    worth = rng.normal(size=(CHOICES, OPTIONS))
    tokens = rng.integers(OPTIONS, size=(trials, CHOICES))
    taken = (tokens[:, :, None] == np.arange(OPTIONS)).reshape(trials, -1).astype(np.uint8)
    final = taken @ worth.ravel() + 0.5 * rng.normal(size=trials)
    spread = final.std()
    interim = width * final + spread * (late * taken[:, 0] + noise * rng.normal(size=trials)) - 3.0
    rule, always = StoppingRule(seed), StoppingRule(seed, chance=0.0)
    verdicts = []
    for trial in range(trials):
        item, better = Interim(1, 2, float(interim[trial])), int((interim[:trial] > interim[trial]).sum())
        verdicts.append([kind.reason_to_stop(trial, item, trial, better) is not None for kind in (rule, always)])
    stopped, would_stop = np.array(verdicts).T
    others = (worth.sum(axis=1, keepdims=True) - worth) / (OPTIONS - 1)
    return Search(taken, (worth - others).ravel(), final, interim, stopped, would_stop)


def estimates(search: Search) -> dict[str, np.ndarray]:
    """By estimate, the difference of every option, float (choices * options,)."""
    done, everyone = ~search.stopped, np.ones(len(search.final))
    weights = done * np.where(search.would_stop, 1 / StoppingRule(0).chance, 1.0)
    found = {name: _differences(values, search.taken, everyone) for name, values in scores(search).items()}
    found["survivors"] = _differences(search.final, search.taken, done)
    found["weighted"] = _differences(search.final, search.taken, weights)
    return found


def scores(search: Search) -> dict[str, np.ndarray]:
    """By estimate that has a score for every trial, these scores, float (trials,)."""
    line = np.column_stack([np.ones(len(search.final)), search.interim])
    return {
        "all trained": search.final,
        "interim": search.interim,
        "filled": _filled(search, line),
        "filled by options": _filled(search, np.hstack([line, search.taken])),
    }


def _differences(scores: np.ndarray, taken: np.ndarray, weights: np.ndarray) -> np.ndarray:
    of, others = weights[:, None] * taken, weights[:, None] * (1 - taken)
    differences: np.ndarray = scores @ of / of.sum(0) - scores @ others / others.sum(0)
    return differences


def _filled(search: Search, known: np.ndarray) -> np.ndarray:
    """Final scores, where a trial was stopped those of the least squares fit on the columns of ``known``."""
    done = ~search.stopped
    fitted = known @ np.linalg.lstsq(known[done], search.final[done], rcond=None)[0]
    return np.where(done, search.final, fitted)


def _held(searches: Sequence[Search]) -> dict[str, str]:
    held: dict[str, list[float]] = {}
    for search in searches:
        slots = np.ones(search.taken.shape[1], dtype=int)
        for name, values in scores(search).items():
            low, high = bootstrap_interval(values, search.taken.astype(int), slots)
            held.setdefault(name, []).append(float(np.mean((low <= search.effects) & (search.effects <= high))))
    return {name: f"{np.mean(shares):.1%}" for name, shares in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--trials", type=int, default=200)
    given = parser.parse_args()
    for name, scenario in SCENARIOS.items():
        searches = [simulate(given.trials, scenario, seed) for seed in range(given.searches)]
        stopped = np.mean([search.stopped.mean() for search in searches])
        print(f"\n{name}: {stopped:.0%} stopped\n\n| estimate | size | error | held |\n| --- | --- | --- | --- |")
        found, held = [estimates(search) for search in searches], _held(searches)
        for estimate in found[0]:
            pairs = [(f[estimate], search.effects) for f, search in zip(found, searches, strict=True)]
            sizes = [np.nansum(got * true) / np.sum(true**2) for got, true in pairs]
            errors = [np.nanmean((got - true) ** 2) / np.mean(true**2) for got, true in pairs]
            size, error = f"{np.mean(sizes):.2f} ± {np.std(sizes):.2f}", np.sqrt(np.mean(errors))
            print(f"| {estimate} | {size} | {error:.2f} | {held.get(estimate, '')} |")


if __name__ == "__main__":
    main()
