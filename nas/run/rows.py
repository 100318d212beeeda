"""What the run store keeps: one frozen record for each of its tables, and how a trial ended."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from nas.settings.targets import TOLD

__all__ = ["Contender", "DiagnosticRow", "Outcome", "PromotionRow", "ScoreRow", "StageRow", "TrialRow", "scored"]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Args:
        status: ``"done"``, ``"stopped"``, ``"diverged"``, ``"failed"`` or ``"duplicate"``.
        reward: finite; of a stopped trial its last interim score; None where the trial diverged or failed.
        reason: why the trial is not done.
        metrics: the score's figures.
        seconds: wall time of the evaluation.
        transient: the failure was not the network's (out of memory, a lost worker, a time limit), so that a later
            proposal of the same network is evaluated anew.
    """

    status: str
    reward: float | None = None
    reason: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    transient: bool = False

    @property
    def told(self) -> float | None:
        """What the controller is told: the reward, or with a target what is left of it."""
        return self.metrics.get(TOLD, self.reward)


@dataclass(frozen=True)
class StageRow:
    """One row of ``stages``: ``trials`` is how many it is to have."""

    name: str
    trials: int
    finished: bool


@dataclass(frozen=True)
class TrialRow:
    """One row of ``trials``.

    Args:
        number: the trial's own, from 1.
        stage: the name of its stage.
        status: ``"running"``, or its `Outcome`'s.
        choices: the option of every choice, by name.
        key: the network's key (`Architecture.key`); two spellings of one network share it.
        reward: as in `Outcome`; None while the trial is running.
        reason: as in `Outcome`.
        metrics: as in `Outcome`.
        log_prob: the log-probability with which the controller proposed it, in nats.
        proposal: the controller's number for it.
        attempts: how often its evaluation began, without those that ended in an orderly interruption.
        transient: as in `Outcome`.
        started: seconds since the epoch.
        seconds: wall time of the evaluation; None while the trial is running.
    """

    number: int
    stage: str
    status: str
    choices: dict[str, str]
    key: str
    reward: float | None
    reason: str | None
    metrics: dict[str, float]
    log_prob: float
    proposal: int
    attempts: int
    transient: bool
    started: float
    seconds: float | None

    @property
    def told(self) -> float | None:
        """As of `Outcome`."""
        return self.metrics.get(TOLD, self.reward)

    @property
    def cached(self) -> bool:
        """Whether the reward is that of an earlier trial of the same network."""
        return self.status == "duplicate"


def scored(rows: Iterable[TrialRow]) -> list[TrialRow]:
    """The rows that have the whole score of a network, one for each: trials that are done, in their order.

    Of a network that another run has scored (the setting ``reuse``) every row is a duplicate: it is the first of them.
    """
    rows = list(rows)
    seen = {row.key for row in rows if row.status not in ("running", "duplicate")}
    found = []
    for row in rows:
        if row.status == "done" or (row.status == "duplicate" and row.key not in seen):
            found.append(row)
            seen.add(row.key)
    return found


@dataclass(frozen=True)
class DiagnosticRow:
    """One row of ``diagnostics``: a figure of the controller's update that followed ``trial``; NaN stays NaN."""

    stage: str
    trial: int
    name: str
    value: float


@dataclass(frozen=True)
class PromotionRow:
    """One row of ``promotions``: a result of full training.

    Args:
        key: the trained architecture's key.
        job: what exactly was trained, 16 hex digits (a hash of resolved recipe, seed and iterations); empty where the
            result is from a version that did not record it.
        recipe: the full-training configuration, by name.
        status: ``"done"``, ``"diverged"`` or ``"failed"``.
        metrics: the final figures.
        place: where the training's files are.
        reason: why it is not done.
        finished: seconds since the epoch.
    """

    key: str
    job: str
    recipe: str
    status: str
    metrics: dict[str, float]
    place: str
    reason: str | None
    finished: float


@dataclass(frozen=True)
class Contender:
    """What is scored beside the search: a reference, or one of the best that a search has found.

    Args:
        name: a reference's name; empty for what was found.
        key: the network's key (`Architecture.key`); empty for a reference that is no architecture.
        space: the name of the architecture's space; empty where there is none.
        choices: the option of every choice, by name.
        trials: the numbers of the trials that it comes from, one, or one of each stage; none for a reference.
    """

    name: str
    key: str = ""
    space: str = ""
    choices: dict[str, str] = field(default_factory=dict)
    trials: tuple[int, ...] = ()


@dataclass(frozen=True)
class ScoreRow:
    """One row of ``scores``: a contender's score from one seed.

    Args:
        number: the row's own, from 1.
        purpose: ``"reference"`` (scored as the search's trials are) or ``"confirmation"``.
        contender: what is scored.
        seed: draws the initial weights and the batches.
        status: ``"waiting"``, ``"running"``, ``"done"``, ``"diverged"`` or ``"failed"``.
        reward: finite; None unless the row is done.
        reason: why the row is not done, once it is settled.
        metrics: as in `Outcome`.
        attempts: as in `TrialRow`; 0 while the row is waiting.
        seconds: wall time of the evaluation; None before the row is settled.
    """

    number: int
    purpose: str
    contender: Contender
    seed: int
    status: str
    reward: float | None
    reason: str | None
    metrics: dict[str, float]
    attempts: int
    seconds: float | None

    @property
    def settled(self) -> bool:
        """Whether its evaluation has come to an end."""
        return self.status not in ("waiting", "running")
