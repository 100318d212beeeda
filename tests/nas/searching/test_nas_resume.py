"""What a run may be told anew when it goes on, and how a search that ends early goes on."""

import json
import re
import shutil

import pytest
from fake_tasks import ToyTask
from trees import write_voc

import nas
import proxy_tasks
from nas.cli import search as search_command
from nas.run.directory import lock_run, read_record
from nas.run.store import RunStore
from nas.searching import resuming, search
from nas.settings import Execution, Searched, SearchSettings
from search_spaces import InputError

TOYS = {"space": "fake_tasks:TOY", "controller": "fake_tasks:ToyController", "device": "cpu", "early_stopping": False}
TOYS["confirm"] = 0


@pytest.fixture
def run(tmp_path):
    return nas.search(**TOYS, trials=8, out=tmp_path / "run")


def resume(run, *flags):
    return search_command.main(["--resume", str(run.path), *flags])


# Where and how long


def test_every_setting_is_of_one_half():
    searched, execution = ({item.name for item in half.__dataclass_fields__.values()} for half in (Searched, Execution))
    assert searched.isdisjoint(execution)
    assert searched | execution == set(SearchSettings.__dataclass_fields__)
    assert execution == {
        *(
            "trials",
            "confirm",
            "confirm_by",
            "hours",
            "trial_timeout",
            "pareto",
            "workers",
            "gpus_per_worker",
            "ray_address",
            "device",
            "out",
            "cache_dir",
        )
    }


def test_a_finished_run_goes_on_with_more_trials_and_its_first_ones_stay(run):
    before = run.trials.drop(columns="seconds")
    assert resume(run, "--trials", "12") == 0
    after = nas.load_run(run.path)
    assert after.trials.drop(columns="seconds").head(8).equals(before)
    assert (len(after.trials), after.settings.trials) == (12, (12,))
    assert [(stage.trials, stage.finished) for stage in after.contents().stages] == [(12, True)]


def test_time_limits_and_the_cache_may_be_told_anew_and_stay_in_the_run(run, tmp_path):
    assert resume(run, "--hours", "2", "--trial-timeout", "900", "--cache-dir", str(tmp_path / "c")) == 0
    now = read_record(run.path).settings
    assert (now.hours, now.trial_timeout, now.cache_dir) == (2.0, 900.0, str(tmp_path / "c"))
    assert resume(run) == 0
    assert read_record(run.path).settings == now


def test_workers_cluster_gpus_and_device_may_be_told_anew(run, monkeypatch):
    def resumed(mine, **given):
        return resuming.resumed(run.path, mine, given)

    mine = run.settings
    there = resumed(mine, workers=3, ray_address="head:6379", gpus_per_worker=0.5)
    assert there == mine.changed(workers=3, ray_address="head:6379", gpus_per_worker=0.5)
    assert resumed(there) == there
    assert resumed(there, workers=None) == there  # a configuration that does not say
    assert resumed(there, workers=0) == mine  # what the workers were told goes with them
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert resumed(mine, device="cuda") == mine.changed(device="cuda")
    with pytest.raises(InputError, match="setting 'ray_address' is for worker processes, and there are none"):
        resumed(mine, ray_address="auto")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--trials 7", r"stage toy of the run \S+ has 8 trials already, but 7 are asked for"),
        (
            "--out elsewhere",
            r"--resume goes on in the run's own directory, \S+/run, but --out is \S+/elsewhere; leave it",
        ),
        ("--hours 0", r"setting 'hours' must be a number of hours above 0, got 0"),
        ("--controller random", r"has controller = .*, but 'random' is asked for; --resume changes where and how long"),
    ],
)
def test_what_a_run_cannot_be_told_is_one_sentence_and_changes_nothing(run, capsys, flags, message):
    before = (run.path / "run.yaml").read_bytes()
    assert resume(run, *flags.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert (run.path / "run.yaml").read_bytes() == before
    assert [stage.trials for stage in run.contents().stages] == [8]


def test_a_stage_keeps_its_trials_once_the_next_has_begun_from_its_winner(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(proxy_tasks.PROXY_TASKS._entries, "fcos", ToyTask)
    run = nas.search("fcos_decoder", controller="random", trials=(4, 3), out=tmp_path / "run", device="cpu", confirm=0)
    assert resume(run, "--trials", "5,3") == 2
    message = "stage fcos_fpn of the run .* keeps its 4 trials, but 5 are asked for: stage fcos_head has begun from its"
    assert re.search(message, capsys.readouterr().err)
    assert resume(run, "--trials", "4,5") == 0
    assert dict(nas.load_run(run.path).trials.stage.value_counts()) == {"fcos_fpn": 4, "fcos_head": 5}


# How a search ends early


def test_when_the_hours_are_over_the_search_ends_in_order_and_says_how_to_go_on(tmp_path, capsys):
    flags = [f"--{name}={TOYS[name]}" for name in ("space", "controller", "device")]
    path = tmp_path / "run"
    assert (
        search_command.main([*flags, "--trials", "8", "--hours", "0.00015", "--set", "sleep=0.6", f"--out={path}"]) == 0
    )
    shown = capsys.readouterr().out
    assert f"The 0.00015 hours are over before the search is; go on with nas-search --resume {path} --hours H" in shown
    run = nas.load_run(path)
    assert len(run.trials) < 8
    assert "running" not in set(run.trials.status)
    assert [stage.finished for stage in run.contents().stages] == [False]
    assert resume(run, "--hours", "1") == 0
    assert len(nas.load_run(path).trials) == 8


def test_a_full_disk_does_not_take_a_life_of_the_trial_that_it_struck(tmp_path, monkeypatch):
    record = RunStore.record_outcome

    def full(self, trial, *rest):
        if trial == 3:
            raise OSError(28, "the disk is full")
        return record(self, trial, *rest)

    path = tmp_path / "run"
    monkeypatch.setattr(RunStore, "record_outcome", full)
    for _ in range(4):
        with pytest.raises(nas.errors.SearchFailed, match="the disk is full"):
            nas.resume(path) if path.exists() else nas.search(**TOYS, trials=8, out=path)
        assert not nas.load_run(path).contents().stages[0].finished
    monkeypatch.undo()
    rows = nas.resume(path).contents().trials
    assert (rows[2].status, rows[2].attempts) == ("done", 1)


# A new run's directory


def test_two_searches_of_one_second_get_different_directories(tmp_path, monkeypatch):
    class Stopped(search.datetime):
        @classmethod
        def now(cls):
            return cls(2030, 1, 2, 3, 4, 5)

    monkeypatch.setattr(search, "datetime", Stopped)
    monkeypatch.chdir(tmp_path)
    names = [nas.search(**TOYS, trials=1).path.name for _ in range(3)]
    assert names == [f"fake_tasks.TOY-20300102-030405{ending}" for ending in ("", "-2", "-3")]
    assert {path.name for path in (tmp_path / "runs").iterdir()} == set(names)


def test_a_run_is_locked_from_its_first_moment_until_it_is_gone(tmp_path, monkeypatch):
    path, tried = tmp_path / "run", []

    def locked():
        with pytest.raises(InputError, match="is being written by process"), lock_run(path):
            pass
        tried.append(path.exists())

    def prepare(self, progress):
        locked()
        raise InputError("toys.xml, line 3: the toy is broken")

    def remove(folder):
        locked()
        rmtree(folder)

    rmtree = shutil.rmtree
    monkeypatch.setattr(ToyTask, "prepare", prepare)
    monkeypatch.setattr(search.shutil, "rmtree", remove)
    with pytest.raises(InputError, match="the toy is broken"):
        nas.search(**TOYS, trials=1, out=path)
    assert (tried, path.exists()) == ([True, True], False)


def test_of_two_processes_that_want_one_name_the_second_finds_it_taken(tmp_path, monkeypatch):
    path = tmp_path / "run"

    def other(settings, plan):
        path.mkdir()
        (path / "mine").write_text(json.dumps("precious"))
        return checked(settings, plan)

    checked = search._checked
    monkeypatch.setattr(search, "_checked", other)  # after the name was seen to be free
    with pytest.raises(
        InputError, match=r"run exists already; choose another --out, or go on with nas-search --resume"
    ):
        nas.search(**TOYS, trials=1, out=path)
    assert [file.name for file in tmp_path.rglob("*")] == ["run", "mine"]


def test_a_resume_that_is_refused_late_leaves_the_run_as_it_was(run, monkeypatch):
    """The fingerprints are known only once the task is prepared."""
    before = (run.path / "run.yaml").read_bytes(), run.contents().stages
    monkeypatch.setattr(ToyTask, "fingerprints", lambda self: {"data": "other toys"})
    with pytest.raises(InputError, match="changed since it began"):
        nas.resume(run.path, trials=25)
    assert ((run.path / "run.yaml").read_bytes(), run.contents().stages) == before
    monkeypatch.undo()
    assert len(nas.resume(run.path, trials=25).trials) == 25


def test_data_that_have_moved_are_told_by_their_new_place(tmp_path, capsys):
    sizes = {"crop": 64, "batch_size": 4, "iterations": 1, "width": "16-32", "pretrain_iterations": 1}
    here, there, others = (tmp_path / name for name in ("here", "there", "others"))
    write_voc(here)
    write_voc(others, seed=1)
    given = {"controller": "random", "device": "cpu", "confirm": 0, "task": sizes, "backbone": "tiny"}
    run = nas.search("fcos_fpn", data=here, trials=1, cache_dir=tmp_path / "cache", out=tmp_path / "run", **given)
    here.rename(there)
    for flags, message in [
        ((), "there is no folder"),
        (("--data", str(others)), "the data of the run .* changed since it began"),
    ]:
        assert resume(run, *flags) == 2
        assert re.search(message, capsys.readouterr().err)
    with pytest.raises(InputError, match=r"has data = .*/here', but None is asked for"):
        nas.resume(run.path, data=None)
    assert resume(run, "--trials", "2", "--data", str(there)) == 0
    after = nas.load_run(run.path)
    assert (len(after.trials), after.settings.data) == (2, str(there))


def test_another_cache_needs_no_backbone_that_is_trained_anew(tmp_path, monkeypatch):
    """A backbone that is fine-tuned elsewhere, or by other threads, is another one in its last bits."""
    sizes = {"crop": 64, "batch_size": 4, "iterations": 1, "width": "16-32", "pretrain_iterations": 1}
    shared = {"controller": "random", "device": "cpu", "confirm": 0, "task": sizes, "out": tmp_path / "run"}
    nas.search("fcos_fpn", trials=1, cache_dir=tmp_path / "one", **shared)
    monkeypatch.setattr("proxy_tasks.fcos.backbone.finetune", lambda *_: pytest.fail("it is trained anew"))
    assert len(nas.resume(tmp_path / "run", trials=2, cache_dir=tmp_path / "two").trials) == 2
