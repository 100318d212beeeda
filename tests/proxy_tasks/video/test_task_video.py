"""The video proxy task against slow definitions of what it computes: training, scores, complexity, divergence."""

import itertools
import math
from functools import partial
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax
from scipy.stats import gmean
from video_sets import DATA, TINY, Noise, apart, chain, prepared, sample, shaken

from proxy_tasks import Diverged, Interim, Score
from proxy_tasks.data.video.base import VOID
from proxy_tasks.images import normalise
from proxy_tasks.video import task as video
from proxy_tasks.video.network import Following, VideoSegmenter, build_segmenter
from proxy_tasks.video.preparing import Side
from proxy_tasks.video.split import split
from proxy_tasks.video.training import score, train_cell
from proxy_tasks.weights import state_hash
from search_spaces import Architecture
from search_spaces.parts.complexity import count


def trained(task, seed=0):
    """A cell that is not at its start, in evaluation mode."""
    cell = task.build(sample(task, seed), seed)
    for _ in train_cell(cell, classifier(task), task.prepared.meta_train, task.settings, seed):
        pass
    return cell.eval()


def classifier(task):
    return task.prepared.static.network.decoder.classifier


def unrolled(task, cell):
    """What `score` takes."""
    return partial(task.prepared.meta_val.unrolled, cell, classifier(task))


def scored(task, cell, batch_size=4):
    return score(unrolled(task, cell), task.prepared.meta_val, len(DATA.classes), batch_size)


def test_a_score_halfway_and_one_at_the_end(task):
    *interims, score = task.evaluate(sample(task))
    steps = math.ceil(TINY["epochs"] * len(task.prepared.meta_train.sequences) / TINY["batch_size"])
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
        with mock.patch.object(Side, "unrolled", autospec=True, side_effect=Side.unrolled) as gathered:
            trained(task)
        seen = [row for call in gathered.call_args_list for row in call.args[3].tolist()]
        every = task.prepared.meta_train.sequences.tolist()
        assert sorted(seen[: len(every)]) == sorted(every)
        assert len(every) * TINY["epochs"] <= len(seen) < len(every) * TINY["epochs"] + TINY["batch_size"]


@pytest.mark.parametrize("space", ["video_cell", "video_cell_4"])
def test_unrolling_on_the_cache_is_the_network_on_the_frames(cache_dir, space):
    task = prepared(cache_dir, space=space)
    cell = shaken(task.build(chain(space), 0)).eval()
    static = task.prepared.static.network
    network = VideoSegmenter(static, cell).eval()
    for side in (task.prepared.meta_train, task.prepared.meta_val):
        rows = np.array([2, 0])
        with torch.inference_mode():
            found = list(side.unrolled(cell, classifier(task), side.sequences[rows]))
            baseline = list(side.per_frame(classifier(task), side.sequences[rows]))
            for row, sequence in enumerate(side.sequences[rows]):
                images = [normalise(side.frames.images(np.array([frame]))) for frame in sequence]
                _, state = network.first(images[0])
                for t in (1, 2):
                    scores, state = network.following(images[t], state)
                    assert apart(found[t - 1][row], scores[0]) < 0.02
                    assert apart(baseline[t - 1][row], static(images[t])[0]) < 0.02
        assert len(found) == len(baseline) == 2
    assert apart(found[1], found[0]) > 0.5
    assert apart(found[1], baseline[1]) > 0.5


def slow_metrics(task, cell):
    """Metrics and loss by loops over pixels."""
    classes, side = len(DATA.classes), task.prepared.meta_val
    matrix, losses = np.zeros((classes, classes), int), [[], []]
    for sequence in side.sequences:
        with torch.inference_mode():
            outputs = list(unrolled(task, cell)(sequence[None]))
        for t, scores in enumerate(outputs):
            labels = side.frames.labels(sequence[t + 1 : t + 2])[0].numpy()
            large = F.interpolate(scores, size=labels.shape, mode="bilinear", align_corners=False)
            for truth, found in zip(labels.ravel(), large[0].argmax(0).numpy().ravel(), strict=True):
                if truth != VOID:
                    matrix[truth, found] += 1
            logs = log_softmax(scores[0].double().numpy(), axis=0)
            small = side.outputs.labels(sequence[t + 1 : t + 2])[0].numpy()
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
    metrics = scored(task, cell)
    assert metrics == pytest.approx(slow_metrics(task, cell), rel=1e-4)
    assert metrics["score"] > 0
    *_, score = task.evaluate(sample(task))
    assert {name: score.metrics[name] for name in metrics} == metrics
    assert score.reward == score.metrics["score"]


def test_scores_do_not_depend_on_the_batch_size(task):
    cell = trained(task)
    assert len(task.prepared.meta_val.sequences) > 2
    scores = [scored(task, cell, size) for size in (1, 2, 100)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-4)
    assert scores[2] == pytest.approx(scores[0], rel=1e-4)


def test_another_seed_of_the_training_gives_another_score(task):
    architecture = sample(task)
    rewards = [list(task.evaluate(architecture, seed))[-1].reward for seed in (None, 0, 1)]
    assert rewards[0] == rewards[1] != rewards[2]


def test_the_static_network_is_frozen_and_never_learns_meta_val(cache_dir, tmp_path):
    with mock.patch.object(video, "static_network", wraps=video.static_network) as made:
        task = prepared(tmp_path)
    frames, learned = made.call_args.args[:2]
    meta_train, meta_val = split(DATA, 0)
    assert frames is task.prepared.meta_train.frames
    assert learned.tolist() == list(range(len(frames))) == list(range(len(DATA) - len(meta_val)))
    for index, number in enumerate(meta_train.numbers):
        assert torch.equal(frames.labels(np.array([index]))[0], DATA.labels(number))
    static = task.prepared.static.network
    before = {name: value.clone() for name, value in static.state_dict().items()}
    trained(task)
    for name, value in static.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_complexity_is_that_of_the_whole_network(task):
    architecture = sample(task)
    figures = task.complexity(architecture)
    network = build_segmenter(architecture, "tiny", num_classes=3, width=8)
    assert figures["params"] == sum(parameter.numel() for parameter in network.parameters())
    image = torch.rand(1, 3, *task.prepared.meta_val.frames.size)
    assert figures["macs"] == count(Following(network), image, *network.eval().first(image)[1]).macs


def test_another_split_has_another_static_network(tmp_path):
    """Weights in the cache that were trained on what is now held out are not taken."""
    steps = []
    prepared(tmp_path)
    with mock.patch("proxy_tasks.video.split.META_VAL_SHARE", 0.4):
        prepared(tmp_path, progress=lambda what, *n: steps.append(what))
    assert "training the static network" in steps


def test_the_static_network_is_handed_over_with_its_sizes(task):
    static = task.prepared.static
    assert (static.backbone, static.width, static.classes) == ("tiny", 8, 3)
    twin = build_segmenter(Architecture.of("arch2"), static.backbone, num_classes=static.classes, width=static.width)
    twin.load_state_dict(static.network.state_dict())
    assert state_hash(twin) == static.hash == task.fingerprints()["static"]


def test_cells_learn_from_crops_and_are_scored_on_whole_frames(tmp_path):
    data = Noise([9, 8, 7, 9], sizes=[(48, 64)] * 4)
    task = prepared(tmp_path, data=data, changes={"crop_height": 32, "crop_width": 32})
    meta_train, meta_val = task.prepared.meta_train, task.prepared.meta_val
    assert (meta_train.frames.size, meta_val.frames.size) == ((32, 32), (48, 64))
    held_out = split(data, 0)[1]
    for index, number in enumerate(held_out.numbers):
        assert torch.equal(meta_val.frames.images(np.array([index]))[0], data.image(number))
        assert torch.equal(meta_val.frames.labels(np.array([index]))[0], data.labels(number))
    *_, result = task.evaluate(sample(task))
    assert result.metrics["macs"] == task.complexity(sample(task))["macs"]
    with mock.patch.object(video, "score", wraps=video.score) as scoring:
        assert task.baseline().keys() == {"score", "miou", "fwiou", "macc", "loss"}
    assert scoring.call_args.args[3] == 1  # three times the pixels of a training crop, and batches of four


# Divergence


def test_a_loss_that_is_not_finite_is_told_with_its_step(cache_dir):
    task = prepared(cache_dir, changes={"learning_rate": 1e30})
    with pytest.raises(Diverged, match=r"the training loss is (nan|inf) at iteration \d+ of \d+"):
        list(task.evaluate(sample(task)))


def test_a_score_of_outputs_that_are_not_finite_is_refused(task):
    side = task.prepared.meta_val

    def poisoned(sequences):
        for scores in side.per_frame(classifier(task), sequences):
            yield scores + torch.tensor(math.nan)

    with pytest.raises(Diverged, match="the loss on meta-val is nan"):
        score(poisoned, side, 3, 4)
