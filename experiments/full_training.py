"""What every full training has in common: its folder, its loop, its end; in one process or several."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from experiments import training
from experiments.job_folder import dependencies, finished, open_job, save_weights
from experiments.promotion import JobOptions, Progress, Result
from proxy_tasks import ranks
from proxy_tasks.weights import load_weights
from search_spaces import Architecture, InputError

__all__ = ["train_in_full"]

SomeTraining = TypeVar("SomeTraining", bound=training.Training)


def train_in_full(
    folder: Path,
    architecture: Architecture,
    recipe: Any,
    options: JobOptions,
    resume: bool,
    say: Progress,
    *,
    data: str,
    network: nn.Module,
    begin: Callable[[], SomeTraining],
    finish: Callable[[SomeTraining, int], Result],
    validated: Callable[[SomeTraining], float] | None = None,
) -> Result:
    """Trains in ``folder``, from where it stands there, and measures; a finished training is read.

    Every process that trains together (see `proxy_tasks.ranks`) calls it; the first alone writes, measures and has the
    result, the others have ``{}``.

    Args:
        folder: where everything ends up.
        architecture: what is trained.
        recipe: how, nothing left open.
        options: see `JobOptions`.
        resume: whether the folder may be there already.
        say: see `Progress`.
        data: the fingerprint of the training data.
        network: as it starts.
        begin: makes the training.
        finish: writes the trained weights and the figures; called with the steps that were done.
        validated: the figure of merit on held-out data as the training stands, for a recipe that validates: then the
            weights with the highest are those that ``finish`` gets, and ``last.safetensors`` has the last ones.

    Raises:
        InputError: the folder holds another job, or a damaged one, or a batch has fewer rows than there are processes.
        Diverged: the loss is not finite.
    """
    if getattr(recipe, "batch_size", ranks.count()) < ranks.count():
        raise InputError(f"a batch of {recipe.batch_size} cannot be cut over {ranks.count()} workers")
    if ranks.is_first():
        open_job(folder, resume, architecture, recipe, **dependencies(data, options, network))
    ranks.wait()
    if (done := finished(folder, options)) is not None:
        return done
    job = begin()
    best = folder / "best.safetensors"
    validation = None
    if validated is not None:
        measure, keep = partial(validated, job), partial(save_weights, job.trained, best)
        validation = training.Validation(recipe.validate_every, measure, keep)
    steps = training.run(job, folder, lambda *n: say("training", *n), validation, options.hours)
    if not ranks.is_first():
        return {}
    if validated is not None:
        save_weights(job.trained, folder / "last.safetensors")
        load_weights(job.trained, best)
    return finish(job, steps)
