"""The kind of recipe for networks with mask heads, ``masks``, trained on images with boxes and masks."""

from collections.abc import Sequence
from dataclasses import replace

from experiments.detection.promotion import FIGURE_COLUMNS, Detectors, share
from experiments.detection.recipe import ImageRecipe
from experiments.masks.networks import NETWORKS
from experiments.masks.recipe import MaskRecipe
from experiments.promotion import Job, JobOptions
from search_spaces import Architecture
from search_spaces.masks.choices import stages_of

__all__ = ["MASKS"]


class _Masks(Detectors):
    settings = MaskRecipe
    task, trains, networks = "masks", "networks with mask heads", NETWORKS
    called = "network"
    figures = (*FIGURE_COLUMNS[:3], share("box_ap", "box AP"))

    def jobs(self, architectures: Sequence[Architecture], recipe: ImageRecipe, options: JobOptions) -> list[Job]:
        """A training of each, and before them of the references that have as many stages, alike."""
        stages = {stages_of(one.space) for one in architectures}
        alike = {name: one for name, one in options.references.items() if stages_of(one.space) in stages}
        return super().jobs(architectures, recipe, replace(options, references=alike))


MASKS = _Masks()
