"""What each option is worth: uses of it against uses of another option in its place; interval, test and correction.

A use is one choice of one done trial. The difference is the mean reward over an option's uses less the mean over the
uses of other options in choices that offer it: were choices independent and their effects sums, it would be what one
use adds. Presence anywhere in a trial would say little where a trial has fourteen operations and hardly one is absent.

Differences are observations: a controller that learns draws what it found good more often and together, so in its run
an option is also credited with its company and with coming late; a random run has neither.

Sources: Efron and Tibshirani, An Introduction to the Bootstrap, ch. 13 (percentile interval); Spearman 1904; Holm 1979.
"""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from nas.analysis.stage import StageTrials
from nas.analysis.tables import table

__all__ = ["bootstrap_interval", "contrasts", "effects", "effects_by_choice", "holm"]

SMALLEST = 5  # trials that must differ from the rest in their uses, for an interval and a test
RESAMPLES = 2000
CHUNK = 50  # resamples at a time: 2 MB of counts for 10,000 trials


def effects(stage: StageTrials) -> pd.DataFrame:
    """The table ``effects`` of one stage; without rows where no trial is done."""
    labels, taken = _taken(stage)
    group = labels.groupby(["kind", "option"], sort=False).ngroup().to_numpy()
    of_group = group[:, None] == np.arange(group.max() + 1)
    return _effects(
        "effects", stage, labels[["kind", "option"]].drop_duplicates(), taken @ of_group.astype(int), of_group.sum(0)
    )


def effects_by_choice(stage: StageTrials) -> pd.DataFrame:
    """The table ``effects_by_choice`` of one stage; without rows where no trial is done."""
    labels, taken = _taken(stage)
    return _effects("effects_by_choice", stage, labels, taken, np.ones(len(labels), dtype=int))


def _taken(stage: StageTrials) -> tuple[pd.DataFrame, np.ndarray]:
    """Every option of every choice (choice, kind, option); whether done trials took it, uint8 (trials, options)."""
    choices = stage.space.choices
    labels = [(choice.name, choice.kind, option) for choice in choices for option in choice.options]
    taken = [
        column == token
        for choice, column in zip(choices, stage.tokens[stage.done].T, strict=True)
        for token in range(len(choice.options))
    ]
    return pd.DataFrame(labels, columns=["choice", "kind", "option"]), np.stack(taken, axis=1).astype(np.uint8)


def _effects(name: str, stage: StageTrials, labels: pd.DataFrame, uses: np.ndarray, slots: np.ndarray) -> pd.DataFrame:
    if not stage.done.any():
        return table(name, [])
    found = contrasts(stage.frame.reward[stage.done].to_numpy(), uses, slots)
    return table(name, pd.concat([labels.reset_index(drop=True), found], axis=1).assign(stage=stage.name))


def contrasts(rewards: np.ndarray, uses: np.ndarray, slots: np.ndarray) -> pd.DataFrame:
    """What a use of each option goes with.

    Args:
        rewards: float (n,), finite, of trials.
        uses: int (n, k), how often a trial took each option.
        slots: int (k,), how many of a trial's choices offer it.

    Returns:
        k rows: used, not_used, mean_with, mean_without, difference, low, high, p, p_holm. Means over no uses are NaN,
        and so are interval and p-values where fewer than 5 trials differ from the commonest number of uses.
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
    if np.ptp(rewards) > 0:
        p[enough] = [spearmanr(rewards, column).pvalue for column in uses[:, enough].T]
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
            "p_holm": holm(p),
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


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction of p-values, float (k,); those that are NaN stay so and do not count as comparisons."""
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected
