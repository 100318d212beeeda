"""``kill -9`` of a search at random moments, each followed by ``--resume``, against an undisturbed run.

    python benchmarks/kill_and_resume.py --kills 10 [--workers 2]

prints, for each kill, the trials settled and running when it struck, and at the end whether any trial is lost or
counted twice and, with ``--workers 0``, whether the rows equal those of the undisturbed run (all columns but times).
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nas
from nas.run.store import RunStore

SETTINGS = ("crop=64", "batch_size=8", "iterations=10", "width=16-32", "pretrain_iterations=5")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "nas.cli.search", *arguments]


def first(root: Path, out: Path, given: argparse.Namespace) -> list[str]:
    flags = ("--trials", f"{given.trials},{given.trials // 2}", "--workers", str(given.workers), "--device", "cpu")
    return command(*flags, "--cache-dir", str(out) + "-cache", "--out", str(out), "--set", *SETTINGS)


def kill_after(arguments: list[str], seconds: float) -> bool:
    """Runs a command and kills its driver after ``seconds``; False where it ended before."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        _, told = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    assert process.returncode == 0, told.decode()
    return False


def rows(run: Path):
    frame = nas.load_run(run).trials
    return frame[[name for name in frame.columns if name != "seconds"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--shortest", type=float, default=3.0, help="seconds before a kill")
    parser.add_argument("--longest", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        begin = time.perf_counter()
        subprocess.run(first(root, root / "calm", given), check=True, stdout=subprocess.DEVNULL)
        print(f"undisturbed: {len(rows(root / 'calm'))} rows in {time.perf_counter() - begin:.0f} s")
        killed, arguments = 0, first(root, root / "killed", given)
        while killed < given.kills and kill_after(arguments, seconds := rng.uniform(given.shortest, given.longest)):
            killed += 1
            if (root / "killed" / "run.yaml").exists():
                arguments = command("--resume", str(root / "killed"))
                status = rows(root / "killed")["status"].value_counts().to_dict()
                print(f"kill {killed} after {seconds:.2f} s: {status}", flush=True)
            else:
                print(f"kill {killed} after {seconds:.2f} s: before the run began", flush=True)
        if killed == given.kills:
            subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
        calm, disturbed = rows(root / "calm"), rows(root / "killed")
        store = RunStore(root / "killed" / "trials.db", read_only=True)
        proposals = [(row.stage, row.proposal) for row in store.trials()]
        twice = len(proposals) - len(set(proposals))
        lost = sum(1 + max(n for name, n in proposals if name == stage) for stage in {s for s, _ in proposals})
        lost -= len(set(proposals))
        print(f"{killed} kills: {len(disturbed)} rows of {len(calm)}, {lost} lost, {twice} counted twice, ", end="")
        print(f"status {disturbed['status'].value_counts().to_dict()}")
        if given.workers == 0:
            print(f"rows equal to the undisturbed run's: {calm.equals(disturbed[calm.columns])}")


if __name__ == "__main__":
    main()
