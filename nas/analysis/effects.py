"""What each option is worth: uses of it against uses of another option in its place; interval, test and correction.

A use is one choice of one trial. The difference is the mean score over the uses of an option less the mean score over
the uses of other options in the choices that offer it: were choices independent and their effects sums, it would be
what one use adds. Whether a trial has the option anywhere would say little: with fourteen operations in a trial hardly
an operation is absent.

**Which scores.** Where no trial of a stage was stopped early, the scores are the final rewards of the done trials.
Where some were, the done trials are those that ranked high halfway: one of them that took a bad option had good company
to make up for it, so that differences over the done trials come out too small, at 0.76 to 0.93 of their true size in
simulated searches of 200 trials. The scores are then the interim scores of all trials, done or stopped, at the step of
the earliest stop (`StageTrials.comparable`). Simulated differences of these have the true size, 1.00 in the mean with a
deviation of 0.09 to 0.17 from search to search, and 95 % intervals hold 94 % of the true ones. They tell the effect on
the score at that step, which is not that on the final score where the two differ: where interim scores lie 0.7 times as
far apart as final ones, so do the differences, and an option that learns late is shown as weak as it is then.

Three estimates of effects on the final score were tried and left. Counting ten times the trials that went on by chance
alone has nearly the right size, 0.96, but a deviation of 0.18 however little noise there is. Filling in the stopped
trials' scores by a straight line through interim and final scores leaves differences of 0.64 to 0.91. A regression that
has the options beside the interim score fills them in at the right size, 1.00 with a deviation of 0.09, where effects
are sums, as they are in the simulation and as the regression supposes. It is left because the scores that effects are
then estimated and tested on would be made of these effects: intervals, which take them for measured, hold 92 % even
there. The figures are those of ``benchmarks/effects_under_stopping.py``.

**The test** is of the difference itself: how often a difference as large, of either sign, arises when the trials'
scores are dealt out anew among the trials at random.

Differences are observations: a controller that learns draws what it found good more often and together, so in its run
an option is also credited with its company and with coming late; a random run has neither.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, ch. 13 (percentile interval) and 15 (permutation test);
Holm 1979.
"""

import numpy as np
import pandas as pd

from nas.analysis.stage import StageTrials
from nas.analysis.tables import table

__all__ = ["bootstrap_interval", "contrasts", "effects", "holm", "permutation_p"]

SMALLEST = 5  # trials that must differ from the rest in their uses, for an interval and a test
RESAMPLES = 2000
PERMUTATIONS = 10_000  # p-values go down to a ten thousandth: less than 5 % after the correction over 400 options
CHUNK = 50  # resamples or permutations at a time: 2 MB for 10,000 trials


def effects(stage: StageTrials) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables ``effects`` and ``effects_by_choice`` of one stage; without rows where no trial has a score."""
    scored = ~np.isnan(stage.comparable)
    if not scored.any():
        return table("effects", []), table("effects_by_choice", [])
    labels, taken = _taken(stage, scored)
    group = labels.groupby(["kind", "option"], sort=False).ngroup().to_numpy()
    of_group = (group[:, None] == np.arange(group.max() + 1)).astype(np.uint16)
    # Both tables' columns at once, since resamples and permutations take their time
    uses = np.hstack([taken @ of_group, taken])
    slots = np.append(of_group.sum(0, dtype=int), np.ones(len(labels), dtype=int))
    found = contrasts(stage.comparable[scored], uses, slots)
    kinds = labels[["kind", "option"]].drop_duplicates()
    return (
        _effects("effects", stage, kinds, found.iloc[: len(kinds)]),
        _effects("effects_by_choice", stage, labels, found.iloc[len(kinds) :]),
    )


def _taken(stage: StageTrials, scored: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Every option of every choice (choice, kind, option); whether scored trials took it, uint16 (trials, options)."""
    choices = stage.space.choices
    labels = [(choice.name, choice.kind, option) for choice in choices for option in choice.options]
    taken = [
        column == token
        for choice, column in zip(choices, stage.tokens[scored].T, strict=True)
        for token in range(len(choice.options))
    ]
    return pd.DataFrame(labels, columns=["choice", "kind", "option"]), np.stack(taken, axis=1).astype(np.uint16)


def _effects(name: str, stage: StageTrials, labels: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    rows = pd.concat([labels.reset_index(drop=True), found.reset_index(drop=True)], axis=1)
    return table(name, rows.assign(stage=stage.name, score=stage.score, p_holm=holm(found.p.to_numpy())))


def contrasts(rewards: np.ndarray, uses: np.ndarray, slots: np.ndarray) -> pd.DataFrame:
    """Scores that go with the uses of each option, against those that go with uses of other options in its place.

    Args:
        rewards: float (n,), finite: the score of each trial.
        uses: int (n, k): how often each trial took each option.
        slots: int (k,): how many choices of a trial offer the option.

    Returns:
        k rows: used, not_used, mean_with, mean_without, difference, low, high, p. Means over no uses are NaN, and so
        are interval and p-value where fewer than 5 trials differ from the commonest number of uses; where all scores
        are equal there is nothing to test, and p is NaN.
    """
    used = uses.sum(0, dtype=int)
    others = slots * len(rewards) - used
    sums = rewards @ uses
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_with, mean_without = sums / used, (slots * rewards.sum() - sums) / others
    mean_without[others == 0] = np.nan  # what rounding leaves, over nought
    low, high, p = np.full((3, uses.shape[1]), np.nan)
    enough = np.array([len(rewards) - np.bincount(column).max() >= SMALLEST for column in uses.T])
    if enough.any():
        low[enough], high[enough] = bootstrap_interval(rewards, uses[:, enough], slots[enough])
    if enough.any() and np.ptp(rewards) > 0:
        p[enough] = permutation_p(rewards, uses[:, enough])
    return pd.DataFrame(
        {
            "used": used,
            "not_used": others,
            "mean_with": mean_with,
            "mean_without": mean_without,
            "difference": mean_with - mean_without,
            "low": low,
            "high": high,
            "p": p,
        }
    )


def bootstrap_interval(rewards: np.ndarray, uses: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile intervals of each column's difference of means, by resampling trials.

    One resample serves all columns: as counts of each trial it is one row of a matrix product. A resample that has no
    use of an option, or no other, says nothing of it.

    Args:
        rewards, uses, slots: as for `contrasts`.

    Returns:
        float (k,) lower and upper ends, the same in every call.
    """
    rng = np.random.default_rng(0)
    n = len(rewards)
    # Without their mean the difference is the same, and single precision, half the memory, loses nothing that shows.
    centred = (rewards - rewards.mean()).astype(np.float32)
    summed = np.hstack([uses, centred[:, None] * uses], dtype=np.float32)
    differences = []
    for _ in range(RESAMPLES // CHUNK):
        drawn = rng.integers(n, size=(CHUNK, n)) + n * np.arange(CHUNK)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=CHUNK * n).reshape(CHUNK, n).astype(np.float32)
        used, used_sum = np.split(counts @ summed, 2, axis=1)
        others, others_sum = slots * n - used, slots * (counts @ centred)[:, None] - used_sum
        with np.errstate(invalid="ignore", divide="ignore"):
            difference = used_sum / used - others_sum / others
        differences.append(np.where(others > 0, difference, np.nan))
    low, high = np.nanquantile(np.concatenate(differences).astype(float), [0.025, 0.975], axis=0)
    return low, high


def permutation_p(rewards: np.ndarray, uses: np.ndarray) -> np.ndarray:
    """Two-sided p-values of each column's difference of means, by permuting the scores among the trials.

    A permutation leaves the numbers of uses as they are, so that the difference of means is a multiple of the sum of
    centred scores over the uses: to compare these sums is to compare the differences.

    Args:
        rewards, uses: as for `contrasts`; not all rewards equal.

    Returns:
        float (k,), the same in every call: the share of the permutations, the identity among them, whose difference is
        at least as large as the observed one; never 0.
    """
    rng = np.random.default_rng(0)
    centred = (rewards - rewards.mean()).astype(np.float32)
    counts = uses.astype(np.float32)
    least = abs(centred @ counts) * (1 - 1e-5)  # what is equal but for the rounding of single precision counts as equal
    permuted = np.tile(centred, (CHUNK, 1))
    as_large = np.ones(uses.shape[1])
    for _ in range(PERMUTATIONS // CHUNK):
        rng.permuted(permuted, axis=1, out=permuted)
        as_large += (abs(permuted @ counts) >= least).sum(0)
    p: np.ndarray = as_large / (1 + PERMUTATIONS)
    return p


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction of p-values, float (k,); those that are NaN stay so and do not count as comparisons."""
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected
