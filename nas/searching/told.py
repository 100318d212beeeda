"""What a search under targets tells its controller of an outcome, and compares scores along the way by."""

from dataclasses import replace

from nas.run.rows import Outcome
from nas.settings.targets import TOLD, Targets
from proxy_tasks.task import Interim

__all__ = ["compared", "under_targets"]


def under_targets(outcome: Outcome, targets: Targets) -> Outcome:
    """The outcome with the reward that the targets leave among its metrics; a failure where a cost is missing."""
    if not targets or outcome.reward is None:
        return outcome
    missing = targets.missing(outcome.metrics)
    if missing is not None:
        reason = f"there is a target for {missing}, but the proxy task's metrics have no such figure"
        return replace(outcome, status="failed", reward=None, reason=reason)
    return replace(outcome, metrics={**outcome.metrics, TOLD: targets.told(outcome.reward, outcome.metrics)})


def compared(item: Interim, targets: Targets) -> float | None:
    """What the targets leave of a score along the way; None where a cost is not known yet."""
    return None if targets.missing(item.metrics) else targets.told(item.reward, item.metrics)
