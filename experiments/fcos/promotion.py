"""The kind of recipe for detectors, ``detector``: backbone, FPN and head, trained on images with boxes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from experiments.fcos import jobs
from experiments.fcos.recipe import DetectorRecipe
from experiments.promotion import Column, Job, JobOptions, Progress, RecipeKind, Result, Searched
from proxy_tasks.average_precision import FIGURES
from proxy_tasks.data import DetectionDataset, open_dataset
from search_spaces import Architecture, SearchSpace

__all__ = ["DETECTORS"]

LABELS = dict(zip(FIGURES, ("AP", "AP50", "AP75", "APs", "APm", "APl"), strict=True))


def _share(name: str) -> Column:
    return Column(LABELS[name], lambda result: f"{100 * result['metrics'][name]:.1f}")


class _Detectors(RecipeKind):
    settings = DetectorRecipe
    measured_on = "the test images"
    columns = (
        *map(_share, FIGURES),
        Column("params", lambda result: f"{result['cost']['params'] / 1e6:.3f} M"),
        Column("GMACs", lambda result: f"{result['cost']['macs'] / 1e9:.2f}"),
        Column("ms", lambda result: f"{result['cost']['ms']:.1f}"),
    )

    def refusal(self, space: SearchSpace) -> str | None:
        """Any architecture of the family is a detector: what it leaves open, FPN or head, is the standard one."""
        return None if space.proxy_task == "fcos" else "trains FCOS detectors"

    def open_data(self, path: str | None, subset: str) -> DetectionDataset:
        """Images with boxes."""
        return open_dataset(path, subset)

    def opened(self, options: JobOptions, subset: str, recipe: DetectorRecipe) -> DetectionDataset:
        """As `open_data`, without bad boxes where that is asked for."""
        return jobs.opened(options, subset)

    def resolved(
        self, recipe: DetectorRecipe, options: JobOptions, searched: Searched | None
    ) -> tuple[DetectorRecipe, JobOptions]:
        """Backbone and widths are the recipe's, else the search's, else the published ones."""
        sizes = {} if searched is None else searched.sizes
        return recipe.around(**sizes), options

    def jobs(self, architectures: Sequence[Architecture], recipe: DetectorRecipe, options: JobOptions) -> list[Job]:
        """A training of each, and of the references before them, alike."""
        keys = {one.key for one in architectures}
        references = [
            Job(name, one.key, one, partial(_train, one, recipe, options), reference=True)
            for name, one in options.references.items()
            if one.key not in keys
        ]
        found = [
            Job(f"detector {rank}", one.key, one, partial(_train, one, recipe, options))
            for rank, one in enumerate(architectures, start=1)
        ]
        return [*references, *found]


def _train(
    one: Architecture, recipe: DetectorRecipe, options: JobOptions, folder: Path, resume: bool, say: Progress
) -> Result:
    return jobs.train_detector(folder, one, recipe, options, resume, say)


DETECTORS = _Detectors()
