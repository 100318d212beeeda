"""What confirmation says of a run: who was scored from which seeds, in what order, and the chances of the winner.

Notation: S seeds; contender c's score from seed i is x_ci. All contenders of a run are scored from the same seeds.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from nas.run.rows import Contender, ScoreRow
from nas.settings.targets import Targets
from search_spaces import SPACES, Architecture, SearchSpace

__all__ = [
    "BY",
    "CONFIRMATION",
    "REFERENCE",
    "Difference",
    "Standing",
    "confirmation_seeds",
    "difference",
    "reference_rows",
    "standings",
    "subject_of",
]

REFERENCE, CONFIRMATION = "reference", "confirmation"
"""The purposes of scores beside the search."""
BY = ("reward", "loss", "metric")
"""What contenders can be compared by."""
LARGEST_SEED = 2**62  # that torch, numpy and SQLite all take


def confirmation_seeds(seed: int, count: int) -> tuple[int, ...]:
    """The seeds from which a search of ``seed`` confirms, which it did not use: 1000 · (seed + 1) and the next."""
    return tuple((1000 * (seed + 1) + number) % LARGEST_SEED for number in range(count))


def subject_of(contender: Contender, whole: SearchSpace) -> Architecture | str:
    """What is scored of a contender: its architecture, or the name of a reference that is none.

    Args:
        contender: as the store has it.
        whole: the space that is searched; it and its stages need not be registered.
    """
    if not contender.space:
        return contender.name
    own = {space.name: space for space in (*whole.stages, whole)}
    space: SearchSpace = own.get(contender.space) or SPACES.get(contender.space)
    return space.from_named(contender.choices)


def reference_rows(rows: Iterable[ScoreRow]) -> list[ScoreRow]:
    """The references as they were scored before the search, settled ones alone."""
    return [row for row in rows if row.purpose == REFERENCE and row.settled]


@dataclass(frozen=True)
class Standing:
    """A contender and its scores.

    Args:
        contender: who.
        rows: its settled rows of the seeds asked for, in their order.
        seeds: how many those are.
        measure: the name of the family's metric among a score's metrics; empty where it has none.
        by: what contenders are compared by, one of `BY`.
        targets: what an architecture may cost.
    """

    contender: Contender
    rows: tuple[ScoreRow, ...]
    seeds: int
    measure: str
    by: str
    targets: Targets = field(default_factory=Targets)

    def values(self, by: str) -> list[float]:
        """The scores of the rows that are done, higher is better: the reward, the negative loss or the metric.

        NaN where a row has no such figure.
        """
        read: Callable[[ScoreRow], float | None] = {
            "reward": lambda row: row.reward,
            "loss": lambda row: -row.metrics.get("loss", math.nan),
            "metric": lambda row: row.metrics.get(self.measure, math.nan),
        }[by]
        found = (read(row) for row in self.rows if row.status == "done")
        return [math.nan if value is None else value for value in found]

    def mean(self, by: str) -> float:
        """The mean of `values`; NaN where there is none."""
        values = self.values(by)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, by: str) -> float:
        """The standard deviation over the seeds (of a sample: S - 1 divides); NaN for fewer than two."""
        values = self.values(by)
        return statistics.stdev(values) if len(values) > 1 and not any(map(math.isnan, values)) else math.nan

    @property
    def told(self) -> float:
        """What contenders stand in the order of: the mean of what the targets leave of each of `values`.

        NaN where there is none, or a cost that has a target is not known.
        """
        rows = [row for row in self.rows if row.status == "done"]
        if not rows or any(self.targets.missing(row.metrics) for row in rows):
            return math.nan
        return statistics.fmean(
            self.targets.told(value, row.metrics) for value, row in zip(self.values(self.by), rows, strict=True)
        )

    def cost(self, name: str) -> float:
        """``params``, ``macs``, which no seed changes, or the mean ``latency_ms``; NaN where the task does not tell."""
        found = [row.metrics[name] for row in self.rows if name in row.metrics]
        return statistics.fmean(found) if found else math.nan

    @property
    def reason(self) -> str:
        """Why it cannot be compared with the others; empty where it can."""
        for row in self.rows:
            if row.status != "done":
                return f"seed {row.seed}: {row.reason or row.status}"
        if len(self.rows) < self.seeds:
            return f"scored from {len(self.rows)} of {self.seeds} seeds"
        if math.isnan(self.mean(self.by)):
            return f"its scores have no {self.by}"
        if self.found and math.isnan(self.told):  # a reference is held against the winner whatever it costs
            return f"its scores lack the cost that has a target: {self.targets}"
        return ""

    @property
    def found(self) -> bool:
        """Whether the search has found it, unlike a reference."""
        return bool(self.contender.trials)


def standings(
    rows: Iterable[ScoreRow], seeds: Sequence[int], measure: str, by: str, targets: Targets | None = None
) -> list[Standing]:
    """Every contender scored from the seeds, those that the search has found and references alike.

    The order is that of means (`Standing.told`), best first; of equal means the one with fewer MACs comes first, then
    the one planned first. References of which a cost that has a target is not known follow, then those that cannot be
    compared (`Standing.reason`).

    Args:
        rows: those of one purpose; unsettled ones are passed over.
        seeds: the seeds that count.
        measure: see `Standing`.
        by: one of `BY`.
        targets: what an architecture may cost; None is whatever it does.
    """
    found: dict[tuple[str, str], list[ScoreRow]] = {}
    for row in rows:
        if row.settled and row.seed in seeds:
            found.setdefault((row.contender.name, row.contender.key), []).append(row)
    all_of_them = []
    for own in found.values():
        own.sort(key=lambda row: seeds.index(row.seed))
        all_of_them.append(Standing(own[0].contender, tuple(own), len(seeds), measure, by, targets or Targets()))

    def place(standing: Standing) -> tuple[bool, float, float]:
        last, told, macs = bool(standing.reason), standing.told, standing.cost("macs")
        mean = 0.0 if last else math.inf if math.isnan(told) else -told
        return last, mean, math.inf if math.isnan(macs) else macs

    return sorted(all_of_them, key=place)


@dataclass(frozen=True)
class Difference:
    """How much higher one contender scores than another, paired over the seeds.

    Args:
        mean: of the differences from equal seeds.
        error: the standard error of that mean; NaN from one seed.
        chance: that the mean of infinitely many such differences is above 0, see `difference`; NaN from one seed.
    """

    mean: float
    error: float
    chance: float


def difference(one: Sequence[float], other: Sequence[float]) -> Difference:
    """Student's t of paired differences d_i = one_i - other_i over S seeds.

    The chance is F(mean(d) / error), with error = deviation(d) / sqrt(S) and F the distribution function of Student's t
    with S - 1 degrees of freedom. It is 1 minus the p-value of the one-sided paired t-test; taken as a probability it
    is the posterior one of the true mean being positive, for normal differences and the usual flat prior (Box and Tiao,
    Bayesian Inference in Statistical Analysis, sec. 2.4).

    Args:
        one: S values, one a seed.
        other: S values from the same seeds in the same order.
    """
    deltas = [a - b for a, b in zip(one, other, strict=True)]
    mean = statistics.fmean(deltas)
    if len(deltas) < 2 or math.isnan(mean):
        return Difference(mean, math.nan, math.nan)
    error = statistics.stdev(deltas) / math.sqrt(len(deltas))
    if error == 0:
        return Difference(mean, 0.0, 0.5 * (1 + (mean > 0) - (mean < 0)))
    from scipy.stats import t  # heavy, and asked for by few readers

    return Difference(mean, error, float(t.cdf(mean / error, len(deltas) - 1)))
