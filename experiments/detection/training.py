"""Training a whole network that finds objects in images (thesis 7.4.1)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.averaging import WeightAverage
from experiments.detection.loading import Batch, batches
from experiments.detection.recipe import ImageRecipe
from proxy_tasks.data import DetectionDataset
from proxy_tasks.precision import reduced

__all__ = ["DetectorTraining", "rate_factor"]


def rate_factor(recipe: ImageRecipe, number: int, steps: int) -> float:
    """The learning rate of step ``number``, counted from 0, of ``steps``, in parts of its highest.

    ``steps``: rises linearly from the recipe's ``warmup_factor`` to 1, and falls tenfold at both drops. The warm-up
    takes at most a tenth of the training. ``one_cycle``: rises from 1/25 over the first three tenths and falls to
    1/250000, along cosines (Smith and Topin 2019, as `torch.optim.lr_scheduler.OneCycleLR` has it by default).
    """
    if recipe.schedule == "one_cycle":
        peak = 0.3 * steps - 1
        rising = number <= peak
        low, part = (1 / 25, number / peak) if rising else (1 / 250000, (steps - 1 - number) / (steps - 1 - peak))
        return low + (1 - low) * (1 - math.cos(math.pi * part)) / 2
    warmup = min(round(recipe.warmup_iterations / recipe.scale), steps // 10)
    risen = min(1.0, number / warmup) if warmup else 1.0
    drops = sum(number >= round(share * steps) for share in (recipe.first_drop, recipe.second_drop))
    return float((recipe.warmup_factor + (1 - recipe.warmup_factor) * risen) * 0.1**drops)


class DetectorTraining:
    """See `experiments.training.Training`.

    Args:
        detector: trained in place, on its device. It takes torchvision's lists of dicts and resizes images itself. What
            it draws hangs on the step alone.
        data: the training images; those that it ignores count as neither boxes nor background.
        recipe: all settings, nothing left open.
        seed: draws the order of the images and their augmentation.
        iterations: the number of steps; None takes the recipe's.
        loaders: the number of processes that decode images; 0 decodes in this one.
    """

    def __init__(
        self,
        detector: nn.Module,
        data: DetectionDataset,
        recipe: ImageRecipe,
        seed: int,
        iterations: int | None = None,
        loaders: int = 0,
    ):
        self.data, self.recipe, self.seed, self.loaders = data, recipe, seed, loaders
        self.network: Any = detector
        self.steps = iterations or max(1, round(recipe.iterations / recipe.scale))
        self.weights = [parameter for parameter in detector.parameters() if parameter.requires_grad]
        rate = recipe.learning_rate * recipe.scale
        self.rate = rate
        self.optimizer: torch.optim.Optimizer
        if recipe.optimizer == "sgd":
            momentum, decay = recipe.momentum, recipe.weight_decay
            self.optimizer = torch.optim.SGD(self.weights, lr=rate, momentum=momentum, weight_decay=decay)
        else:
            self.optimizer = torch.optim.AdamW(self.weights, lr=rate, weight_decay=recipe.weight_decay)
        self.average = WeightAverage(detector, recipe.weight_average)
        self.device = next(detector.parameters()).device

    @property
    def trained(self) -> Any:
        """What is measured in the end: the average of the weights where the recipe has one."""
        return self.average.network

    def batches(self, start: int) -> Iterator[Batch]:
        """See `experiments.detection.loading`."""
        return batches(self.data, self.recipe, self.seed, range(start, self.steps), self.loaders)

    def loss(self, number: int, batch: Batch) -> Tensor:
        """The sum of torchvision's terms."""
        side, images, targets = batch
        images = [image.to(self.device) / 255 for image in images]
        targets = [{name: value.to(self.device) for name, value in target.items()} for target in targets]
        self.network.train()
        self.network.transform.min_size = (side,)
        with _drawn_by(self.seed, number, self.device), reduced(self.device):
            losses: dict[str, Tensor] = self.network(images, targets)
            return torch.stack(list(losses.values())).sum()

    def update(self, number: int) -> None:
        """One step of the optimiser at the schedule's rate, and of the weights' average."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * rate_factor(self.recipe, number, self.steps)
        if self.recipe.gradient_norm:
            nn.utils.clip_grad_norm_(self.weights, self.recipe.gradient_norm)
        self.optimizer.step()
        self.average.update()

    def state_dict(self) -> dict[str, Any]:
        """Detector, optimiser and average."""
        return {name: getattr(self, name).state_dict() for name in ("network", "optimizer", "average")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)


@contextmanager
def _drawn_by(seed: int, number: int, device: torch.device) -> Iterator[None]:
    """What a network draws in a step, such as RoIs, is drawn by the seed and the step's number."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.default_rng([seed, 2, number]).integers(2**63)))
        yield
