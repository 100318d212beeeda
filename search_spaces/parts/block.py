"""The block that `search_spaces.blocks` spells."""

from torch import Tensor, nn

__all__ = ["Block"]


class Block(nn.Module):
    """A basic block: aggregation(operation 1 of x1, operation 2 of x2); resizing comes after the operations."""

    def __init__(self, op1: nn.Module, op2: nn.Module, agg: nn.Module):
        super().__init__()
        self.op1 = op1
        self.op2 = op2
        self.agg = agg

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Two maps (N, width, ·, ·) -> (N, width, H, W) of the larger size."""
        out: Tensor = self.agg(self.op1(x1), self.op2(x2))
        return out
