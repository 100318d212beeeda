"""Parts that compute in the type of their maps, or in that of their weights, whatever `torch.autocast` would choose.

On CUDA autocast takes group norm and resizing in float32 and leaves their outputs so, and a float32 parameter makes a
product with a map of bfloat16 float32: from there on most maps of a decoder would be twice as large.
"""

import contextlib

import torch
from torch import Tensor

__all__ = ["as_it_is"]


def as_it_is(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Within it operations on tensors like ``x`` are computed in the types that these have."""
    kind = x.device.type
    within = kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if within else contextlib.nullcontext()
