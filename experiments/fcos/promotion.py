"""The kind of recipe for detectors, ``detector``: backbone, FPN and head, trained on images with boxes."""

from experiments.detection.promotion import Detectors
from experiments.fcos.networks import NETWORKS
from experiments.fcos.recipe import DetectorRecipe

__all__ = ["DETECTORS"]


class _FCOS(Detectors):
    settings = DetectorRecipe
    task, trains, networks = "fcos", "FCOS detectors", NETWORKS


DETECTORS = _FCOS()
