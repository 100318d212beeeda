"""What a run keeps of its proxy task for the full training of its winners: trained parts, as weights files."""

from pathlib import Path

from experiments.job_folder import save_weights
from experiments.promotion import Searched
from nas.run.reading import Run
from nas.searching.display import Display
from nas.searching.plan import make_plan, task_factory
from proxy_tasks.task import ProxyTask
from search_spaces import InputError

__all__ = ["keep", "searched"]


def keep(run: Path, task: ProxyTask) -> None:
    """Writes the parts that a prepared ``task`` has trained into the folder ``run``, unless they are there."""
    for name, module in task.kept().items():
        path = _path(run, name)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            save_weights(module, path)


def searched(run: Run, device: str, display: Display) -> Searched:
    """What ``run`` leaves to the full training of its winners.

    A run of an earlier version has not kept its trained parts: they are made, or found in the cache, once more.

    Args:
        run: to train winners of.
        device: where a part that is missing is trained.
        display: shows that.

    Raises:
        InputError: a part that is made anew is not the one that the run was searched with.
    """
    stage = make_plan(run.settings)[0]
    task = task_factory(stage, run.settings.changed(device=device), None)()
    paths = {name: _path(run.path, name) for name in task.keeps}
    if not all(path.exists() for path in paths.values()):
        task.prepare(display.preparing)
        now, recorded = task.fingerprints(), run.record.fingerprints[stage.name]
        for name in paths:
            if now[name] != recorded[name]:
                raise InputError(
                    f"the {name} network of the run {run.path} is no longer to be had: the one found now has the hash"
                    f" {now[name]}, that one had {recorded[name]}; give one by --{name}"
                )
        keep(run.path, task)
    return Searched(task.sizes(), paths)


def _path(run: Path, name: str) -> Path:
    return run / "kept" / f"{name}.safetensors"
