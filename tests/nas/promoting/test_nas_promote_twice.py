"""What tells one full training from another, two processes at one of them, and memory that runs out."""

import shutil

import pytest
import torch
from promoting_parts import TINY, VIDEO, promotions, run, the

import nas
from experiments.promotion import JobOptions, identity
from experiments.video import jobs
from experiments.video.recipe import VideoRecipe
from nas.analysis import analyse
from nas.cli import export as export_command
from nas.cli import promote as promote_command
from nas.run.directory import lock_run
from proxy_tasks.video.task import VideoTask

MORE = ["--iterations", "2" if VIDEO[VIDEO.index("--iterations") + 1] == "1" else "1"]


def other_budget(arguments):
    place = arguments.index("--iterations")
    return [*arguments[:place], *MORE, *arguments[place + 2 :]]


def test_a_training_is_known_by_all_that_it_comes_from(tmp_path):
    recipe, usual = VideoRecipe(), JobOptions()
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    known = [
        identity(recipe, usual, "data"),
        identity(VideoRecipe(epochs=3), usual, "data"),
        identity(recipe, usual, "other data"),
        *(identity(recipe, JobOptions(**change), "data") for change in ({"seed": 1}, {"iterations": 7})),
        *(identity(recipe, JobOptions(static=str(tmp_path / name)), "data") for name in ("a", "b")),
    ]
    assert len(set(known)) == len(known)
    same = JobOptions(data="elsewhere", device="cuda", loaders=3, pictures=4)  # where and what is drawn, not how
    assert identity(recipe, same, "data") == known[0]
    (tmp_path / "c").write_bytes(b"a")
    assert identity(recipe, JobOptions(static=str(tmp_path / "c")), "data") == known[-2]


def test_another_static_network_is_another_training(home, cells, tmp_path):
    run(promote_command.main, cells, *VIDEO, "--pictures", "1")
    more = ["arch2", "--recipe", "camvid_static", "--data", home / "data", "--iterations", "3", *TINY]
    run(promote_command.main, *more, "--out", tmp_path / "more")
    weights = the(tmp_path / "more", "arch2-*") / "weights.safetensors"
    run(promote_command.main, cells, *VIDEO, "--static", weights, "--pictures", "1")
    first, second = nas.load_run(cells).contents().promotions
    assert (first.key, first.recipe) == (second.key, second.recipe)
    assert first.job != second.job
    assert len(list((cells / "promoted").glob("strips-*"))) == 2


def test_a_run_that_kept_nothing_is_promoted_around_a_given_static_network(home, cells, monkeypatch):
    shutil.rmtree(cells / "kept")
    monkeypatch.setattr(VideoTask, "prepare", lambda *_: pytest.fail("nothing has to be prepared"))
    weights = the(home / "static", "arch2-camvid_static-*") / "weights.safetensors"
    run(promote_command.main, cells, *VIDEO, "--static", weights)


def test_a_run_goes_on_with_the_static_network_that_it_kept(home, cells, tmp_path):
    record = cells / "run.yaml"
    given = str(the(home / "static", "arch2-camvid_static-*") / "weights.safetensors")
    assert given in record.read_text()
    record.write_text(record.read_text().replace(given, str(tmp_path / "gone.safetensors")))
    nas.resume(cells, trials=3)
    assert len(nas.load_run(cells).trials) == 3


def test_a_copied_run_has_its_own_weights_once(cells, tmp_path, capsys):
    run(promote_command.main, cells, *VIDEO)
    shutil.copytree(cells, tmp_path / "copy")
    capsys.readouterr()
    run(export_command.main, tmp_path / "copy", "--format", "torch")
    assert f"  weights: of {tmp_path / 'copy' / 'promoted'}" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ['{"format": 1}', '{"format": 1, "metrics": 3}'])
def test_a_damaged_result_is_one_sentence(cells, capsys, damage):
    run(promote_command.main, cells, *VIDEO)
    result = next((cells / "promoted").glob("baseline-*/result.json"))
    result.write_text(damage)
    capsys.readouterr()
    assert promote_command.main([str(cells), *VIDEO, "--resume"]) == 2
    assert "result.json: key 'metrics' must be a JSON dict" in capsys.readouterr().err


def test_another_budget_is_another_training(cells):
    run(promote_command.main, cells, *VIDEO)
    (first,) = nas.load_run(cells).contents().promotions
    run(promote_command.main, cells, *other_budget(VIDEO))
    kept, second = nas.load_run(cells).contents().promotions
    assert kept == first
    assert (second.key, second.recipe, second.status) == (first.key, first.recipe, "done")
    assert second.job != first.job
    assert second.place != first.place
    table = analyse(cells).tables["correlations"]
    assert sorted(set(table.recipe)) == sorted(f"camvid_video ({row.job[:8]})" for row in (first, second))


def test_a_training_that_another_process_has_is_refused(cells, capsys):
    run(promote_command.main, cells, *VIDEO)
    with lock_run(cells):
        assert promote_command.main([str(cells), *VIDEO, "--resume"]) == 2
    assert f"the run {cells} is being written by process" in capsys.readouterr().err
    place = promotions(cells)[nas.load_run(cells).best()[0].key].place
    with lock_run(type(cells)(place)):
        assert promote_command.main([str(cells), *VIDEO, "--resume"]) == 2
    assert "is being written by process" in capsys.readouterr().err
    run(promote_command.main, cells, *VIDEO, "--resume")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("tried to allocate 4 TiB"), MemoryError()])
def test_memory_that_runs_out_is_a_row_and_a_sentence(cells, capsys, monkeypatch, error):
    def exhausted(*_):
        raise error

    monkeypatch.setattr(jobs, "train_video", exhausted)
    assert promote_command.main([str(cells), *VIDEO]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    (row,) = nas.load_run(cells).contents().promotions
    assert (row.status, row.metrics) == ("failed", {})
    assert row.reason == f"out of memory: {error}".rstrip(": ")
    assert line.startswith("nas-promote: cell 1, trial")
    assert line.endswith(f"{row.reason}; lower the recipe's batch_size by --set")
