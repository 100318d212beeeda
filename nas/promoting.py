"""From what a search found, or a publication gives, to its full training: recipes, folders, figures side by side."""

import dataclasses
import errno
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from experiments import published, recipes
from experiments.job_folder import JobOptions, save_weights
from experiments.recipes import Recipe
from experiments.video.recipe import StaticRecipe, VideoRecipe
from nas.building import find_architecture
from nas.errors import Interrupted, SearchFailed
from nas.run.reading import Run
from nas.run.store import RunStore
from nas.searching.display import Display
from nas.searching.plan import make_plan, task_factory
from proxy_tasks.data.video import open_video
from proxy_tasks.task import Diverged
from search_spaces import Architecture, InputError

__all__ = ["comparison", "promote"]

Result = dict[str, Any]
_GENTLER = "lower the recipe's learning rates by --set"


class _Chosen(NamedTuple):
    """An architecture to train, and where it is from, for its name: ``", trial 12"``."""

    architecture: Architecture
    origin: str


def promote(
    what: str,
    recipe: str,
    options: JobOptions,
    *,
    changes: Mapping[str, Any] | None = None,
    top: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
) -> list[Result]:
    """Trains in full what ``what`` names, measures it and prints the figures side by side.

    Args:
        what: a run's directory (its ``top`` best), an architecture file or a published name.
        recipe: a published recipe's name or a YAML file.
        options: see `JobOptions`.
        changes: single settings of the recipe.
        top: of a run, how many.
        out: the folder of what is written; None is ``RUN/promoted``, or ``promoted`` in the working directory.
        resume: go on where an earlier call was interrupted or killed.

    Returns:
        one ``result.json`` for each, with its ``name``; of a video recipe the per-frame baseline comes first.

    Raises:
        InputError: a bad name, recipe, setting, weights file, or bad data.
        SearchFailed: a training diverged (all others are finished first), or the disk is full.
        Interrupted: by Ctrl-C; goes on with ``resume``.
    """
    run = Run(what) if what not in published.names() and Path(what).is_dir() else None
    if run is None and top > 1:
        raise InputError(f"--top chooses among a run's trials, but {what!r} is not a run")
    how = recipes.load(recipe, changes)
    chosen = _chosen(what, run, top, how)
    folder = Path(out) if out else Path(what, "promoted") if run else Path("promoted")
    if run is not None:
        options = dataclasses.replace(options, data=options.data or run.settings.data)
    with Display() as display, _told(folder):
        _check(options.data, folder, display)
        if run is not None and isinstance(how, VideoRecipe):
            options, how = _from_run(run, options, how, changes or {}, folder, display)
        job = _Promotion(folder, Path(recipe).stem, options, resume, display)
        results = [job.static(chosen[0], how)] if isinstance(how, StaticRecipe) else job.cells(chosen, run, how)
    Console().print(comparison(results))
    print(f"Everything is in {folder}.")
    if job.diverged:
        raise SearchFailed(f"{'; '.join(job.diverged)}; {_GENTLER}")
    return results


def _chosen(what: str, run: Run | None, top: int, recipe: Recipe) -> list[_Chosen]:
    """What is to be trained; raises `InputError` where the recipe is not for it."""
    if run is None:
        found = [_Chosen(find_architecture(what), "")]
    else:
        found = [_Chosen(best, f", trial {trials[-1].trial}") for best, trials in run.best_with_trials(top)]
        if len(found) < top:
            raise InputError(f"--top {top} asks for more than the {len(found)} trials that are done in the run {what}")
    for architecture, _ in found:
        space = architecture.space
        if isinstance(recipe, StaticRecipe) and space.name != "arch2":
            raise InputError(f"a static recipe trains arch2, but {what} is of the space {space.name!r}")
        if isinstance(recipe, VideoRecipe) and not (space.proxy_task == "video" and len(space)):
            raise InputError(f"a video recipe trains dynamic cells, but {what} is of the space {space.name!r}")
    return found


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """What ends a training before its time, as one sentence that says how to go on."""
    try:
        yield
    except Diverged as error:
        raise SearchFailed(f"{error}; {_GENTLER}") from error
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted; go on with the same command and --resume") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SearchFailed(
            f"the disk is full ({error.filename or folder}); free some space, then go on with the same command and"
            " --resume"
        ) from error


def _check(data: str | None, folder: Path, display: Display) -> None:
    """Refuses bad data, every file of it decoded, and a folder that cannot be written to."""
    for subset in ("train", "test"):
        opened = open_video(data, subset)
        if data is not None:
            display.say(f"{subset}: {opened.describe()}")
            opened.verify()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"cannot write to the folder {folder}: {error.strerror}") from error


def _from_run(
    run: Run, options: JobOptions, recipe: VideoRecipe, changes: Mapping[str, Any], folder: Path, display: Display
) -> tuple[JobOptions, VideoRecipe]:
    """Options and recipe with what the run knows: its static network, that network's backbone and width."""
    stage = make_plan(run.settings)[0]
    task = task_factory(stage, run.settings.changed(device=options.device), None)()
    sizes = {"backbone": task.settings.backbone, "width": task.settings.width}
    recipe = dataclasses.replace(recipe, **{name: value for name, value in sizes.items() if name not in changes})
    static = options.static
    if static is None:
        task.prepare(display.preparing)
        found, recorded = task.fingerprints()["static"], run.record.fingerprints[stage.name]["static"]
        if found != recorded:
            raise InputError(
                f"the static network that the run {run.path} searched its cells around is no longer to be had: the"
                f" one found now has the hash {found}, that one had {recorded}; give one by --static"
            )
        static = str(folder / "static.safetensors")
        save_weights(task.static, Path(static))
    return dataclasses.replace(options, static=static), recipe


class _Promotion:
    """Jobs in one folder that share options and display; `diverged` tells of those that gave no result."""

    def __init__(self, folder: Path, recipe_name: str, options: JobOptions, resume: bool, display: Display):
        self.folder, self.recipe_name, self.options = folder, recipe_name, options
        self.resume, self.display = resume, display
        self.diverged: list[str] = []

    def static(self, chosen: _Chosen, recipe: StaticRecipe) -> Result:
        """A static network's training."""
        from experiments.video.jobs import train_static

        name = chosen.architecture.space.name
        say, place = _Progress(self.display, name), self.folder / f"{name}-{self.recipe_name}"
        return {"name": name, **train_static(place, chosen.architecture, recipe, self.options, self.resume, say)}

    def cells(self, found: Sequence[_Chosen], run: Run | None, recipe: VideoRecipe) -> list[Result]:
        """The baseline's figures, then each cell's training; a run's results go into its store."""
        from experiments.video.jobs import draw_strips, measure_baseline, train_video

        say = _Progress(self.display, "baseline")
        places = {"baseline": self.folder / f"baseline-{self.recipe_name}"}
        results = [{"name": "baseline", **measure_baseline(places["baseline"], recipe, self.options, self.resume, say)}]
        for rank, (architecture, trial) in enumerate(found, start=1):
            name, place = f"cell {rank}", self.folder / f"{architecture.key}-{self.recipe_name}"
            say = _Progress(self.display, name)
            try:
                result = train_video(place, architecture, recipe, self.options, self.resume, say)
            except Diverged as error:
                self.diverged.append(f"{name}{trial}: {error}")
                self._record(run, architecture, "diverged", {}, place)
                continue
            self._record(run, architecture, "done", {**result["metrics"], **result["cost"]}, place)
            places[name] = place
            results.append({"name": name + trial, "key": architecture.key, **result})
        if self.options.pictures:
            draw_strips(self.folder / "strips", self.options.data, places)
        return results

    def _record(self, run: Run | None, architecture: Architecture, status: str, figures: Result, place: Path) -> None:
        if run is not None:
            job = hashlib.sha256(self.recipe_name.encode()).hexdigest()[:16]
            with closing(RunStore(run.path / "trials.db")) as store:
                store.record_promotion(
                    architecture.key, job, self.recipe_name, status=status, metrics=figures, place=place.absolute()
                )


class _Progress:
    """Shows a job's progress: a bar on a terminal, elsewhere a line for every tenth part."""

    def __init__(self, display: Display, name: str):
        self._display, self._name, self._part = display, name, ("", -1)

    def __call__(self, what: str, done: int, total: int, loss: float = math.nan) -> None:
        self._display.preparing(f"{self._name}: {what}", done, total)
        part = (what, 10 * done // total)
        if part != self._part and not self._display.console.is_terminal:
            tail = "" if math.isnan(loss) else f", loss {loss:.4f}"
            self._display.say(f"{self._name}: {what} {done} of {total}{tail}")
        self._part = part


def comparison(results: Sequence[Result]) -> Table:
    """All networks' figures side by side: per cent, parameters, MACs and milliseconds of a first / following frame."""
    devices = dict.fromkeys(result["device"] for result in results)
    table = Table(title=f"on the test frames, timed on {'; '.join(devices)}")
    table.add_column("network")
    for name in ("mIoU", "mAcc", "gAcc", "tIoU", "params"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("GMACs", "ms a frame"):  # on a narrow terminal the second figure goes below the first
        table.add_column(name, justify="right")
    for result in results:
        metrics, cost = result["metrics"], result["cost"]
        shares = [f"{100 * metrics[name]:.1f}" for name in ("miou", "macc", "gacc", "tiou")]
        macs = " / ".join(f"{cost[f'macs_{frame}'] / 1e9:.2f}" for frame in ("first", "following"))
        times = " / ".join(f"{cost[f'ms_{frame}']:.1f}" for frame in ("first", "following"))
        table.add_row(result["name"], *shares, f"{cost['params'] / 1e6:.3f} M", macs, times)
    return table
