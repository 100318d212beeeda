"""Finding objects and their masks with a trained network."""

from functools import partial

from experiments.detection.predicting import load_predictor
from experiments.masks.networks import NETWORKS
from experiments.masks.recipe import MaskRecipe

__all__ = ["load"]

load = partial(load_predictor, NETWORKS, MaskRecipe)
"""The network that a full training ended with; see `load_predictor`."""
