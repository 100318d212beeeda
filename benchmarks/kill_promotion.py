"""``kill -9`` of a full training at random moments, each followed by ``--resume``, against an undisturbed one.

    python benchmarks/kill_promotion.py fpn_fcos --recipe fcos_small --data path/to/bccd --iterations 60

prints, for each kill, the steps in the checkpoint that it left, and at the end whether the trained weights and the
losses on the way are those of the undisturbed training, bit for bit. Other options go to nas-promote as they are.
``--calm`` names the ``--out`` of the same training, where it was run before.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill_and_resume import kill_after

from experiments.training import read_checkpoint


def steps_in(out: Path) -> int:
    """The steps in the checkpoint of the only training in a folder; 0 is none yet."""
    checkpoints = list(out.glob("*/checkpoint.pt"))
    return int(read_checkpoint(checkpoints[0])["step"]) if checkpoints else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("architecture")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--shortest", type=float, default=40.0, help="seconds before a kill")
    parser.add_argument("--longest", type=float, default=120.0)
    parser.add_argument("--kill-seed", type=int, default=0, help="draws the moments")
    parser.add_argument("--calm", type=Path, help="where the undisturbed training is already")
    given, rest = parser.parse_known_args()
    rng = random.Random(given.kill_seed)
    promote = [sys.executable, "-m", "nas.cli.promote", given.architecture, "--device", "cpu", *rest]
    with tempfile.TemporaryDirectory() as name:
        calm, killed = given.calm or Path(name) / "calm", Path(name) / "killed"
        if given.calm is None:
            begin = time.perf_counter()
            subprocess.run([*promote, "--out", str(calm)], check=True, stdout=subprocess.DEVNULL)
            print(f"undisturbed: {steps_in(calm)} steps in {time.perf_counter() - begin:.0f} s", flush=True)
        command, kills = [*promote, "--out", str(killed)], 0
        while kills < given.kills and kill_after(command, seconds := rng.uniform(given.shortest, given.longest)):
            kills += 1
            print(f"kill {kills} after {seconds:.0f} s: {steps_in(killed)} steps are kept", flush=True)
            command = [*promote, "--out", str(killed), "--resume"]
        if kills == given.kills:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for what in ("weights.safetensors", "log.csv"):
            (one,), (other,) = (list(out.glob(f"*/{what}")) for out in (calm, killed))
            print(f"{kills} kills: {what} equal bit for bit: {one.read_bytes() == other.read_bytes()}")


if __name__ == "__main__":
    main()
