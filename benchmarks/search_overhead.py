"""The share of a search's wall time that is spent inside trials.

    python benchmarks/search_overhead.py --workers 0
    python benchmarks/search_overhead.py --workers 2

runs a real search on the built-in images with trials of some ten seconds and prints the seconds inside trials, those of
the references included, over the seconds of the stage, times the number of workers. Set-up (crops, backbone, features)
is done before the clock starts.
"""

import argparse
import tempfile
import time
from pathlib import Path

import nas
import proxy_tasks
import search_spaces


def measured(workers: int, trials: int, iterations: int, out: Path | None = None) -> dict[str, float]:
    """Seconds of the stage's wall time, of a mean trial, the number of trials, and the best reward."""
    overrides = {"iterations": iterations}
    with tempfile.TemporaryDirectory() as root:
        options = proxy_tasks.TaskOptions(cache_dir=root, overrides=overrides)
        proxy_tasks.make(None, search_spaces.get("fcos_fpn"), options).prepare(lambda what, done, total: None)
        begin = time.perf_counter()
        run = nas.search(
            "fcos_fpn",
            trials=trials,
            workers=workers,
            task=overrides,
            device="cpu",
            preset="demo",
            confirm=0,
            cache_dir=root,
            out=out or Path(root) / "run",
        )
        wall = time.perf_counter() - begin
        seconds = run.trials["seconds"].dropna()
        references = sum(row.seconds or 0.0 for row in run.contents().scores)
        best = float(run.trials["reward"].max())
    share = (float(seconds.sum()) + references) / (wall * max(1, workers))
    return {"wall": wall, "trial": float(seconds.mean()), "trials": len(seconds), "share": share, "best": best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=150)
    parser.add_argument("--out", type=Path, help="keep the run here")
    given = parser.parse_args()
    found = measured(**vars(given))
    print("| workers | trials | mean trial, s | wall, s | inside trials |\n| --- | --- | --- | --- | --- |")
    figures = f"{found['trials']} | {found['trial']:.1f} | {found['wall']:.1f} | {found['share']:.3f}"
    print(f"| {given.workers} | {figures} |")


if __name__ == "__main__":
    main()
