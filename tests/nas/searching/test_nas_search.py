import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fake_tasks import TOY, ToyTask, reward_of

import nas
import proxy_tasks
from nas.cli import export as export_command
from nas.cli import search as search_command
from nas.run.directory import lock_run, read_record
from nas.run.store import RunStore
from search_spaces import Architecture, InputError, registry

TOYS = {
    "space": "fake_tasks:TOY",
    "controller": "fake_tasks:ToyController",
    "device": "cpu",
    "early_stopping": False,
}
FLAGS = [
    *("--space", "fake_tasks:TOY", "--controller", "fake_tasks:ToyController", "--device", "cpu"),
    "--no-early-stopping",
]


@pytest.fixture
def run(tmp_path):
    return nas.search(**TOYS, trials=20, out=tmp_path / "run")


def test_a_search_from_python_ends_with_every_row_and_file(run, capsys):
    frame = run.trials
    assert " ".join(frame.columns) == (
        "trial stage status reward key cached reason params macs seconds left right agg metric.loss"
    )
    assert len(frame) == 20
    assert set(frame.status) == {"done", "duplicate"}
    assert frame.cached.sum() == (frame.status == "duplicate").sum() > 0
    for row in frame.itertuples():
        assert row.reward == reward_of(TOY.from_named({"left": row.left, "right": row.right, "agg": row.agg}))
    assert run.settings.trials == (20,)
    content = yaml.safe_load((run.path / "run.yaml").read_text())
    assert content["fingerprints"] == {"toy": {"data": "toys"}}
    assert set(content["versions"]) == {"python", "dense-nas", "torch", "torchvision", "ray"}
    assert [file.name for file in run.path.iterdir() if file.name.startswith(".run.yaml")] == []


def test_the_best_are_different_networks_in_order(run):
    best = run.best(5)
    assert len({architecture.key for architecture in best}) == 5
    rewards = [reward_of(architecture) for architecture in best]
    assert rewards == sorted(rewards, reverse=True)
    assert rewards[0] == run.trials.reward.max()
    assert len(run.best(1000)) == (run.trials.status == "done").sum()
    assert nas.load_run(run.path).best() == best[:1]


def test_the_closing_table_names_the_best_and_the_next_command(run, capsys):
    nas.resume(run.path)
    shown = capsys.readouterr().out
    best = run.best(5)
    for architecture in best:
        assert architecture.key in shown
    assert f"{reward_of(best[0]):.4f}" in shown
    assert "0.001 M" in shown
    assert "5.000 G" in shown
    assert f"Next: nas-analyze {run.path}, nas-export {run.path} --rank 1" in shown


def test_plain_lines_tell_the_progress_where_there_is_no_terminal(tmp_path, capsys):
    nas.search(**TOYS, trials=20, out=tmp_path / "run")
    shown = capsys.readouterr().out
    assert "drawing the toys (3)" in shown
    assert len(re.findall(r"^toy: trial \d+ of 20, best", shown, re.MULTILINE)) == 10
    assert re.search(r"searching, \d+% of the search inside trials", shown)


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


class Stop(BaseException):
    """Stands for a kill: no engine may catch it."""


def half(tmp_path, trials, exception=Stop):
    """A run of 20 trials that stops in evaluation ``trials`` + 1."""
    count = 0
    evaluate = ToyTask.evaluate

    def stopping(self, architecture):
        nonlocal count
        count += 1
        if count > trials:
            raise exception
        return evaluate(self, architecture)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ToyTask, "evaluate", stopping)
        with pytest.raises(exception):
            nas.search(**TOYS, trials=20, out=tmp_path / "run")


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


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--space", "fake_tasks:NONE"], "module 'fake_tasks' has no 'NONE'"),
        (["--space", "nothing"], "there is no search space 'nothing'; known: "),
        (["--controller", "lstm"], "there is no controller 'lstm'"),
        (["--set", "crop=3"], "the toy task has no setting 'crop'"),
        (["--set", "crop"], "--set takes NAME=VALUE, got 'crop'"),
        (["--set", "bad=true"], "toys.xml, line 3: the toy is broken"),
        (["--data", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--trials", "5,5"], "trials gives 2 figures, but 'fake_tasks:TOY' has 1 stage"),
        (["--workers", "many"], "setting 'workers' must be a whole number of at least 0, got 'many'"),
        (["--config", "/nowhere.yaml"], "cannot read the settings file /nowhere.yaml"),
        (["--out", "/proc/run"], "cannot make the run directory /proc/run"),
    ],
)
def test_bad_input_is_one_line_status_2_and_nothing_left_behind(tmp_path, capsys, flags, message):
    path = tmp_path / "runs" / "run"
    assert search_command.main([*FLAGS, "--out", str(path), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nas-search: ")
    assert message in line
    assert not path.exists()


def test_wrong_usage_is_status_2(capsys):
    with pytest.raises(SystemExit) as caught:
        search_command.main(["--frobnicate"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --frobnicate" in capsys.readouterr().err


def test_a_run_that_exists_is_refused_with_the_command_to_go_on(run, capsys):
    before = (run.path / "run.yaml").read_bytes()
    assert search_command.main([*FLAGS, "--out", str(run.path)]) == 2
    assert f"exists already; choose another --out, or go on with nas-search --resume {run.path}" in (
        capsys.readouterr().err
    )
    assert (run.path / "run.yaml").read_bytes() == before


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
            self._db.execute(f"PRAGMA max_page_count = {pages}")

    monkeypatch.setattr(RunStore, "__init__", small)
    path = tmp_path / "run"
    assert search_command.main([*FLAGS, "--trials", "60", "--out", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the disk is full (" in line
    assert f"free some space, then go on with nas-search --resume {path}" in line
    assert 0 < len(nas.load_run(path).trials) < 60
    monkeypatch.undo()
    assert search_command.main(["--resume", str(path)]) == 0
    assert len(nas.load_run(path).trials) == 60


def test_a_search_whose_trials_all_fail_is_status_1(tmp_path, capsys, monkeypatch):
    def broken(self, architecture):
        raise ZeroDivisionError("by nought")
        yield

    monkeypatch.setattr(ToyTask, "evaluate", broken)
    path = tmp_path / "run"
    assert search_command.main([*FLAGS, "--trials", "3", "--out", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "none of the 3 trials of stage toy gave a reward" in line
    with pytest.raises(InputError, match="has no trial that is done yet"):
        nas.load_run(path).best()
    assert nas.load_run(path).trials.params.isna().all()


def test_any_other_error_shows_its_traceback_with_status_1(tmp_path, capsys, monkeypatch):
    def broken(self, progress):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(ToyTask, "prepare", broken)
    assert search_command.main([*FLAGS, "--out", str(tmp_path / "run")]) == 1
    assert "Traceback" in (shown := capsys.readouterr().err)
    assert "ZeroDivisionError: by nought" in shown


def test_a_run_is_readable_while_it_is_being_written(tmp_path, monkeypatch):
    path, sizes = tmp_path / "run", []
    evaluate = ToyTask.evaluate

    def reading(self, architecture):
        reader = nas.load_run(path)
        sizes.append((len(reader.trials), reader.trials.status.iloc[-1]))
        assert math.isnan(reader.trials.reward.iloc[-1] or math.nan)
        return evaluate(self, architecture)

    monkeypatch.setattr(ToyTask, "evaluate", reading)
    nas.search(**TOYS, trials=5, out=path)
    assert sizes[0] == (1, "running")
    assert {status for _, status in sizes} == {"running"}


def test_a_progressive_search_gives_the_winner_to_the_next_stage_and_joins_both(tmp_path, monkeypatch):
    made = []

    class Staged(ToyTask):
        def __init__(self, space, options, previous=None):
            super().__init__(space, options, previous)
            made.append((space.name, previous))

        def evaluate(self, architecture):
            if self.space.name == "fcos_head" and broken:
                raise Stop
            return super().evaluate(architecture)

    monkeypatch.setitem(proxy_tasks.PROXY_TASKS._entries, "fcos", Staged)
    broken, path = True, tmp_path / "run"
    with pytest.raises(Stop):
        nas.search("fcos_decoder", controller="random", trials=(8, 5), out=path, device="cpu")
    (fpn,) = nas.load_run(path).best()
    assert fpn.space.name == "fcos_fpn"
    assert made == [("fcos_fpn", None), ("fcos_fpn", None), ("fcos_head", fpn)]

    broken = False
    made.clear()
    run = nas.resume(path)
    assert made == [("fcos_head", fpn)]  # the finished stage is not prepared again
    assert dict(run.trials.stage.value_counts()) == {"fcos_fpn": 8, "fcos_head": 5}
    best = run.best(5)
    assert {architecture.space.name for architecture in best} == {"fcos_decoder"}
    heads = [{name: o for name, o in a.named.items() if name.startswith("head.")} for a in best]
    table = run.trials[run.trials.stage == "fcos_head"].sort_values("reward", ascending=False)
    assert heads == [{name: getattr(row, name) for name in heads[0]} for _, row in table.iterrows()]
    assert all({**a.named, **fpn.named} == a.named for a in best)
    assert set(run.record.fingerprints) == {"fcos_fpn", "fcos_head"}


@pytest.fixture
def known_toy(monkeypatch):
    monkeypatch.setitem(registry.SPACES._entries, "toy", TOY)


def test_export_writes_a_run_s_architecture_with_its_provenance(run, known_toy, capsys):
    assert export_command.main([str(run.path), "--rank", "2"]) == 0
    file = capsys.readouterr().out.strip()
    best = run.best(2)[1]
    assert file == str(run.path / "exported" / f"{best.key}.json")
    assert Architecture.load(file) == best
    content = json.loads(Path(file).read_text())
    (trial,) = content["trials"]
    assert content["reward"] == reward_of(best) == run.trials.set_index("trial").reward[trial]
    assert (content["run"], content["data"], content["choices"]) == ("run", "toys", best.named)


def test_export_copies_an_architecture_file(run, known_toy, tmp_path, capsys):
    file = tmp_path / "mine.json"
    file.write_text(run.best()[0].to_json())
    assert export_command.main([str(file), "--out", str(tmp_path / "out")]) == 0
    assert Architecture.load(capsys.readouterr().out.strip()) == run.best()[0]


def test_export_refuses_what_it_cannot_do(run, tmp_path, capsys):
    file = tmp_path / "broken.json"
    file.write_text('{"format": 1, "space": "no such", "choices": {}}')
    for arguments, message in [
        ([str(run.path), "--format", "pdf"], "there is no export format 'pdf'; known: json"),
        ([str(run.path), "--rank", "0"], "--rank must be a whole number of at least 1, got '0'"),
        ([str(run.path), "--rank", "999"], "so no rank 999"),
        ([str(tmp_path)], "is not a run: it has no run.yaml"),
        ([str(file)], "broken.json: there is no search space 'no such'"),
        ([str(file), "--rank", "2"], "--rank chooses among a run's trials"),
        ([str(tmp_path / "none.json")], "cannot read the architecture file"),
    ]:
        assert export_command.main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("nas-export: ")
        assert message in line


def test_unknown_settings_from_python_are_told(tmp_path):
    with pytest.raises(InputError, match=r"there is no setting 'worker'; .*did you mean 'workers'"):
        nas.search(**TOYS, worker=2)
    with pytest.raises(AttributeError, match="module 'nas' has no attribute 'serch'"):
        nas.serch  # noqa: B018


def test_run_yaml_gives_back_the_resolved_settings(run):
    assert read_record(run.path).settings == run.settings
    assert (run.settings.preset, run.settings.device, run.settings.out) == ("demo", "cpu", str(run.path))
