import subprocess
import sys

import pandas as pd
import pytest
from analysis_runs import row, write_run
from fake_tasks import TOY
from places import edit, environment
from rich.console import Console

from nas.analysis import analyse, report
from nas.analysis.tables import TABLES, write_tables
from nas.analysis.terminal import show
from nas.cli import analyze
from nas.run.store import RunStore
from search_spaces import Choice, InputError, SearchSpace

NASTY = ("<script>alert(1)</script>", 'a,"b"\nc', "[red]x", "&amp;'")
HOSTILE = SearchSpace("<b>hostile", (Choice("a,b\n.<i>", "kind,<x>", NASTY),), proxy_task="fake_tasks:ToyTask")
DONE = [row((k % 4, k // 4, 0), float(k), params=1e6 + k, macs=1e9) for k in range(8)]
FAILED = [row((k, k, 0), "failed", None, "ZeroDivisionError: by nought (toys.py:3)") for k in range(4)]


@pytest.fixture
def told(capsys):
    def run(*arguments):
        status = analyze.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def shown(analysis):
    console = Console(markup=False, highlight=False, emoji=False, width=200, record=True, quiet=False)
    with console.capture() as capture:
        show(analysis, console)
    return capture.get()


def test_a_run_is_shown_and_written_to_its_report(told, tmp_path):
    run = write_run(tmp_path / "run", [*DONE, *FAILED, row((3, 3, 1), "diverged", None, "loss is nan at iteration 7")])
    before = (run / "trials.db").read_bytes()
    status, out, err = told(run)
    assert (status, err) == (0, "")
    assert "8 done, 4 failed, 1 diverged" in out
    assert "by nought" in out
    assert f"The report is {run / 'report' / 'report.html'}" in out
    assert {file.stem for file in (run / "report" / "tables").iterdir()} == set(TABLES)
    assert (run / "report" / "report.html").stat().st_size > 1000
    assert (run / "trials.db").read_bytes() == before


def test_several_runs_go_to_one_report(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [write_run(tmp_path / name, DONE, controller=name) for name in ("lstm-ppo", "random")]
    written = []
    monkeypatch.setattr(report, "write", lambda analyses, out: written.append(([a.name for a in analyses], str(out))))
    assert told(*runs)[0] == 0
    assert written == [(["lstm-ppo", "random"], "report")]
    rewards = pd.read_csv(tmp_path / "report" / "tables" / "rewards.csv")
    assert rewards.run.tolist() == ["lstm-ppo"] * 8 + ["random"] * 8


def test_the_terminal_shows_what_there_is(tmp_path):
    text = shown(analyse(write_run(tmp_path / "run", [*DONE, *FAILED])))
    lines = text.splitlines()
    assert lines[0] == "run"
    assert lines[1] == "fake_tasks:TOY (toy) on the built-in shapes, backbone by preset"
    assert lines[3].startswith("12 of 12 trials: 8 done, 4 failed; begun ")
    best = [line.split("│")[2:5] for line in lines if "1.000 M" in line]
    assert [[cell.strip() for cell in cells] for cells in best] == [
        [str(rank), f"{8 - rank}.0000", "1.000 M"] for rank in range(1, 6)
    ]
    assert any("by nought" in line and line.rstrip(" │").endswith("4") for line in lines)
    (share,) = [line for line in lines if "│ cat " in line]
    assert share.split("│")[3:6] == ["     0 ", "   0.0% ", "      50.0% "]


@pytest.mark.parametrize("rows", [[DONE[0]], FAILED, [row((0, 0, 0), "running")]], ids=["one", "failed", "running"])
def test_what_cannot_be_computed_is_said_in_a_sentence(tmp_path, rows):
    analysis = analyse(write_run(tmp_path / "run", rows))
    empty = {name for name, table in analysis.tables.items() if table.empty}
    assert empty <= analysis.notes.keys()
    assert all(note.endswith(".") for note in analysis.notes.values())
    assert "nan" not in shown(analysis).lower()
    if rows is FAILED:
        assert analysis.notes["rewards"] == "No trial has a reward."
        assert analysis.notes["effects"] == "No trial is done, so no option can be compared."
        assert "No trial is done yet, so there is no best architecture." in shown(analysis)
    write_tables([analysis], tmp_path)
    assert "nan" not in (tmp_path / "tables" / "effects.csv").read_text()


def test_names_that_break_markup_and_csv_come_through(tmp_path):
    rows = [row((k % 4,), float(k)) for k in range(12)]
    rows.append(row((0,), "failed", None, 'Error: [/b] <img src=x>,"\n'))
    run = write_run(tmp_path / "a [bold] <run>", rows, space="test_nas_analysis_command:HOSTILE")
    analysis = analyse(run)
    text = shown(analysis)
    assert "[red]x" in text
    assert "a [bold] <run>" in text
    assert "[/b] <img src=x>" in text
    write_tables([analysis], tmp_path)
    back = pd.read_csv(tmp_path / "tables" / "effects_by_choice.csv")
    assert back.option.tolist() == list(NASTY)
    assert set(back.choice) == {"a,b\n.<i>"}
    assert pd.read_csv(tmp_path / "tables" / "failures.csv").reason.tolist() == ['Error: [/b] <img src=x>,"\n']


def newer(run):
    store = RunStore(run / "trials.db")
    store._db.execute("UPDATE meta SET value = '9'")
    store.close()


def no_choice(run):
    store = RunStore(run / "trials.db")
    store._db.execute("""UPDATE trials SET choices = '{"left": "z", "right": "a", "agg": "sum"}' WHERE trial = 2""")
    store.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (newer, r"trials.db: format 9 is newer than this version reads (4)"),
        (lambda run: (run / "trials.db").unlink(), "is not a run: it has no trials.db"),
        (lambda run: (run / "run.yaml").unlink(), "is not a run: it has no run.yaml"),
        (lambda run: (run / "trials.db").write_bytes(b"junk" * 1000), "is not a run store"),
        (lambda run: (run / "report").write_text("a file"), "cannot write to the folder"),
        (lambda run: edit(run / "run.yaml", "fake_tasks:TOY", "gone_module:TOY"), "'gone_module' cannot be imported"),
        (no_choice, "choice 'left' has no option 'z'"),
    ],
)
def test_bad_input_is_one_sentence(told, tmp_path, spoil, message):
    run = write_run(tmp_path / "run", DONE)
    spoil(run)
    status, out, err = told(run)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("nas-analyze: ")
    assert message in line


def test_an_empty_run_and_a_missing_or_doubled_one_are_refused_before_anything_is_written(told, tmp_path):
    empty, full = write_run(tmp_path / "empty", []), write_run(tmp_path / "full", DONE)
    for arguments, message in (
        ([empty], f"the run {empty} has no trial yet"),
        ([full, empty, "--out", tmp_path / "out"], f"the run {empty} has no trial yet"),
        ([tmp_path / "none"], f"{tmp_path / 'none'} is not a run: there is no such folder"),
        ([full, full, "--out", tmp_path / "out"], f"the run {full} is given twice"),
        ([full, "--out", full / "run.yaml" / "x"], f"cannot write to the folder {full / 'run.yaml' / 'x'}: Not a dir"),
    ):
        status, _, err = told(*arguments)
        assert status == 2
        assert err.startswith(f"nas-analyze: {message}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]
    assert not (empty / "report").exists()
    with pytest.raises(InputError, match="has no trial yet"):
        analyse(empty)


def test_the_command_loads_nothing_heavy_before_its_arguments_are_read():
    code = "import nas.analysis, nas.cli.analyze, sys; print(*({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


WRITER = """
import sys
from pathlib import Path
import numpy as np
from analysis_runs import row, write_trial
from fake_tasks import TOY
from nas.run.store import RunStore
store = RunStore(sys.argv[1])
rng = np.random.default_rng(0)
for number in range(1, 100_000):
    tokens = [int(rng.integers(n)) for n in (4, 4, 2)]
    write_trial(store, TOY, number, **row(tokens, float(number), diagnostics={"told": float(number)}))
    print(number, flush=True)
"""


def test_a_run_is_read_while_another_process_writes_it(tmp_path):
    run = write_run(tmp_path / "run", [row((0, 0, 0), 0.0)])
    command = [sys.executable, "-c", WRITER, str(run / "trials.db")]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(), text=True)
    try:
        writer.stdout.readline()
        counts = []
        for _ in range(6):
            tables = analyse(run).tables
            trials = len(tables["rewards"])
            counts.append(trials)
            settled = tables["rewards"].trial
            assert settled.tolist() == list(range(1, trials + 1))
            # of one moment: the last outcome's diagnostics are there, and no later one's
            assert tables["controller"].trial.tolist() == settled.tolist()[1:]
            assert tables["proportions"].query("kind == 'agg'")["count"].sum() - trials in (0, 1)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert TOY.name in analyse(run).stages
