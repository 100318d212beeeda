"""A full training by one process and by several, which cut the same batches: losses side by side, and the speed.

    OMP_NUM_THREADS=1 python benchmarks/promotion_workers.py fpn_fcos --recipe fcos_small --data path/to/bccd \\
        --iterations 50

prints the losses that both log, the largest difference between them, and the seconds of a step: those between the
first and the last that are shown, so that the start of Ray is left out. Other options go to nas-promote as they are.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd


def trained(promote: list[str], out: Path) -> tuple[pd.DataFrame, float]:
    """The log of a training, and its seconds a step by when its progress is shown."""
    process = subprocess.Popen([*promote, "--out", str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    shown = [(int(of[1]), time.perf_counter()) for line in process.stdout if (of := re.search(r"training (\d+)", line))]
    assert process.wait() == 0, "nas-promote failed"
    (first, began), (last, ended) = shown[0], shown[-1]
    return pd.read_csv(next(out.glob("*/log.csv"))), (ended - began) / (last - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("architecture")
    parser.add_argument("--workers", type=int, default=2)
    given, rest = parser.parse_known_args()
    promote = [sys.executable, "-u", "-m", "nas.cli.promote", given.architecture, "--device", "cpu", *rest]
    with tempfile.TemporaryDirectory() as name:
        one, alone = trained(promote, Path(name) / "one")
        several, together = trained([*promote, "--workers", str(given.workers)], Path(name) / "several")
    print(f"| step | loss, one process | loss, {given.workers} workers |\n| --- | --- | --- |")
    for step, a, b in zip(one["step"], one["loss"], several["loss"], strict=True):
        print(f"| {step} | {a:.6f} | {b:.6f} |")
    print(f"largest difference {np.abs(one['loss'] - several['loss']).max():.1e}")
    print(f"{alone:.2f} s a step, {together:.2f} s with {given.workers} workers: {alone / together:.2f} times as fast")


if __name__ == "__main__":
    main()
