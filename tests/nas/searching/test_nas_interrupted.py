"""Searches that end before their time, and how they go on."""

import os
import subprocess
import sys

import pytest
from fake_tasks import ToyTask
from toy_runs import FLAGS, half

import nas
from nas.cli import search as search_command
from nas.run.directory import lock_run
from nas.run.store import RunStore


def test_ctrl_c_says_how_to_resume_and_the_resumed_run_is_whole(tmp_path, run, capsys):
    (tmp_path / "other").mkdir()
    half(tmp_path / "other", 7, KeyboardInterrupt)
    path = tmp_path / "other" / "run"
    assert sum(nas.load_run(path).trials.status == "running") == 1
    assert search_command.main(["--resume", str(path)]) == 0
    columns = [name for name in run.trials.columns if name != "seconds"]
    assert nas.load_run(path).trials[columns].equals(run.trials[columns])


def test_ctrl_c_is_status_130_with_one_line(tmp_path, capsys, monkeypatch):
    def interrupted(self, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(ToyTask, "prepare", interrupted)
    path = tmp_path / "a run"
    assert search_command.main([*FLAGS, "--out", str(path)]) == 130
    assert capsys.readouterr().err == f"nas-search: interrupted; go on with nas-search --resume '{path}'\n"
    monkeypatch.undo()
    assert search_command.main(["--resume", str(path)]) == 0


def test_curves_go_to_tensorboard_and_go_on_after_a_resume(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    half(tmp_path, 7)
    run = nas.resume(tmp_path / "run")
    curves = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    reward = {event.step: event.value for event in curves.Scalars("toy/reward")}
    assert reward == {row.trial: pytest.approx(row.reward) for row in run.trials.itertuples()}
    best = [event.value for event in curves.Scalars("toy/best")]
    assert best == pytest.approx(list(run.trials.reward.cummax()))
    assert [event.value for event in curves.Scalars("toy/controller/told")][-1] == 20


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "5"], "has seed = 0, but 5 is asked for"),
        (["--set", "sleep=1"], "has task = {}, but {'sleep': 1} is asked for"),
        (["--reward", "metric"], "has reward = 'loss', but 'metric' is asked for"),
    ],
)
def test_resume_refuses_other_settings(run, capsys, flags, message):
    assert search_command.main(["--resume", str(run.path), *flags]) == 2
    assert message in capsys.readouterr().err


def test_resume_accepts_the_settings_the_run_has(run):
    assert search_command.main(["--resume", str(run.path), *FLAGS, "--trials", "20", "--preset", "demo"]) == 0


def test_resume_refuses_data_that_changed(tmp_path, capsys, monkeypatch):
    half(tmp_path, 3)
    monkeypatch.setattr(ToyTask, "fingerprints", lambda self: {"data": "other toys"})
    assert search_command.main(["--resume", str(tmp_path / "run")]) == 2
    assert "the data of the run" in (message := capsys.readouterr().err)
    assert "its fingerprint is other toys, was toys" in message


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "run.yaml").unlink(), "is not a run: it has no run.yaml"),
        (lambda run: (run / "run.yaml").write_text("format: ["), "run.yaml, line 1: not YAML"),
        (lambda run: (run / "run.yaml").write_text("format: 2"), "format 2 is newer than this version reads (1)"),
        (lambda run: (run / "run.yaml").write_text("format: 1\nsettings: 3"), "key 'settings' must be a mapping"),
        (lambda run: (run / "run.yaml").write_text("hello"), "not a run's settings"),
        (lambda run: (run / "trials.db").unlink(), "is not a run: it has no trials.db"),
    ],
)
def test_resume_of_what_is_no_run_is_told(run, capsys, damage, message):
    damage(run.path)
    assert search_command.main(["--resume", str(run.path)]) == 2
    assert message in capsys.readouterr().err


def test_two_processes_never_write_one_run(tmp_path):
    half(tmp_path, 3)
    with lock_run(tmp_path / "run"):
        command = [sys.executable, "-m", "nas.cli.search", "--resume", str(tmp_path / "run")]
        path = os.pathsep.join(sys.path)
        other = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert other.returncode == 2
    assert f"run is being written by process {os.getpid()}" in other.stderr
    nas.resume(tmp_path / "run")


def test_a_full_disk_ends_the_search_with_a_sentence_and_can_be_resumed(tmp_path, capsys, monkeypatch):
    connect = RunStore.__init__

    def small(self, *arguments, **options):
        connect(self, *arguments, **options)
        if not options.get("create") and not options.get("read_only"):
            (pages,) = self._db.execute("PRAGMA page_count").fetchone()
            self._db.execute(f"PRAGMA max_page_count = {pages + 16}")  # room for some trials

    monkeypatch.setattr(RunStore, "__init__", small)
    path = tmp_path / "run"
    assert search_command.main([*FLAGS, "--trials", "60", "--workers", "0", "--out", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the disk is full (" in line
    assert f"free some space, then go on with nas-search --resume {path}" in line
    assert 0 < len(nas.load_run(path).trials) < 60
    monkeypatch.undo()
    assert search_command.main(["--resume", str(path)]) == 0
    assert len(nas.load_run(path).trials) == 60
