"""The numbers that a trial computes with: bfloat16 where a GPU has products of it, float32 everywhere else."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["at_least_float32", "dtype_on", "reduced", "reduced_products"]


@contextlib.contextmanager
def reduced(device: torch.device) -> Iterator[None]:
    """Within it, convolutions and products on a GPU that has bfloat16 take and give that; elsewhere nothing changes.

    Maps are then bfloat16, also sums of them; weights, their gradients and losses stay float32 (`torch.autocast`). What
    stays float32, as deformable convolutions do, has `reduced_products`.
    """
    lower = _lower(device)
    if lower is None:
        yield
        return
    with reduced_products(device), torch.autocast(device.type, lower):
        yield


@contextlib.contextmanager
def reduced_products(device: torch.device) -> Iterator[None]:
    """Within it, also in backward passes, factors of float32 products on such a GPU are rounded to TF32, of 10 bits."""
    if _lower(device) is None:
        yield
        return
    products = torch.backends.cuda.matmul
    before = products.fp32_precision
    products.fp32_precision = "tf32"
    try:
        yield
    finally:
        products.fp32_precision = before


def _lower(device: torch.device) -> torch.dtype | None:
    if device.type != "cuda":
        return None  # a CPU takes twice as long with it (`benchmarks/step_variants.py`)
    with torch.cuda.device(device):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, in float32 where it has fewer bits: pixels of an image cannot be told apart in bfloat16 beyond 256."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def dtype_on(device: torch.device) -> torch.dtype:
    """What convolutions take here at the moment: within `reduced` bfloat16, else float32."""
    within = device.type in ("cpu", "cuda") and torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if within else torch.float32
