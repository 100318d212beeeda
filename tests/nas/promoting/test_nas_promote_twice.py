"""What tells one full training from another, two processes at one of them, and memory that runs out."""

import pytest
import torch
from promoting_parts import VIDEO, promotions, run

import nas
from experiments.promotion import JobOptions, identity
from experiments.video import jobs
from experiments.video.recipe import VideoRecipe
from nas.analysis import analyse
from nas.cli import promote as promote_command
from nas.run.directory import lock_run

MORE = ["--iterations", "2" if VIDEO[VIDEO.index("--iterations") + 1] == "1" else "1"]


def other_budget(arguments):
    place = arguments.index("--iterations")
    return [*arguments[:place], *MORE, *arguments[place + 2 :]]


@pytest.mark.parametrize("change", [{"seed": 1}, {"iterations": 7}])
def test_seed_and_iterations_are_part_of_a_training_s_identity(change):
    recipe = VideoRecipe()
    assert identity(recipe, JobOptions(**change)) != identity(recipe, JobOptions())
    assert identity(VideoRecipe(epochs=3), JobOptions()) != identity(recipe, JobOptions())
    same = JobOptions(data="elsewhere", device="cuda", workers=3, pictures=4)  # where and what is drawn, not how
    assert identity(recipe, same) == identity(recipe, JobOptions())


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
