"""Bad input to ``nas-promote``: one clear sentence and status 2, before any training."""

import re
import shutil

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from places import edit

from experiments import training
from nas.cli import promote as promote_command
from nas.cli import search as search_command
from search_spaces.fcos.choices import FCOS_FPN
from search_spaces.video.choices import VIDEO_CELL

STATIC = ["arch2", "--recipe", "camvid_static", "--device", "cpu"]
TINY = ["--set", "backbone=tiny", "width=16"]


@pytest.fixture(autouse=True)
def no_training(monkeypatch):
    monkeypatch.setattr(training, "run", lambda *_: pytest.fail("it is trained"))
    monkeypatch.setattr("experiments.video.jobs.evaluate", lambda *_: pytest.fail("the baseline is measured"))


@pytest.fixture
def assert_refused(tmp_path, capsys, monkeypatch):
    """Asserts that the command is refused by one sentence, before any training."""
    monkeypatch.chdir(tmp_path)

    def check(message, *arguments):
        assert promote_command.main([str(argument) for argument in arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.match(rf"nas-promote: .*{message}", line), line
        assert not list(tmp_path.rglob("job.json"))

    return check


@pytest.fixture
def camvid(tmp_path):
    return trees.write_camvid(tmp_path / "data", n=6, n_test=3, size=(48, 40))


@pytest.fixture
def cell(tmp_path):
    path = tmp_path / "cell.json"
    path.write_text(VIDEO_CELL.sample(np.random.default_rng(0)).to_json())
    return path


def test_recipes(assert_refused, cell, tmp_path):
    assert_refused("there is no recipe 'camvid'; known: camvid_static, ", "arch2", "--recipe", "camvid")
    assert_refused("the recipe camvid_static has no setting 'epoch'", *STATIC, "--set", "epoch=3")
    assert_refused("setting 'epochs' takes a value of type int, got 'x'", *STATIC, "--set", "epochs=x")
    assert_refused("setting 'crop_width' must be at least 32 pixels, got 8", *STATIC, "--set", "crop_width=8")
    assert_refused("--set takes NAME=VALUE, got 'epochs'", *STATIC, "--set", "epochs")
    (tmp_path / "mine.yaml").write_text("kind: static\nepoch: 3\n")
    assert_refused("mine.yaml: a static recipe has no setting 'epoch'", "arch2", "--recipe", "mine.yaml")


def test_what_a_recipe_does_not_train(assert_refused, cell, tmp_path):
    static, video = ["--recipe", "camvid_static"], ["--recipe", "camvid_video"]
    assert_refused("a static recipe trains arch2, but .*cell.json is of the space 'video_cell'", cell, *static)
    assert_refused("a static recipe trains arch2, but nas_fcos is of the space 'fcos_decoder_c2'", "nas_fcos", *static)
    assert_refused("a video recipe trains dynamic cells, but arch2 is of the space 'arch2'", "arch2", *video)
    (tmp_path / "fpn.json").write_text(FCOS_FPN.sample(np.random.default_rng(0)).to_json())
    assert_refused("a video recipe trains dynamic cells, but fpn.json is of the space 'fcos_fpn'", "fpn.json", *video)


def test_a_run_of_detectors(assert_refused, tmp_path, capsys):
    sizes = ["crop=128", "batch_size=2", "iterations=1", "width=16-32", "pretrain_iterations=0"]
    flags = [
        "--space",
        "fcos_fpn",
        "--device",
        "cpu",
        "--controller",
        "random",
        "--trials",
        "1",
        "--confirm",
        "0",
        "--set",
        *sizes,
    ]
    data = trees.write_voc(tmp_path / "voc", n=6, n_test=1)
    where = ["--data", data, "--cache-dir", tmp_path / "cache", "--out", tmp_path / "run"]
    assert search_command.main([str(a) for a in (*flags, *where)]) == 0
    capsys.readouterr()
    assert_refused("a video recipe trains dynamic cells, but .*run is of the space 'fcos_fpn'",
            tmp_path / "run", "--recipe", "camvid_video")  # fmt: skip


def test_names(assert_refused, tmp_path):
    assert_refused("'arch3' is neither a run's directory, nor an architecture", "arch3", "--recipe", "camvid_static")
    assert_refused("cannot read the architecture file gone.json: No such file", "gone.json", "--recipe", "camvid_video")
    (tmp_path / "empty").mkdir()
    assert_refused("empty is not a run: it has no run.yaml", "empty", "--recipe", "camvid_video")
    assert_refused("--top chooses among a run's trials, but 'arch2' is not a run", *STATIC, "--top", "2")


@pytest.mark.parametrize(
    ("flag", "value", "least"),
    [("--top", "0", 1), ("--iterations", "0", 1), ("--iterations", "-5", 1), ("--workers", "-1", 0),
     ("--loaders", "-1", 0), ("--seed", "-1", 0), ("--pictures", "-2", 0)],
)  # fmt: skip
def test_numbers(assert_refused, flag, value, least):
    assert_refused(
        rf"{flag} must be a whole number of at least {least} and below 2\^63, got {value}", *STATIC, flag, value
    )


@pytest.mark.parametrize(
    "arguments",
    [["--iterations", "1.5"], ["--top", "two"], ["--seed", ""], ["--device", "tpu"], ["--pictures"], ["--epochs", "3"]],
)
def test_what_is_no_flag_or_no_number_is_told_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        promote_command.main([*STATIC, *arguments])
    assert caught.value.code == 2
    usage, *_, line = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: nas-promote")
    assert re.match(r"nas-promote: error: (argument --|unrecognized arguments)", line)


def test_no_recipe(capsys):
    with pytest.raises(SystemExit) as caught:
        promote_command.main(["arch2"])
    assert caught.value.code == 2
    assert "--recipe" in capsys.readouterr().err.splitlines()[-1]


def test_data(assert_refused, camvid, tmp_path):
    flags = [*STATIC, *TINY, "--data"]
    assert_refused("there is no folder gone", *flags, "gone")
    (tmp_path / "empty").mkdir()
    assert_refused("empty has no known video layout; looked for CamVid", *flags, "empty")
    (camvid / "testannot" / "Seq05VD_f00030.png").unlink()
    assert_refused("Seq05VD_f00030.png has no label file", *flags, camvid)
    shutil.rmtree(camvid / "test")
    assert_refused("there is no folder .*data/test", *flags, camvid)


def test_label_values_of_every_set_are_checked_first(assert_refused, tmp_path, camvid):
    wrong = camvid / "testannot" / "Seq05VD_f00030.png"
    Image.fromarray(np.full((40, 48), 12, np.uint8)).save(wrong)
    assert_refused("Seq05VD_f00030.png: the pixel x 0, y 0 has the value 12; a label is one of 0 to 11", *STATIC, *TINY,
            "--data", camvid)  # fmt: skip
    cities = trees.write_cityscapes(tmp_path / "cities", n=2, n_test=2, size=(64, 40))
    wrong = next((cities / "gtFine" / "val").rglob("frankfurt_000001*labelIds.png"))
    Image.fromarray(np.full((40, 64), 77, np.uint8)).save(wrong)
    assert_refused(
        "the pixel x 0, y 0 has the value 77", "arch2", "--recipe", "cityscapes_static", *TINY, "--data", cities
    )


def test_weights(assert_refused, camvid, cell, tmp_path):
    flags = [cell, "--recipe", "camvid_video", *TINY, "--device", "cpu", "--data", camvid]
    assert_refused("a video recipe starts from a trained static network; give --static", *flags)
    assert_refused("there is no weights file gone.pt", *flags, "--static", "gone.pt")
    torch.save({"head": torch.zeros(3)}, tmp_path / "other.pt")
    assert_refused(
        "other.pt: the weights of 'body.0.0.weight' are missing; they are not of this", *flags, "--static", "other.pt"
    )
    (tmp_path / "text.safetensors").write_text("no weights")
    assert_refused("the weights file text.safetensors cannot be read", *flags, "--static", "text.safetensors")
    flags = [*STATIC, *TINY, "--data", camvid]
    assert_refused("there is no weights file gone.pt", *flags, "--backbone-weights", "gone.pt")
    assert_refused("other.pt: .* of the backbone's .* are missing", *flags, "--backbone-weights", "other.pt")


def test_a_folder_that_cannot_be_written_to(assert_refused, camvid, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        assert_refused(rf"cannot write to the folder {out}: ", *STATIC, *TINY, "--data", camvid, "--out", out)
    assert_refused(
        "cannot write to the folder /proc/promoted: ", *STATIC, *TINY, "--data", camvid, "--out", "/proc/promoted"
    )


def test_a_file_that_runs_code(assert_refused, cell):
    edit(cell, '"video_cell"', '"os:path"')
    assert_refused("cell.json: a file names a registered search space, got 'os:path'", cell, "--recipe", "camvid_video")
