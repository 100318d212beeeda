"""The video proxy task's preparation: weights from files, settings and data that are refused, and being killed."""

import math
import multiprocessing
import os
import signal
import time
from unittest import mock

import numpy as np
import pytest
import safetensors.torch
import torch
from video_sets import DATA, Noise, make, prepared, sample

from proxy_tasks import Diverged
from proxy_tasks.data.video.base import VOID
from proxy_tasks.video.settings import video_settings
from proxy_tasks.video.split import split
from search_spaces import InputError

# Trained static networks from files


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_static_network_from_a_file_is_as_the_trained_one(task, cache_dir, tmp_path, suffix):
    path = tmp_path / f"static{suffix}"
    state = {name: value.contiguous() for name, value in task.prepared.static.network.state_dict().items()}
    state["decoder.auxiliary.0.weight"] = torch.zeros(3)  # what training alone needs may be in the file
    safetensors.torch.save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    steps = []
    other = prepared(cache_dir, progress=lambda *step: steps.append(step), static=str(path))
    assert steps == []
    assert other.fingerprints() == task.fingerprints()
    assert [x.reward for x in other.evaluate(sample(task))] == [x.reward for x in task.evaluate(sample(task))]


def broken(task, path, change):
    state = dict(task.prepared.static.network.state_dict())
    change(state)
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("decoder.bottleneck.1.bias"),
            r"static.pth: the weights of 'decoder.bottleneck.1.bias' are missing; they are not of this network",
        ),
        (
            lambda state: state.update({"decoder.classifier.bias": torch.zeros(11)}),
            r"static.pth: 'decoder.classifier.bias' has shape \(11,\), this network needs \(3,\)",
        ),
    ],
)
def test_weights_of_another_network_are_refused(task, cache_dir, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        prepared(cache_dir, static=broken(task, tmp_path / "static.pth", change))


def test_a_file_that_is_not_weights_is_refused(cache_dir, tmp_path):
    (tmp_path / "static.pth").write_text("hello")
    for name, message in (
        ("static.pth", r"static.pth (cannot be read|holds)"),
        ("none.pth", "there is no weights file"),
    ):
        with pytest.raises(InputError, match=message):
            prepared(cache_dir, static=str(tmp_path / name))


def test_weights_that_are_not_numbers_are_found(task, cache_dir, tmp_path):
    path = broken(task, tmp_path / "static.pth", lambda state: state["decoder.bottleneck.1.bias"].fill_(math.nan))
    with pytest.raises(Diverged, match="the feature map dec has values beyond float16, or not a number"):
        prepared(cache_dir, static=path)


# Settings and data


def test_the_published_settings():
    for space, epochs, crop in (("video_cell", 20, 600), ("video_cell_4", 10, 512)):
        settings = video_settings("paper", space, None, {})
        assert (settings.epochs, settings.crop_height, settings.crop_width) == (epochs, crop, crop)
        assert (settings.batch_size, settings.learning_rate, settings.width) == (48, 8e-3, 64)
        assert settings.backbone == "mobilenet_v2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_width": 31}, r"setting 'crop_width' must be at least 32 pixels \(the backbone's stride\), got 31"),
        ({"long_side": 0}, "setting 'long_side' must be at least 32 pixels"),
        ({"epochs": 0}, "setting 'epochs' must be positive, got 0"),
        ({"epochs": 1.5}, "setting 'epochs' takes a value of type int, got 1.5"),
        ({"learning_rate": -1}, "setting 'learning_rate' must be positive, got -1"),
        ({"learning_rate": math.nan}, "setting 'learning_rate' takes a value of type float, got nan"),
        ({"pretrain_iterations": -1}, "setting 'pretrain_iterations' must not be negative, got -1"),
        ({"width": True}, "setting 'width' takes a value of type int, got True"),
        ({"backbone": "vgg"}, "there is no backbone 'vgg'; known: tiny"),
        (
            {"crop_hight": 64},
            r"the video proxy task has no setting 'crop_hight'; known: .*; did you mean 'crop_height'",
        ),
    ],
)
def test_bad_settings_are_refused_before_anything_is_done(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        make(tmp_path, changes=changes)
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_of_the_options_is_taken(tmp_path):
    assert make(tmp_path, backbone="mobilenet_v2").settings.backbone == "mobilenet_v2"
    with pytest.raises(InputError, match="there is no backbone 'vgg'"):
        make(tmp_path, backbone="vgg")


def test_a_space_of_one_point_is_not_searched(tmp_path):
    with pytest.raises(InputError, match="search space 'arch2' has no choices, so there is nothing to search"):
        make(tmp_path, space="arch2")


def test_too_few_sequences(tmp_path):
    with pytest.raises(
        InputError,
        match=r"in memory: .* need a sequence of 3 frames each \(setting 'sequence_length'\) .* only 1 sequence\(s\)",
    ):
        prepared(tmp_path, data=Noise([3]))
    with pytest.raises(InputError, match=r"has only 3 sequence\(s\)"):
        prepared(tmp_path, data=Noise([5]))
    assert list(tmp_path.iterdir()) == []
    assert len(prepared(tmp_path, data=Noise([3, 3])).prepared.meta_train.sequences) == 1


def test_nothing_but_void_cannot_be_scored_and_does_not_spoil_the_training(tmp_path):
    with (
        mock.patch.object(Noise, "labels", lambda self, index: torch.full(self.size(index), VOID, dtype=torch.uint8)),
        pytest.raises(InputError, match=r"in memory: all of meta-val is void, so nothing can be scored; use an"),
    ):
        prepared(tmp_path)


def test_crops_without_a_class_cannot_be_learned_from(tmp_path):
    held_out, labels = set(split(DATA, 0)[1].numbers.tolist()), Noise.labels

    def void_elsewhere(self, index):
        found = labels(self, index)
        return found if index in held_out else torch.full_like(found, VOID)

    with (
        mock.patch.object(Noise, "labels", void_elsewhere),
        pytest.raises(InputError, match="in memory: all of meta-train is void at a crop of 40 x 56, so nothing can be"),
    ):
        prepared(tmp_path)


# Preparations that are killed

STAGES = ("reducing the frames", "training the static network", "computing the static network's outputs")


def _hang_at(stage, place):
    def progress(what, done, total):
        if what == stage:
            (place / "hanging").touch()
            time.sleep(60)

    prepared(place / "cache", progress=progress)


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_preparation_is_made_good_by_the_next(task, tmp_path, stage):
    builder = multiprocessing.get_context("spawn").Process(target=_hang_at, args=(stage, tmp_path))
    builder.start()
    while not (tmp_path / "hanging").exists():
        assert builder.is_alive()
        time.sleep(0.01)
    os.kill(builder.pid, signal.SIGKILL)
    builder.join(10)
    assert len(list(tmp_path.rglob("*.partial"))) == 1
    stages = []
    mended = prepared(tmp_path / "cache", progress=lambda what, *n: stages.append(what))
    assert list(dict.fromkeys(stages)) == list(STAGES[STAGES.index(stage) :])
    assert mended.fingerprints() == task.fingerprints()
    assert list(tmp_path.rglob("*.partial")) == []
    assert [x.reward for x in mended.evaluate(sample(task))] == [x.reward for x in task.evaluate(sample(task))]


def test_damaged_outputs_are_rebuilt_with_a_warning(task, tmp_path):
    first = prepared(tmp_path)
    path = tmp_path / "video" / first.prepared.meta_val.outputs.key / "dec.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged .* and is built anew"):
        mended = prepared(tmp_path)
    outputs = [made.prepared.meta_val.outputs for made in (mended, task)]
    everything = np.arange(len(task.prepared.meta_val.frames))
    assert torch.equal(*(each.maps(("dec",), everything)["dec"] for each in outputs))
