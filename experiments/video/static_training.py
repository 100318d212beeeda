"""Training a static segmentation network, one frame at a time (thesis A.1)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.averaging import WeightAverage
from experiments.loading import steps_in
from experiments.video.loading import Batch, batches
from experiments.video.recipe import StaticRecipe
from proxy_tasks.data.video.base import VideoDataset
from proxy_tasks.images import normalise
from proxy_tasks.video.frames import shrunk
from proxy_tasks.video.loss import cross_entropy
from proxy_tasks.video.network import StaticSegmenter, upsample

__all__ = ["StaticTraining"]


class StaticTraining:
    """See `experiments.training.Training`; encoder and decoder each with its learning rate under the poly schedule.

    Args:
        network: the network with its auxiliary classifiers; it is trained in place, on its device.
        data: the dataset whose annotated frames are learned.
        recipe: all settings.
        seed: draws the order of the frames and their augmentation.
        iterations: the number of steps; None takes the recipe's epochs.
        loaders: the number of processes that decode images; 0 decodes in this one.
    """

    def __init__(
        self,
        network: StaticSegmenter,
        data: VideoDataset,
        recipe: StaticRecipe,
        seed: int,
        iterations: int | None = None,
        loaders: int = 0,
    ):
        self.network, self.data, self.recipe, self.seed, self.loaders = network, data, recipe, seed, loaders
        self.frames = np.flatnonzero(data.annotated)[:, None]
        self.steps = iterations or steps_in(recipe.epochs, len(self.frames), recipe.batch_size)
        groups = [
            {"params": network.body.parameters(), "lr": recipe.encoder_learning_rate},
            {"params": network.decoder.parameters(), "lr": recipe.decoder_learning_rate},
        ]
        self.optimizer = torch.optim.SGD(groups, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
        self.rates = [group["lr"] for group in groups]
        self.average = WeightAverage(network, recipe.weight_average)
        self.device = next(network.parameters()).device

    @property
    def trained(self) -> Any:
        """What is measured: the average of the weights where the recipe has one."""
        return self.average.network

    def batches(self, start: int) -> Iterator[Batch]:
        """One frame an item."""
        return batches(self.data, self.frames, self.recipe, self.seed, range(start, self.steps), self.loaders)

    def loss(self, number: int, batch: Batch) -> Tensor:
        """Cross-entropy at the labels' size, plus the auxiliary classifiers' at their own."""
        images, labels = (x.squeeze(1).to(self.device) for x in batch)
        self.network.train()
        main, *auxiliary = self.network.training_outputs(normalise(images))
        height, width = labels.shape[-2:]
        loss = cross_entropy(upsample(main, (height, width)), labels)
        for logits in auxiliary:
            small = shrunk(labels, (logits.shape[-2], logits.shape[-1]))
            loss = loss + self.recipe.auxiliary_weight * cross_entropy(logits, small)
        return loss

    def update(self, number: int) -> None:
        """One step of SGD at the schedule's rates, and one of the weights' average."""
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * (1 - number / self.steps) ** self.recipe.poly_power
        self.optimizer.step()
        self.average.update()

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser and average."""
        return {name: getattr(self, name).state_dict() for name in ("network", "optimizer", "average")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)
