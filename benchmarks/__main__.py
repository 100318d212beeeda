"""One table of what is fast and by how much: every figure beside the plain way, on this machine and in one run.

    python -m benchmarks [--quick] [--out FILE.json]

Ratios are of two times that are taken side by side; aims are the project's own. ``--quick`` takes about a minute: small
shapes, and nothing that trains a whole search. What needs a GPU is left open here. The rows are written as JSON too,
with the device and the versions. Each part is a script of its own, which says what is compared.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))  # the scripts import each other by name

import candidate
import deform_conv
import gpu_trials
import ppo_update
import roofline
import search_overhead
import torchvision

from experiments.timing import device_name
from search_spaces.parts.deform_conv import deform_conv2d

VERSIONS = ("torch", "torchvision", "ray", "dense-nas")
NO_GPU = "open: needs a GPU"
OPEN = (
    "captured graph and bfloat16 against step by step in float32",
    "GPU-hours of the published search, 2,800 FPNs and 600 heads",
    "GPU-hours of a search of 2,000 dynamic cells",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure.

    Args:
        what: is measured.
        ours: seconds, or None where there is no such time.
        plain: seconds of the plain way.
        figure: the ratio of the two, or a share; None is open.
        aim: what the figure should reach at least; None is no aim.
        note: what else is to be said.
    """

    what: str
    ours: float | None = None
    plain: float | None = None
    figure: float | None = None
    aim: float | None = None
    note: str = ""


def ratio(what: str, ours: float, plain: float, aim: float | None = None, note: str = "") -> Row:
    return Row(what, ours, plain, plain / ours, aim, note)


def candidates(quick: bool) -> Iterator[Row]:
    """The published decoder's evaluation."""
    shapes = {"demo": {"crop": 128, "batch_size": 16, "iterations": 4 if quick else 20, "width": "32"}}
    if not quick:
        shapes["paper"] = {"crop": 384, "batch_size": 8, "iterations": 4, "width": "64-128"}
    for name, sizes in shapes.items():
        backbone = "resnet50" if name == "paper" else "mobilenet_v2"
        (ours, loss), (plain, same) = candidate.compared(24 if quick else 48, backbone, **sizes)
        note = f"{backbone}, {sizes['crop']} px, {sizes['iterations']} steps; losses {loss:.4f}, {same:.4f}"
        yield ratio(f"a candidate, shapes of {name}", ours, plain, 10.0, note)


def parts(quick: bool) -> Iterator[Row]:
    """Single operations and the controller."""
    memory = torch.channels_last
    theirs = deform_conv.of_deform_conv(torchvision.ops.deform_conv2d, memory, 1 if quick else 3)
    ours = deform_conv.of_deform_conv(deform_conv2d, memory, 3 if quick else 9)
    yield ratio("deformable convolution against torchvision's", ours / 1000, theirs / 1000)
    update = ppo_update.compared(20 if quick else 100, 3)
    yield ratio("PPO update against token by token", update["batched"], update["loop"], note=f"gap {update['gap']:.0e}")


def searches() -> Iterator[Row]:
    """Two workers of one thread each against one process of one thread; trials of ten seconds here."""
    torch.set_num_threads(1)
    one, two = (search_overhead.measured(workers, 30, 107) for workers in (0, 2))
    yield ratio(
        "trials an hour, two workers", two["wall"], one["wall"], 1.7, f"best {one['best']:.4f}, {two['best']:.4f}"
    )
    yield Row("share of two workers' time inside trials", figure=two["share"], aim=0.95)


def achieved() -> Iterator[Row]:
    """Each family's step against the ceilings of this machine."""
    limit, found = roofline.rows()
    for row in found:
        flops, moved = (row[name] / row["seconds"] / getattr(limit, name) for name in ("flops", "bytes"))
        note = f"{flops:.0%} of the product's FLOP/s, {moved:.0%} of the copy's bytes/s"
        yield Row(f"share of the roofline, {row['space']}", ours=row["seconds"], figure=row["share"], note=note)


def on_gpu(architectures: int) -> Iterator[Row]:
    """Trials at the published shapes."""
    seconds = {}
    for space, trials in (gpu_trials.TRIALS | gpu_trials.CELLS).items():
        fast, slow = gpu_trials.measured(space, architectures, "cuda")[..., 0].mean(axis=0)
        yield ratio(f"{OPEN[0]}, {space}", fast, slow, 3.0, f"{3600 / fast:.0f} trials an hour")
        seconds[space] = trials * fast
    for what, spaces in zip(OPEN[1:], (gpu_trials.TRIALS, gpu_trials.CELLS), strict=True):
        took = sum(seconds[space] for space in spaces)
        yield Row(what, ours=took, figure=took / 3600, note="aim: 24 at most")


def rows(quick: bool) -> Iterator[Row]:
    """All that can be measured here."""
    yield from candidates(quick)
    yield from parts(quick)
    if not quick:
        yield from achieved()
        yield from searches()
    yield from on_gpu(1 if quick else 5) if torch.cuda.is_available() else (Row(what, note=NO_GPU) for what in OPEN)


def line(row: Row) -> str:
    cells = ["" if value is None else f"{value:.3g}" for value in (row.ours, row.plain, row.figure, row.aim)]
    return f"| {' | '.join([row.what, *cells, row.note])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks.json"))
    given = parser.parse_args()
    about = {"device": device_name("cpu"), "python": platform.python_version()}
    about |= {name: importlib.metadata.version(name) for name in VERSIONS}
    print("; ".join(f"{name} {value}" for name, value in about.items()))
    print("| what | ours, s | plain, s | ratio or share | aim | |\n| --- | --- | --- | --- | --- | --- |")
    found = []
    for row in rows(given.quick):
        print(line(row), flush=True)
        found.append(dataclasses.asdict(row))
        given.out.write_text(json.dumps({**about, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
