"""``nas-analyze``: the statistics of one run, or of several against each other."""

import argparse
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from nas.cli.errors import exit_status
from search_spaces.errors import InputError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``nas-analyze`` and returns its exit status."""
    return exit_status("nas-analyze", lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nas-analyze",
        description="Show what a search sampled, learnt and found, and write a report with plots and tables. The run is"
        " only read; it may be finished, interrupted or still going.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="a run's directory; several are laid over each other, a random one as the others' baseline",
    )
    parser.add_argument(
        "--pareto",
        metavar="COST",
        nargs="?",
        const="macs",
        help="show the front of reward against macs (default), params or latency_ms",
    )
    parser.add_argument("--out", metavar="DIR", help="where to (default: RUN/report, of several runs report)")
    return parser


def _run(arguments: Sequence[str] | None) -> None:
    given = _parser().parse_args(arguments)

    from rich.console import Console

    from nas.analysis import report
    from nas.analysis.analysing import analyse, names_apart
    from nas.analysis.tables import write_tables
    from nas.analysis.terminal import show
    from nas.folders import full_disk_told, make_writable
    from nas.run.reading import Run
    from nas.searching.closing import front_table

    names = names_apart(given.runs)
    runs = [Run(path) for path in given.runs]
    for run in runs:
        if not run.contents().trials:
            raise InputError(f"the run {run.path} has no trial yet")
    fronts = [[trials[-1] for _, trials in run.front_with_trials(given.pareto)] for run in runs if given.pareto]
    out = Path(given.out) if given.out else runs[0].path / "report" if len(runs) == 1 else Path("report")
    make_writable(out)
    console = Console(markup=False, highlight=False, emoji=False)
    analyses = []
    for run, name, front in zip_longest(runs, names, fronts):
        analyses.append(analyse(run, name))
        show(analyses[-1], console)
        if front:
            console.print(front_table(given.pareto, front, analyses[-1].targets))
    with full_disk_told(out, "analyse again"):
        write_tables(analyses, out)
        report.write(analyses, out)
    console.print(f"The report is {out / 'report.html'}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
