"""From what a search found, or a publication gives, to its full training: recipes, folders, figures side by side."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from experiments import published, recipes
from experiments.families import family_of, options_of_others
from experiments.job_folder import read_result
from experiments.promotion import Job, JobOptions, Progress, RecipeKind, Result, identity
from experiments.recipes import Recipe
from nas.building import find_architecture, is_run
from nas.errors import SearchFailed
from nas.folders import ends_told, make_writable
from nas.run.directory import lock_run
from nas.run.reading import Run
from nas.run.store import RunStore
from nas.run.trainings import WEIGHTS
from nas.searching.display import Display
from nas.searching.kept import searched
from proxy_tasks.task import Diverged, out_of_memory
from search_spaces import Architecture, InputError

__all__ = ["comparison", "promote"]

_Work = Callable[[Callable[..., Result], Path, bool, Progress], Result]
"""Called with a job's work, its folder, whether to resume, and what shows the progress."""
_GENTLER = "lower the recipe's learning rates by --set"
_SMALLER = "lower the recipe's batch_size by --set"


class _Chosen(NamedTuple):
    """An architecture to train, where it is from, ``", trial 12"``, and its name if it is published."""

    architecture: Architecture
    origin: str = ""
    name: str = ""

    def title(self, numbered: str) -> str:
        """What it is called; ``numbered`` is what its job is, such as ``"cell 1"``."""
        return self.name or numbered + self.origin


def promote(
    what: str,
    recipe: str,
    options: JobOptions,
    *,
    changes: Mapping[str, Any] | None = None,
    top: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
    workers: int = 0,
    ray_address: str | None = None,
    imports: Sequence[str] = (),
) -> list[Result]:
    """Trains in full what ``what`` names, measures it and prints the figures side by side.

    Args:
        what: a run's directory (its ``top`` best), an architecture file or a published name.
        recipe: a published recipe's name or a YAML file.
        options: see `JobOptions`.
        changes: single settings of the recipe.
        top: how many of a run's best architectures are trained; 1 where ``what`` is no run.
        out: the folder of what is written; None is ``RUN/promoted``, or ``promoted`` in the working directory.
        resume: go on where an earlier call was interrupted or killed.
        workers: so many processes train each network together, on Ray Train; 0: this one does.
        ray_address: the Ray cluster to join; None is one of this machine's cores alone.
        imports: the user's modules that every worker imports.

    Returns:
        one ``result.json`` for each training, with its ``name``; a reference of the recipe's kind comes first.

    Raises:
        InputError: a bad name, recipe, setting, weights file, or bad data; or another process has the run or a folder.
        SearchFailed: a training diverged or ran out of memory (all others are finished first), or the disk is full.
        Interrupted: by Ctrl-C; goes on with ``resume``.
    """
    run = Run(what) if is_run(what) else None
    if run is None and top > 1:
        raise InputError(f"--top chooses among a run's trials, but {what!r} is not a run")
    if run is not None:
        run.settings.search_space()  # imports what the user registers, a kind of recipe perhaps
        imports = (*run.settings.imports, *imports)
    how = recipes.load(recipe, changes)
    chosen = _chosen(what, run, top, how)
    _refuse_options_of_others(chosen[0].architecture, options)
    folder = Path(out) if out else Path(what, "promoted") if run else Path("promoted")
    if run is not None:
        references = _references(chosen[0].architecture, how)
        options = dataclasses.replace(
            options,
            data=options.data or run.settings.data,
            skip_bad_boxes=options.skip_bad_boxes or run.settings.skip_bad_boxes,
            references=references,
        )
    with Display() as display, ends_told(folder), ExitStack() as locks:
        data = _check(how, options, folder, display)
        plain, left = how.as_published and _is_plain(options), None
        if run is not None:
            locks.enter_context(lock_run(run.path))
            left = searched(
                run, options.device, display, given={name for name, value in vars(options).items() if value}
            )
        settings, options = how.how.resolved(how.settings, options, left)
        how = dataclasses.replace(how, settings=settings)
        known_by = identity(settings, options, data)
        work = locks.enter_context(_workers(workers, ray_address, options.device, imports))
        promotion = _Promotion(
            folder, how, options, resume, display, run, known_by, "" if plain else f"-{known_by[:8]}", work
        )
        results = promotion.all(chosen)
    if results:
        Console().print(comparison(results, how.how))
    print(f"Everything is in {folder}.")
    if promotion.failed:
        raise SearchFailed("; ".join(promotion.failed))
    return results


def _chosen(what: str, run: Run | None, top: int, recipe: Recipe) -> list[_Chosen]:
    """What is to be trained; raises `InputError` where the recipe is not for it."""
    if run is None:
        found = [_Chosen(find_architecture(what), name=what if what in published.names() else "")]
    else:
        found = [_Chosen(best, f", trial {trials[-1].number}") for best, trials in run.best_with_trials(top)]
        if len(found) < top:
            raise InputError(f"--top {top} asks for more than the {len(found)} trials that are done in the run {what}")
    for architecture, *_ in found:
        if trains := recipe.how.refusal(architecture.space):
            raise InputError(f"a {recipe.kind} recipe {trains}, but {what} is of the space {architecture.space.name!r}")
    return found


def _references(winner: Architecture, recipe: Recipe) -> dict[str, Architecture]:
    """The published architectures that the winners of a search are held against, as far as the recipe trains them."""
    names = [name for name in family_of(winner.space).references if name in published.names()]
    found = {name: published.load(name) for name in names}
    return {name: one for name, one in found.items() if recipe.how.refusal(one.space) is None}


def _refuse_options_of_others(architecture: Architecture, options: JobOptions) -> None:
    own = family_of(architecture.space)
    for option, owner in options_of_others(own).items():
        if getattr(options, option, None):
            raise InputError(f"--{option} is for the family {owner!r}, but what is trained is of {own.name!r}")


@contextmanager
def _workers(workers: int, address: str | None, device: str, imports: Sequence[str]) -> Iterator[_Work]:
    """What does a job's work in a folder: this process, or so many on Ray Train."""
    if not workers:
        yield lambda work, folder, resume, say: work(folder, resume, say)
        return
    from nas.ray_workers import training as ray_train  # Ray takes seconds to load, and need not be installed

    def together(work: Callable[..., Result], folder: Path, resume: bool, say: Progress) -> Result:
        ray_train.train(work, folder, resume, say, workers=workers, device=device, imports=imports)
        result = read_result(folder)
        assert result is not None, folder
        return result

    with ray_train.connected(workers, address):
        yield together


def _is_plain(options: JobOptions) -> bool:
    """Whether nothing is asked for that makes a training another one than its recipe's."""
    usual = JobOptions()
    return all(
        getattr(options, name) == getattr(usual, name) for name in ("seed", "iterations", "backbone_weights", "static")
    )


def _check(recipe: Recipe, options: JobOptions, folder: Path, display: Display) -> str:
    """Refuses bad data, every file of it decoded, and a folder that cannot be written to; gives the fingerprint."""
    train, test = (recipe.how.opened(options, subset, recipe.settings) for subset in ("train", "test"))
    for subset, opened in (("train", train), ("test", test)):
        if options.data is not None:
            display.say(f"{subset}: {opened.describe()}")
            opened.verify()
    make_writable(folder)
    return train.fingerprint


@dataclasses.dataclass
class _Promotion:
    """Trainings by one recipe in one folder.

    Args:
        folder: that of all of them.
        recipe: with nothing left open.
        options: likewise.
        resume: whether they may have begun.
        display: shows them.
        run: whose winners are trained; their figures go into its store.
        identity: see `identity`.
        suffix: ends the folders' names: nothing where a published recipe is taken as it is, else 8 of these digits.
        work: does a job's work.
        failed: sentences on those that gave no result.
    """

    folder: Path
    recipe: Recipe
    options: JobOptions
    resume: bool
    display: Display
    run: Run | None
    identity: str
    suffix: str
    work: _Work
    failed: list[str] = dataclasses.field(default_factory=list)

    def all(self, chosen: Sequence[_Chosen]) -> list[Result]:
        """The figures of every training that came to its end, those of references first."""
        given = {one.architecture.key: one for one in chosen}
        results, places = [], {}
        for job in self.recipe.how.jobs([one.architecture for one in chosen], self.recipe.settings, self.options):
            title = job.title if job.reference else given[job.architecture.key].title(job.title)
            place = self._place(job.place)
            result = self._trained(job, title, place)
            if result is not None:
                places[job.title] = place
                results.append({"name": title, "key": job.architecture.key, **result})
        if self.options.pictures and len(places) > 1:
            self.recipe.how.draw_together(self._place("strips"), self.options.data, places)
        return results

    def _place(self, what: str) -> Path:
        return self.folder / f"{what}-{self.recipe.name}{self.suffix}"

    def _trained(self, job: Job, title: str, place: Path) -> Result | None:
        make_writable(place)
        try:
            with lock_run(place):
                result = self.work(job.work, place, self.resume, _Progress(self.display, job.title))
        except Diverged as error:
            self._note(job, title, place, "diverged", str(error), _GENTLER)
            return None
        except Exception as error:
            if not out_of_memory(error):
                raise
            self._note(job, title, place, "failed", f"out of memory: {error}".rstrip(": "), _SMALLER)
            return None
        self.display.say(f"{title}: {place / WEIGHTS}")
        self._record(job, "done", place, {**result["metrics"], **result["cost"]})
        return result

    def _note(self, job: Job, title: str, place: Path, status: str, reason: str, advice: str) -> None:
        """A training without a result: told at the end, and a row with its reason."""
        self.failed.append(f"{title}: {reason}; {advice}")
        self._record(job, status, place, {}, reason)

    def _record(
        self, job: Job, status: str, place: Path, figures: Mapping[str, float], reason: str | None = None
    ) -> None:
        if self.run is not None and not job.reference:
            with closing(RunStore(self.run.path / "trials.db")) as store:
                store.record_promotion(
                    job.architecture.key,
                    self.identity,
                    self.recipe.name,
                    status=status,
                    metrics=figures,
                    place=place.absolute(),
                    reason=reason,
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


def comparison(results: Sequence[Result], kind: RecipeKind) -> Table:
    """All networks' figures side by side, in the columns of the recipe's kind."""
    devices = dict.fromkeys(result["device"] for result in results)
    table = Table(title=f"on {kind.measured_on}, timed on {'; '.join(devices)}")
    table.add_column("network")
    for column in kind.columns:
        table.add_column(column.header, justify="right", no_wrap=not column.foldable)
    for result in results:
        table.add_row(result["name"], *(column.text(result) for column in kind.columns))
    return table
