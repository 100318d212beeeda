"""The kinds of recipe for segmentation: ``static`` trains arch2 frame by frame, ``video`` dynamic cells end to end."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.job_folder import trained_sizes
from experiments.promotion import Column, Job, JobOptions, Progress, RecipeKind, Result, Searched
from experiments.video import jobs
from experiments.video.recipe import StaticRecipe, VideoRecipe
from proxy_tasks.data.video import VideoDataset, open_video
from search_spaces import Architecture, SearchSpace

__all__ = ["CELLS", "STATIC"]


def _share(name: str) -> Column:
    labels = {"miou": "mIoU", "macc": "mAcc", "gacc": "gAcc", "tiou": "tIoU"}
    return Column(labels[name], lambda result: f"{100 * result['metrics'][name]:.1f}")


def _first_and_following(name: str, unit: float, digits: int, result: Result) -> str:
    """A cost of a clip's first frame, and of those that follow."""
    return " / ".join(f"{result['cost'][f'{name}_{frame}'] / unit:.{digits}f}" for frame in ("first", "following"))


def _work(
    train: Callable[..., Result], architecture: Architecture, recipe: Any, options: JobOptions
) -> Callable[[Path, bool, Progress], Result]:
    return lambda folder, resume, say: train(folder, architecture, recipe, options, resume, say)


def _measured(recipe: VideoRecipe, options: JobOptions, folder: Path, resume: bool, say: Progress) -> Result:
    return jobs.measure_baseline(folder, recipe, options, resume, say)


class _Segmentation(RecipeKind):
    """What the two kinds share: the columns that their networks are compared by."""

    measured_on = "the test frames"
    columns = (
        *(_share(name) for name in ("miou", "macc", "gacc", "tiou")),
        Column("params", lambda result: f"{result['cost']['params'] / 1e6:.3f} M"),
        Column("GMACs", partial(_first_and_following, "macs", 1e9, 2), foldable=True),
        Column("ms a frame", partial(_first_and_following, "ms", 1.0, 1), foldable=True),
    )


class _Static(_Segmentation):
    settings = StaticRecipe

    def open_data(self, path: str | None, subset: str) -> VideoDataset:
        """Frames with a class for every pixel; those before annotated ones need not be there."""
        return open_video(path, subset, sequences=False)

    def refusal(self, space: SearchSpace) -> str | None:
        """Everything but the published network is refused: it has no choices."""
        return None if space.name == "arch2" else "trains arch2"

    def jobs(self, architectures: Sequence[Architecture], recipe: StaticRecipe, options: JobOptions) -> list[Job]:
        """One training of each, of which there is but one network."""
        return [
            Job(one.space.name, one.space.name, one, _work(jobs.train_static, one, recipe, options))
            for one in architectures
        ]


class _Cells(_Segmentation):
    settings = VideoRecipe

    def open_data(self, path: str | None, subset: str) -> VideoDataset:
        """Sequences of frames with a class for every pixel."""
        return open_video(path, subset)

    def opened(self, options: JobOptions, subset: str, recipe: VideoRecipe) -> VideoDataset:
        """As `open_data`, with sequences as long as the recipe says."""
        return jobs.opened(options.data, subset, recipe)

    def refusal(self, space: SearchSpace) -> str | None:
        """Only cells are trained; the network around them is the static one."""
        return None if space.proxy_task == "video" and len(space) else "trains dynamic cells"

    def jobs(self, architectures: Sequence[Architecture], recipe: VideoRecipe, options: JobOptions) -> list[Job]:
        """The static network as it is, frame by frame, then each cell's training around it."""
        measure = partial(_measured, recipe, options)
        cells = [
            Job(f"cell {rank}", one.key, one, _work(jobs.train_video, one, recipe, options))
            for rank, one in enumerate(architectures, start=1)
        ]
        return [Job("baseline", "baseline", jobs.ARCH2, measure, reference=True), *cells]

    def resolved(
        self, recipe: VideoRecipe, options: JobOptions, searched: Searched | None
    ) -> tuple[VideoRecipe, JobOptions]:
        """Cells are trained around the static network that is given, or else around that of their search, at its sizes.

        Raises:
            InputError: there is no such network, or the recipe names another backbone or width.
        """
        if options.static is None and searched is not None:
            static = searched.weights["static"]
            return recipe.around(**searched.sizes), dataclasses.replace(options, static=str(static))
        known = trained_sizes(Path(jobs.static_file(options)))
        return recipe.around(known.get("backbone"), known.get("width")), options

    def draw_together(self, folder: Path, data: str | None, jobs_done: Mapping[str, Path]) -> None:
        """Strips of frame, truth and every network's prediction."""
        jobs.draw_strips(folder, data, jobs_done)


STATIC, CELLS = _Static(), _Cells()
