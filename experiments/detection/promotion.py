"""What kinds of recipes for networks that find objects in images have in common."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from experiments.detection import jobs
from experiments.detection.recipe import ImageRecipe
from experiments.promotion import Column, Job, JobOptions, Progress, RecipeKind, Result, Searched
from proxy_tasks.average_precision import FIGURES
from proxy_tasks.data import DetectionDataset, open_dataset
from search_spaces import Architecture, SearchSpace

__all__ = ["FIGURE_COLUMNS", "Detectors", "share"]

LABELS = dict(zip(FIGURES, ("AP", "AP50", "AP75", "APs", "APm", "APl"), strict=True))


def share(name: str, header: str) -> Column:
    """A metric between 0 and 1 as a column, in per cent."""
    return Column(header, lambda result: f"{100 * result['metrics'][name]:.1f}")


FIGURE_COLUMNS = tuple(share(name, header) for name, header in LABELS.items())
COSTS = (
    Column("params", lambda result: f"{result['cost']['params'] / 1e6:.3f} M"),
    Column("GMACs", lambda result: f"{result['cost']['macs'] / 1e9:.2f}"),
    Column("ms", lambda result: f"{result['cost']['ms']:.1f}"),
)


class Detectors(RecipeKind):
    """A kind of recipe for a family of such networks.

    Attributes:
        task: the family's name.
        trains: what they are, in a sentence's words: ``"FCOS detectors"``.
        called: what one of them is called in tables.
        networks: see `Networks`.
        figures: the columns before those of the costs.
    """

    task: ClassVar[str]
    trains: ClassVar[str]
    called: ClassVar[str] = "detector"
    networks: ClassVar[jobs.Networks]
    figures: ClassVar[Sequence[Column]] = FIGURE_COLUMNS
    measured_on = "the test images"

    def __init_subclass__(cls) -> None:
        cls.columns = (*cls.figures, *COSTS)

    def refusal(self, space: SearchSpace) -> str | None:
        """Any architecture of the family is one: what it leaves open is the standard."""
        return None if space.proxy_task == self.task else f"trains {self.trains}"

    def open_data(self, path: str | None, subset: str) -> DetectionDataset:
        """Images with boxes, and masks where the networks learn them."""
        return open_dataset(path, subset, masks=self.networks.masks)

    def opened(self, options: JobOptions, subset: str, recipe: ImageRecipe) -> DetectionDataset:
        """As `open_data`, without bad boxes where that is asked for."""
        return jobs.opened(options, subset, self.networks.masks)

    def resolved(
        self, recipe: ImageRecipe, options: JobOptions, searched: Searched | None
    ) -> tuple[ImageRecipe, JobOptions]:
        """Backbone and widths are the recipe's, else the search's, else the published ones."""
        sizes = {} if searched is None else searched.sizes
        return recipe.around(**sizes), options

    def jobs(self, architectures: Sequence[Architecture], recipe: ImageRecipe, options: JobOptions) -> list[Job]:
        """A training of each, and of the references before them, alike."""
        keys = {one.key for one in architectures}
        references = [
            Job(name, one.key, one, self._job(one, recipe, options), reference=True)
            for name, one in options.references.items()
            if one.key not in keys
        ]
        found = [
            Job(f"{self.called} {rank}", one.key, one, self._job(one, recipe, options))
            for rank, one in enumerate(architectures, start=1)
        ]
        return [*references, *found]

    def _job(
        self, one: Architecture, recipe: ImageRecipe, options: JobOptions
    ) -> Callable[[Path, bool, Progress], Result]:
        def train(folder: Path, resume: bool, say: Progress) -> Result:
            return jobs.train_detector(self.networks, folder, one, recipe, options, resume, say)

        return train
