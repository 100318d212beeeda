"""The video proxy task against slow definitions of what it computes, and its ways to fail."""

import dataclasses
import itertools
import math
import multiprocessing
import os
import signal
import time
from functools import partial
from unittest import mock

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from scipy.special import log_softmax
from scipy.stats import gmean
from video_sets import TINY, Noise, apart, chain, shaken

import proxy_tasks
import search_spaces
from proxy_tasks import Diverged, Interim, Score, TaskOptions
from proxy_tasks.data.video.base import VOID
from proxy_tasks.images import normalise
from proxy_tasks.video import task as video
from proxy_tasks.video.network import VideoSegmenter, build_segmenter
from proxy_tasks.video.settings import video_settings
from search_spaces import InputError


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


DATA = Noise([9, 8, 7, 9])


def make(cache_dir, data=DATA, space="video_cell", changes=None, **options):
    """A task on data in memory."""
    options = TaskOptions(cache_dir=str(cache_dir), overrides=TINY | (changes or {}), **options)
    task = proxy_tasks.make("video", search_spaces.get(space), options)
    task.open_data = lambda: data
    return task


def prepared(cache_dir, progress=lambda *n: None, **options):
    task = make(cache_dir, **options)
    task.prepare(progress)
    return task


@pytest.fixture
def task(cache_dir):
    return prepared(cache_dir)


def sample(task, seed=0):
    return task.space.sample(np.random.default_rng(seed))


def trained(task, seed=0):
    """A cell that is not at its start, in evaluation mode."""
    cell = task.build(sample(task, seed), seed)
    for _ in task._training(cell, seed):
        pass
    return cell.eval()


def test_a_score_halfway_and_one_at_the_end(task):
    *interims, score = task.evaluate(sample(task))
    steps = math.ceil(TINY["epochs"] * len(task.meta_train) / TINY["batch_size"])
    (interim,) = interims
    assert isinstance(interim, Interim)
    assert (interim.step, interim.steps) == (steps // 2, steps)
    assert isinstance(score, Score)
    assert (
        interim.metrics.keys() == score.metrics.keys() == {"score", "miou", "fwiou", "macc", "loss", "params", "macs"}
    )
    assert (interim.reward, score.reward) == (-interim.metrics["loss"], -score.metrics["loss"])
    assert interim.reward != score.reward


def test_every_sequence_is_learned_once_an_epoch(cache_dir):
    """Also where a batch could hold more than all of them."""
    for size in (4, 1000):
        task = prepared(cache_dir, changes={"batch_size": size})
        seen, unrolled = [], task.unrolled
        task.unrolled = lambda cell, sequences, seen=seen, unrolled=unrolled: (
            seen.extend(map(tuple, sequences.tolist())) or unrolled(cell, sequences)
        )
        trained(task)
        every = sorted(map(tuple, task.meta_train.tolist()))
        assert sorted(seen[: len(every)]) == every
        assert len(every) * TINY["epochs"] <= len(seen) < len(every) * TINY["epochs"] + TINY["batch_size"]


@pytest.mark.parametrize("space", ["video_cell", "video_cell_4"])
def test_unrolling_on_the_cache_is_the_network_on_the_frames(cache_dir, space):
    task = prepared(cache_dir, space=space)
    cell = shaken(task.build(chain(space), 0)).eval()
    sequences = np.concatenate([task.meta_val, task.meta_train[:2]])
    network = VideoSegmenter(task.static, cell).eval()
    with torch.inference_mode():
        found = list(task.unrolled(cell, sequences))
        baseline = list(task.per_frame(sequences))
        for row, sequence in enumerate(sequences):
            images = [normalise(task.frames.images(np.array([frame]))) for frame in sequence]
            _, state = network.first(images[0])
            for t in (1, 2):
                scores, state = network.following(images[t], state)
                assert apart(found[t - 1][row], scores[0]) < 0.02
                assert apart(baseline[t - 1][row], task.static(images[t])[0]) < 0.02
    assert len(found) == len(baseline) == 2
    assert apart(found[1], found[0]) > 0.5
    assert apart(found[1], baseline[1]) > 0.5


def slow_metrics(task, cell):
    """Metrics and loss by loops over pixels."""
    classes, matrix = len(task.classes), np.zeros((len(task.classes),) * 2, int)
    losses = [[], []]
    for sequence in task.meta_val:
        with torch.inference_mode():
            outputs = list(task.unrolled(cell, sequence[None]))
        for t, scores in enumerate(outputs):
            labels = task.frames.labels(sequence[t + 1 : t + 2])[0].numpy()
            large = F.interpolate(scores, size=labels.shape, mode="bilinear", align_corners=False)
            for truth, found in zip(labels.ravel(), large[0].argmax(0).numpy().ravel(), strict=True):
                if truth != VOID:
                    matrix[truth, found] += 1
            logs = log_softmax(scores[0].double().numpy(), axis=0)
            small = task.outputs.labels(sequence[t + 1 : t + 2])[0].numpy()
            for y, x in itertools.product(*map(range, small.shape)):
                if small[y, x] != VOID:
                    losses[t].append(-logs[small[y, x], y, x])
    ious, accuracies, frequencies = [], [], []
    for i in range(classes):
        union = matrix[i].sum() + matrix[:, i].sum() - matrix[i, i]
        ious.append(matrix[i, i] / union)
        accuracies.append(matrix[i, i] / matrix[i].sum())
        frequencies.append(matrix[i].sum() / matrix.sum())
    metrics = {"miou": np.mean(ious), "fwiou": np.dot(frequencies, ious), "macc": np.mean(accuracies)}
    return metrics | {"score": gmean(list(metrics.values())), "loss": np.mean(losses[0]) + np.mean(losses[1])}


def test_the_score_is_that_of_loops_over_the_pixels(cache_dir):
    task = prepared(cache_dir, reward="metric")
    cell = trained(task)
    metrics = task.score(partial(task.unrolled, cell))
    assert metrics == pytest.approx(slow_metrics(task, cell), rel=1e-4)
    assert metrics["score"] > 0
    *_, score = task.evaluate(sample(task))
    assert {name: score.metrics[name] for name in metrics} == metrics
    assert score.reward == score.metrics["score"]


def test_scores_do_not_depend_on_the_batch_size(task):
    cell, scores = trained(task), []
    assert len(task.meta_val) > 0
    task.meta_val = np.concatenate([task.meta_val, task.meta_train[::3]])
    for size in (1, 2, 100):
        task.settings = dataclasses.replace(task.settings, batch_size=size)
        scores.append(task.score(partial(task.unrolled, cell)))
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)
    assert scores[2] == pytest.approx(scores[0], rel=1e-4)


def test_another_seed_of_the_training_gives_another_score(task):
    architecture = sample(task)
    rewards = [list(task.evaluate(architecture, seed))[-1].reward for seed in (None, 0, 1)]
    assert rewards[0] == rewards[1] != rewards[2]


def test_the_static_network_is_frozen_and_never_learns_meta_val(cache_dir, tmp_path):
    with mock.patch.object(video, "static_network", wraps=video.static_network) as made:
        task = prepared(tmp_path)
    learned = set(made.call_args.args[1].tolist())
    assert learned == set(range(len(DATA))) - set(task.meta_val.ravel().tolist())
    before = {name: value.clone() for name, value in task.static.state_dict().items()}
    trained(task)
    for name, value in task.static.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_complexity_is_that_of_the_whole_network(task):
    architecture = sample(task)
    figures = task._complexity(architecture)
    network = build_segmenter(architecture, "tiny", num_classes=3, width=8)
    assert figures["params"] == sum(parameter.numel() for parameter in network.parameters())
    assert figures["macs"] > 0


# Trained static networks from files


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_static_network_from_a_file_is_as_the_trained_one(task, cache_dir, tmp_path, suffix):
    path = tmp_path / f"static{suffix}"
    state = {name: value.contiguous() for name, value in task.static.state_dict().items()}
    state["decoder.auxiliary.0.weight"] = torch.zeros(3)  # what training alone needs may be in the file
    safetensors.torch.save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    steps = []
    other = prepared(cache_dir, progress=lambda *step: steps.append(step), static=str(path))
    assert steps == []
    assert other.fingerprints() == task.fingerprints()
    assert [x.reward for x in other.evaluate(sample(task))] == [x.reward for x in task.evaluate(sample(task))]


def broken(task, path, change):
    state = dict(task.static.state_dict())
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


# Divergence


def test_a_loss_that_is_not_finite_is_told_with_its_step(cache_dir):
    task = prepared(cache_dir, changes={"learning_rate": 1e30})
    with pytest.raises(Diverged, match=r"the training loss is (nan|inf) at iteration \d+ of \d+"):
        list(task.evaluate(sample(task)))


def test_a_score_of_outputs_that_are_not_finite_is_refused(task):
    def poisoned(sequences):
        for scores in task.per_frame(sequences):
            yield scores + torch.tensor(math.nan)

    with pytest.raises(Diverged, match="the loss on meta-val is nan"):
        task.score(poisoned)


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
    with pytest.raises(InputError, match=r"in memory: .* need a sequence of 3 frames each .* has only 1 sequence\(s\)"):
        prepared(tmp_path, data=Noise([3]))
    with pytest.raises(InputError, match=r"has only 3 sequence\(s\)"):
        prepared(tmp_path, data=Noise([5]))
    assert list(tmp_path.iterdir()) == []
    assert len(prepared(tmp_path, data=Noise([3, 3])).meta_train) == 1


def test_nothing_but_void_cannot_be_scored_and_does_not_spoil_the_training(tmp_path):
    with (
        mock.patch.object(Noise, "labels", lambda self, index: torch.full(self.size(index), VOID, dtype=torch.uint8)),
        pytest.raises(InputError, match=r"in memory: all of meta-val is void at a crop of 40 x 56, so nothing can be"),
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
    path = tmp_path / "video" / first.outputs.key / "dec.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged .* and is built anew"):
        mended = prepared(tmp_path)
    everything = np.arange(len(DATA))
    assert torch.equal(mended.outputs.maps(("dec",), everything)["dec"], task.outputs.maps(("dec",), everything)["dec"])
