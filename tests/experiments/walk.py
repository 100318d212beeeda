"""A training that costs nothing."""

import torch


class Walk:
    """A weight with momentum; the batch of a step is its number. ``at`` maps a step to what happens in it."""

    def __init__(self, steps=34, at=None):
        self.steps, self.at = steps, at or {}
        self.network = self.trained = torch.nn.Identity()
        self.weight, self.momentum = torch.ones(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        self.walked = []

    def batches(self, start):
        yield from range(start, self.steps)

    def loss(self, number, batch):
        assert number == batch
        self.walked.append(number)
        found = self.at.get(number, lambda: None)()
        self.momentum = 0.9 * self.momentum + torch.sin(self.weight * number)
        self.weight = self.weight - 0.1 * self.momentum
        return (self.weight.sum() if found is None else torch.tensor(found)).requires_grad_()

    def update(self, number):
        self.updated = number

    def state_dict(self):
        return {"weight": self.weight, "momentum": self.momentum}

    def load_state_dict(self, state):
        self.weight, self.momentum = state["weight"], state["momentum"]


def quiet(done, total, loss):
    """Progress that nobody sees."""
