"""Jobs: folders that hold one training each, killed, resumed, finished, and refused."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
import trees
from PIL import Image
from places import environment
from video_parts import build, cell, noise, static_recipe, video_recipe

from experiments.job_folder import JOB_FORMAT, open_job, read_result, save_weights, write_result
from experiments.promotion import JobOptions
from experiments.video import jobs
from experiments.video.jobs import draw_strips, measure_baseline, train_static, train_video
from experiments.video.recipe import StaticRecipe
from proxy_tasks.task import Diverged
from search_spaces import Architecture, InputError

ARCH2 = Architecture.of("arch2", ())


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    monkeypatch.setattr("experiments.video.evaluation.median_milliseconds", lambda run, device: 1.0)


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    return trees.write_camvid(tmp_path_factory.mktemp("camvid"), n=6, n_test=3, size=(48, 40))


@pytest.fixture(scope="module")
def static(tmp_path_factory, camvid):
    """Weights of a static network for the tree's classes."""
    path = tmp_path_factory.mktemp("static") / "static.safetensors"
    network = jobs._new(ARCH2, static_recipe(), JobOptions(), classes=11)
    save_weights(network, path)
    return str(path)


def told(*_):
    """Progress that nobody sees."""


def silent(*_):
    pytest.fail("nothing is left to do")


def options(camvid, **changes):
    return JobOptions(**{"data": str(camvid), "iterations": 3, **changes})


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_folder_is_made_once_and_refused_unless_resumed(tmp_path):
    open_job(tmp_path / "a" / "b", False, ARCH2, StaticRecipe(), seed=0)
    stored = json.loads((tmp_path / "a" / "b" / "job.json").read_text())
    assert (stored["space"], stored["recipe"]["kind"], stored["seed"]) == ("arch2", "StaticRecipe", 0)
    with pytest.raises(InputError, match=r"a/b holds a training already; choose another --out, or .* --resume"):
        open_job(tmp_path / "a" / "b", False, ARCH2, StaticRecipe(), seed=0)
    open_job(tmp_path / "a" / "b", True, ARCH2, StaticRecipe(), seed=0)
    assert json.loads((tmp_path / "a" / "b" / "job.json").read_text()) == stored


@pytest.mark.parametrize(
    ("architecture", "recipe", "parts", "message"),
    [
        (ARCH2, StaticRecipe(), {"seed": 1}, "has seed = 0, but 1 is asked for"),
        (ARCH2, StaticRecipe(epochs=3), {"seed": 0}, "has recipe.epochs = 2000, but 3 is asked for"),
        (ARCH2, video_recipe(), {"seed": 0}, "has recipe.kind = 'StaticRecipe', but 'VideoRecipe' is asked for"),
        (cell(), StaticRecipe(), {"seed": 0}, "has space = 'arch2', but 'video_cell_4' is asked for"),
        (ARCH2, StaticRecipe(), {}, "has seed = 0, but None is asked for"),
    ],
)
def test_another_job_is_refused_by_what_differs(tmp_path, architecture, recipe, parts, message):
    open_job(tmp_path, False, ARCH2, StaticRecipe(), seed=0)
    with pytest.raises(InputError, match=rf"job.json: the training there {message}"):
        open_job(tmp_path, True, architecture, recipe, **parts)


def test_another_cell_is_refused_by_its_choice(tmp_path):
    one, other = cell(0), cell(1)
    open_job(tmp_path, False, one, video_recipe())
    name = next(name for name in one.named if one.named[name] != other.named[name])
    with pytest.raises(InputError, match=f"has choices.{name} = '{one.named[name]}', but '{other.named[name]}'"):
        open_job(tmp_path, True, other, video_recipe())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 2}', r"job.json: format 2 is newer than this version reads \(1\)"),
        ('{"format": "new"}', r"job.json cannot be read: ValueError"),
        ('{"space": "arch2"}', r"job.json cannot be read: KeyError"),
        ('{"format": 1,', r"job.json cannot be read: JSONDecodeError"),
        ("[]", r"job.json cannot be read: TypeError"),
    ],
)
def test_a_damaged_or_newer_job_is_refused(tmp_path, text, message):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(InputError, match=message):
        open_job(tmp_path, True, ARCH2, StaticRecipe())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/a/job.json: Not a directory"):
        open_job(tmp_path / "file" / "a", False, ARCH2, StaticRecipe())


def test_a_result_comes_back(tmp_path):
    assert read_result(tmp_path) is None
    figures = {"steps": 3, "metrics": {"miou": 0.1 + 0.2}, "cost": {}, "device": "a CPU"}
    assert read_result(tmp_path) is None
    assert write_result(tmp_path, figures) == read_result(tmp_path) == {"format": JOB_FORMAT, **figures}


def test_a_static_training_leaves_weights_log_and_figures(tmp_path, camvid):
    says = []
    result = train_static(
        tmp_path, ARCH2, static_recipe(), options(camvid, pictures=2), False, lambda *n: says.append(n)
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "job.json", "checkpoint.pt", "log.csv", "weights.safetensors", "pictures", "result.json",
    }  # fmt: skip
    assert {(what, done, total) for what, done, total, _ in says} == {("training", 3, 3)} | {
        ("measuring", n, 3) for n in (1, 2, 3)
    }
    assert result["steps"] == 3
    assert {"miou", "macc", "gacc", "fwiou", "tiou"} <= result["metrics"].keys()
    assert read_result(tmp_path) == result

    network = jobs._new(ARCH2, static_recipe(), JobOptions(), classes=11)
    stored = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    assert stored.keys() == network.state_dict().keys()  # no auxiliary classifiers
    assert result["cost"]["params"] == sum(parameter.numel() for parameter in network.parameters())
    for name in ("Seq05VD_f00000", "Seq05VD_f00060"):
        with Image.open(tmp_path / "pictures" / f"{name}.png") as picture:
            assert picture.size == (48, 40)


def test_a_finished_training_is_not_trained_again(tmp_path, camvid):
    first = train_static(tmp_path, ARCH2, static_recipe(), options(camvid), False, told)
    before = files(tmp_path)
    again = train_static(tmp_path, ARCH2, static_recipe(), options(camvid), True, silent)
    assert again == first
    assert files(tmp_path) == before
    with pytest.raises(InputError, match="has iterations = 3, but 4 is asked for"):
        train_static(tmp_path, ARCH2, static_recipe(), options(camvid, iterations=4), True, silent)


def test_pictures_may_be_asked_for_later(tmp_path, camvid):
    train_static(tmp_path, ARCH2, static_recipe(), options(camvid), False, told)
    weights = (tmp_path / "weights.safetensors").read_bytes()
    says = []
    train_static(tmp_path, ARCH2, static_recipe(), options(camvid, pictures=9), True, lambda *n: says.append(n[0]))
    assert set(says) == {"measuring"}
    assert len(list((tmp_path / "pictures").iterdir())) == 3
    assert (tmp_path / "weights.safetensors").read_bytes() == weights
    train_static(tmp_path, ARCH2, static_recipe(), options(camvid, pictures=1), True, silent)


def test_a_video_training_beside_its_baseline(tmp_path, camvid, static):
    recipe, asked = video_recipe(cell_epochs=1), options(camvid, static=static, pictures=2, iterations=1)
    baseline = measure_baseline(tmp_path / "baseline", recipe, asked, False, told)
    result = train_video(tmp_path / "cell", cell(), recipe, asked, False, told)
    assert baseline["steps"] == 0
    assert result["steps"] == 1 + 1  # two clips of three frames are two sequences a pass, and one batch
    assert result["cost"]["params"] > baseline["cost"]["params"]
    assert result["cost"]["macs_first"] == baseline["cost"]["macs_first"]
    assert result["cost"]["macs_following"] != result["cost"]["macs_first"]
    stored = safetensors.torch.load_file(tmp_path / "baseline" / "weights.safetensors")
    given = safetensors.torch.load_file(static)
    assert all(torch.equal(stored[name], given[name]) for name in given)
    assert measure_baseline(tmp_path / "baseline", recipe, asked, True, silent) == baseline
    assert train_video(tmp_path / "cell", cell(), recipe, asked, True, silent) == result

    draw_strips(tmp_path / "strips", str(camvid), {"baseline": tmp_path / "baseline", "cell 1": tmp_path / "cell"})
    drawn = sorted(path.name for path in (tmp_path / "strips").iterdir())
    assert drawn == ["Seq05VD_f00000.png", "Seq05VD_f00060.png", "legend.png"]
    with Image.open(tmp_path / "strips" / drawn[0]) as sheet, Image.open(camvid / "test" / drawn[0]) as frame:
        assert sheet.width >= 4 * 48
        strips = np.lib.stride_tricks.sliding_window_view(np.array(sheet), (40, 48, 3))
        assert (strips == np.array(frame)).all(axis=(-1, -2, -3)).any()  # the frame is in it, pixel by pixel


def test_only_annotated_frames_are_drawn(tmp_path, static, monkeypatch):
    data = noise(6, lengths=[3, 3], annotated=[False, True, True, False, True, True])
    data.classes, data.palette = data.classes[:4], data.palette[:4]
    monkeypatch.setattr(jobs, "open_video", lambda path, subset, **_: data)
    save_weights(build(), tmp_path / "static.safetensors")
    asked = JobOptions(static=str(tmp_path / "static.safetensors"), pictures=6)
    measure_baseline(tmp_path / "baseline", video_recipe(), asked, False, told)
    drawn = {path.stem for path in (tmp_path / "baseline" / "pictures").iterdir()}
    assert drawn == {"frame1", "frame2", "frame4", "frame5"}
    draw_strips(tmp_path / "strips", None, {"baseline": tmp_path / "baseline"})
    assert {path.stem for path in (tmp_path / "strips").iterdir()} == drawn | {"legend"}


def test_static_weights_are_needed_and_must_fit(tmp_path, camvid, static):
    for train in (lambda asked: train_video(tmp_path, cell(), video_recipe(), asked, False, told),
                  lambda asked: measure_baseline(tmp_path, video_recipe(), asked, False, told)):  # fmt: skip
        with pytest.raises(InputError, match="starts from a trained static network; give --static"):
            train(options(camvid))
        with pytest.raises(InputError, match=r"no weights file .*gone.pt"):
            train(options(camvid, static=str(tmp_path / "gone.pt")))
    with pytest.raises(InputError, match=r"static.safetensors: '.*' has shape .*, this network needs"):
        train_video(tmp_path, cell(), video_recipe(width=32), options(camvid, static=static), False, told)
    assert list(tmp_path.iterdir()) == []


def test_a_static_training_may_start_from_one(tmp_path, camvid, static):
    train_static(tmp_path, ARCH2, static_recipe(decoder_learning_rate=1e-9, encoder_learning_rate=1e-9, batch_size=4),
                 options(camvid, static=static, iterations=1), False, told)  # fmt: skip
    given, ended = (safetensors.torch.load_file(path) for path in (static, tmp_path / "weights.safetensors"))
    assert torch.allclose(given["body.0.0.weight"], ended["body.0.0.weight"], atol=1e-4)


def test_weights_that_are_not_finite_are_no_result(tmp_path, camvid, static):
    state = safetensors.torch.load_file(static)
    state["decoder.classifier.bias"][0] = float("nan")
    safetensors.torch.save_file(state, tmp_path / "nan.safetensors")
    asked = options(camvid, static=str(tmp_path / "nan.safetensors"))
    with pytest.raises(Diverged, match=r"'decoder.classifier.bias' is not finite"):
        measure_baseline(tmp_path / "job", video_recipe(), asked, False, told)
    assert not (tmp_path / "job" / "result.json").exists()


KILLED = """
import os, sys
from pathlib import Path
import torch
from experiments import training
from experiments.promotion import JobOptions
from experiments.video.recipe import VideoRecipe
from experiments.video.jobs import train_video
from search_spaces import Architecture

training.SAVE_EVERY = -1.0
written, whole = [], os.fsync

def fsync(file):
    name = os.readlink(f"/proc/self/fd/{file}").split("/")[-1]
    written.append(name.startswith(".checkpoint"))
    if sum(written) == 3:
        os.ftruncate(file, os.fstat(file).st_size // 2)
        os.kill(os.getpid(), 9)
    whole(file)

os.fsync = fsync
folder, data, static, cell, recipe = sys.argv[1:]
asked = JobOptions(data=data, static=static, iterations=3)
train_video(Path(folder), Architecture.from_json(cell), VideoRecipe(**eval(recipe)), asked, False, print)
"""


def test_a_killed_and_resumed_video_training_is_bit_equal_to_an_undisturbed_one(tmp_path, camvid, static):
    recipe, asked = video_recipe(cell_epochs=1, weight_average=0.5), options(camvid, static=static)
    settings = dataclasses.asdict(recipe)
    train_video(tmp_path / "calm", cell(), recipe, asked, False, told)
    process = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "killed", camvid, static, cell().to_json(), str(settings)],
        env=environment(), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert not (tmp_path / "killed" / "result.json").exists()
    train_video(tmp_path / "killed", cell(), recipe, asked, True, told)
    calm, killed = files(tmp_path / "calm"), files(tmp_path / "killed")
    for name in ("weights.safetensors", "log.csv", "job.json"):
        assert killed[name] == calm[name], name
    figures = [json.loads(content["result.json"])["metrics"] for content in (calm, killed)]
    assert figures[0] == figures[1]
    assert os.listdir(tmp_path / "killed" / "pictures") == []
