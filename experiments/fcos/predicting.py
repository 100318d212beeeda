"""Detecting with a trained detector."""

from functools import partial

from experiments.detection.predicting import load_predictor
from experiments.fcos.networks import NETWORKS
from experiments.fcos.recipe import DetectorRecipe

__all__ = ["load"]

load = partial(load_predictor, NETWORKS, DetectorRecipe)
"""The detector that a full training ended with; see `load_predictor`."""
