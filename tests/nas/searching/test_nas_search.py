"""A search from Python and from the command line, on the toy space."""

import math
import re

import pytest
import yaml
from fake_tasks import TOY, ToyTask, reward_of
from toy_runs import FLAGS, TOYS, Stop

import nas
import proxy_tasks
from nas.cli import search as search_command
from nas.run.directory import read_record
from search_spaces import InputError


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
        nas.search("fcos_decoder", controller="random", trials=(8, 5), out=path, device="cpu", confirm=0)
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


def test_unknown_settings_from_python_are_told(tmp_path):
    with pytest.raises(InputError, match=r"there is no setting 'worker'; .*did you mean 'workers'"):
        nas.search(**TOYS, worker=2)
    with pytest.raises(AttributeError, match="module 'nas' has no attribute 'serch'"):
        nas.serch  # noqa: B018


def test_run_yaml_gives_back_the_resolved_settings(run):
    assert read_record(run.path).settings == run.settings
    assert (run.settings.preset, run.settings.device, run.settings.out) == ("demo", "cpu", str(run.path))
