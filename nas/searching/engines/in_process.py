"""The engine of ``--workers 0``: one trial after the other in this process."""

from contextlib import closing

from nas.searching.evaluation import evaluate
from nas.searching.loop import SearchLoop
from proxy_tasks.task import ProxyTask

__all__ = ["run"]


def run(loop: SearchLoop, task: ProxyTask) -> None:
    """Evaluates all trials that ``loop`` has; ``task`` is prepared."""
    while (trial := loop.next_trial()) is not None:
        with closing(evaluate(task, trial.architecture)) as items:
            for item in items:
                if not loop.record(trial, item):
                    break
