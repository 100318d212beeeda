"""What a run keeps of its proxy task for the full training of its winners: trained parts, as weights files."""

from collections.abc import Collection
from pathlib import Path

from experiments.families import family_of
from experiments.job_folder import save_weights
from experiments.promotion import Searched
from nas.run.reading import Run
from nas.searching.display import Display
from nas.searching.plan import make_plan, task_factory
from nas.settings import SearchSettings
from proxy_tasks.task import ProxyTask
from search_spaces import InputError

__all__ = ["folder", "keep", "searched", "with_kept"]


def keep(run: Path, task: ProxyTask) -> None:
    """Writes the parts that a prepared ``task`` has trained into the folder ``run``, unless they are there."""
    for name, module in task.kept().items():
        path = _path(run, name)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            save_weights(module, path)


def searched(run: Run, device: str, display: Display, given: Collection[str] = ()) -> Searched:
    """What ``run`` leaves to the full training of its winners.

    A run of an earlier version has not kept its trained parts: they are made, or found in the cache, once more.

    Args:
        run: to train winners of.
        device: where a part that is missing is trained.
        display: shows that.
        given: the names of parts that the user gives, which are not needed of the run.

    Raises:
        InputError: a part that is made anew is not the one that the run was searched with.
    """
    stage = make_plan(run.settings)[0]
    task = task_factory(stage, run.settings.changed(device=device), None)()
    paths = {name: _path(run.path, name) for name in task.keeps if name not in given}
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
    return folder(run) / f"{name}.safetensors"


def folder(run: Path) -> Path:
    """Where a run keeps what was trained for it."""
    return run / "kept"


def with_kept(run: Path, settings: SearchSettings) -> SearchSettings:
    """The settings with the run's own file of a trained part where the one that they name is gone."""
    own = family_of(settings.search_space()).options
    gone = [name for name in own if (file := getattr(settings, name)) and not Path(file).exists()]
    return settings.changed(**{name: str(path) for name in gone if (path := _path(run, name)).exists()})
