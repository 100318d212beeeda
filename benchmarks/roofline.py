"""What a training step of each family achieves, beside this machine's matrix product and its copy.

    python benchmarks/roofline.py

The ceilings are measured: a float32 product of square matrices, and a copy of an array too large for the caches. A step
is the difference between a long and a short evaluation of one published or drawn candidate on the built-in data, over
the steps between them. Operations are those of its products and convolutions, forward and backward, as PyTorch counts
them; bytes are those of all tensors that its operations read and write, each as if none were in a cache, so that a step
may pass the copy's ceiling. The roofline is the least time that both ceilings leave.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import proxy_tasks
import search_spaces
from experiments import published
from experiments.timing import median_milliseconds
from search_spaces import Architecture

CANDIDATES = {"fcos_decoder_c2": "nas_fcos", "video_cell": None, "mask_head": "htca_d"}
LENGTH = {"fcos": "iterations", "video": "epochs", "masks": "iterations"}
SHORT, LONG = 2, 6
VIEWS = ("view", "t.", "transpose", "permute", "expand", "slice", "select", "stride", "detach", "squeeze", "split")


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """Operations and bytes a second."""

    flops: float
    bytes: float


def seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """The median on this CPU, after one call that does not count."""
    return median_milliseconds(function, "cpu", repeats, warmup=1) / 1000


def ceilings(side: int = 2048, megabytes: int = 256) -> Ceilings:
    """What this machine reaches with the threads that PyTorch has."""
    a, b = torch.randn(2, side, side)
    source = torch.randn(megabytes * 2**18)
    target = torch.empty_like(source)
    product, copy = seconds(lambda: a @ b), seconds(lambda: target.copy_(source))
    return Ceilings(2 * side**3 / product, 2 * 4 * source.numel() / copy)


class Traffic(TorchDispatchMode):
    """Adds up the bytes of the tensors that operations read and write; those that only look at a tensor have none."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not any(name in str(func) for name in VIEWS):
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in tensors)
        return out


def evaluation(space: str, length: int, folder: str) -> Callable[[], object]:
    """A prepared evaluation of so many iterations or epochs."""
    found = search_spaces.get(space)
    options = proxy_tasks.TaskOptions(cache_dir=folder, overrides={LENGTH[str(found.proxy_task)]: length})
    task = proxy_tasks.make(None, found, options)
    task.prepare(lambda what, done, total: None)
    name = CANDIDATES[space]
    candidate: Architecture = published.load(name) if name else found.sample(np.random.default_rng(0))
    return lambda: list(task.evaluate(candidate))


def step_of(space: str, folder: str) -> tuple[float, float, float]:
    """Seconds, operations and bytes of one more iteration, or epoch."""
    short, long = evaluation(space, SHORT, folder), evaluation(space, LONG, folder)

    def counted(run: Callable[[], object]) -> tuple[int, int]:
        with Traffic() as traffic, FlopCounterMode(display=False) as flops:
            run()
        return flops.get_total_flops(), traffic.bytes

    figures = zip((seconds(short, 2), *counted(short)), (seconds(long, 2), *counted(long)), strict=True)
    took, flops, moved = ((more - less) / (LONG - SHORT) for less, more in figures)
    return took, flops, moved


def rows() -> tuple[Ceilings, list[dict[str, Any]]]:
    """The ceilings, and a row a family."""
    limit, found = ceilings(), []
    with tempfile.TemporaryDirectory() as folder:
        for space in CANDIDATES:
            took, flops, moved = step_of(space, folder)
            least = max(flops / limit.flops, moved / limit.bytes)
            found.append({"space": space, "seconds": took, "flops": flops, "bytes": moved, "share": least / took})
    return limit, found


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    limit, found = rows()
    print(
        f"{torch.get_num_threads()} threads; product {limit.flops / 1e9:.0f} GFLOP/s, copy {limit.bytes / 1e9:.1f} GB/s"
    )
    print("| space | ms a step | GFLOP/s | of the product's | GB/s | of the copy's | of the roofline |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in found:
        flops, moved = row["flops"] / row["seconds"], row["bytes"] / row["seconds"]
        figures = f"{flops / 1e9:.1f} | {flops / limit.flops:.0%} | {moved / 1e9:.1f} | {moved / limit.bytes:.0%}"
        print(f"| {row['space']} | {1000 * row['seconds']:.0f} | {figures} | {row['share']:.0%} |")


if __name__ == "__main__":
    main()
