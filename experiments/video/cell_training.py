"""Training a dynamic cell and its static network end to end (thesis 6.4.2)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from experiments.averaging import WeightAverage
from experiments.loading import steps_in
from experiments.video.loading import Batch, batches
from experiments.video.recipe import VideoRecipe
from proxy_tasks.data.video.base import VideoDataset
from proxy_tasks.images import normalise
from proxy_tasks.video.loss import cross_entropy
from proxy_tasks.video.network import VideoSegmenter, upsample

__all__ = ["VideoTraining"]


class VideoTraining:
    """See `experiments.training.Training`: the cell alone by Adam, then the cell by Adam and the rest by SGD.

    Args:
        network: the network, whose static part is trained already; it is trained in place, on its device.
        data: the dataset whose sequences are learned.
        recipe: all settings.
        seed: draws the order of the sequences and their augmentation.
        iterations: the number of steps end to end; None takes the recipe's epochs.
        loaders: the number of processes that decode images; 0 decodes in this one.
    """

    def __init__(
        self,
        network: VideoSegmenter,
        data: VideoDataset,
        recipe: VideoRecipe,
        seed: int,
        iterations: int | None = None,
        loaders: int = 0,
    ):
        self.network, self.data, self.recipe, self.seed, self.loaders = network, data, recipe, seed, loaders
        self.sequences = data.sequences()
        self.cell_steps = steps_in(recipe.cell_epochs, len(self.sequences), recipe.batch_size)
        self.steps = self.cell_steps + (iterations or steps_in(recipe.epochs, len(self.sequences), recipe.batch_size))
        self.adam = torch.optim.Adam(network.cell.parameters(), lr=recipe.cell_learning_rate, foreach=True)
        self.sgd = torch.optim.SGD(network.static.parameters(), recipe.static_learning_rate, momentum=recipe.momentum)
        self.average = WeightAverage(network, recipe.weight_average)
        self.device = next(network.parameters()).device

    @property
    def trained(self) -> Any:
        """What is measured: the average of the weights where the recipe has one."""
        return self.average.network

    def batches(self, start: int) -> Iterator[Batch]:
        """One sequence an item."""
        return batches(self.data, self.sequences, self.recipe, self.seed, range(start, self.steps), self.loaders)

    def loss(self, number: int, batch: Batch) -> Tensor:
        """Cross-entropy at the labels' size, summed over the frames after the first."""
        images, labels = (x.to(self.device) for x in batch)
        self._set_phase(self._end_to_end(number))
        clips, length = images.shape[:2]
        frames = normalise(images.flatten(0, 1)).unflatten(0, (clips, length))
        scores = self.network(frames)[:, 1:]
        height, width = labels.shape[-2:]
        loss = torch.zeros((), device=self.device)
        for t in range(length - 1):
            loss = loss + cross_entropy(upsample(scores[:, t], (height, width)), labels[:, t + 1])
        return loss

    def update(self, number: int) -> None:
        """One step of Adam for the cell, end to end one of SGD for the rest, and one of the weights' average."""
        end_to_end, recipe = self._end_to_end(number), self.recipe
        for group in self.adam.param_groups:
            group["lr"] = recipe.finetune_cell_learning_rate if end_to_end else recipe.cell_learning_rate
        self.adam.step()
        if end_to_end:
            self.sgd.step()
        self.average.update()

    def _end_to_end(self, number: int) -> bool:
        return number >= self.cell_steps

    def _set_phase(self, end_to_end: bool) -> None:
        """The static network is frozen, its batch norms' statistics too, while the cell learns alone."""
        self.network.cell.train()
        self.network.static.train(end_to_end).requires_grad_(end_to_end)

    def state_dict(self) -> dict[str, Any]:
        """Network, optimisers and average."""
        return {name: getattr(self, name).state_dict() for name in ("network", "adam", "sgd", "average")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        for name, value in state.items():
            getattr(self, name).load_state_dict(value)
