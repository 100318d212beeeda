"""One suite that every proxy task passes; a new task joins by adding its line to CASES."""

import math
import multiprocessing
import re

import numpy as np
import pytest
import torch
import trees

import proxy_tasks
import search_spaces
from proxy_tasks import Interim, ProxyTask, Score, TaskOptions, rows
from proxy_tasks.masks.costs import MASK_ROIS

# task, space, settings small enough for a test
SMALL_FCOS = {"crop": 64, "batch_size": 8, "iterations": 3, "width": "16-32", "pretrain_iterations": 2}
SMALL_VIDEO = {
    **{"long_side": 32, "crop_height": 32, "crop_width": 32, "width": 8},
    **{"batch_size": 32, "epochs": 1, "pretrain_iterations": 2, "pretrain_batch_size": 4},
}
SMALL_MASKS = {
    **{"crop": 64, "mirrored": "false", "rois": 2, "batch_size": 8, "iterations": 3, "width": 8},
    **{"pretrain_iterations": 2, "pretrain_batch_size": 2},
}
CASES = [
    ("fcos", "fcos_fpn", SMALL_FCOS),
    ("fcos", "fcos_fpn_c2", SMALL_FCOS),
    ("fcos", "fcos_head", SMALL_FCOS),
    ("fcos", "fcos_decoder", SMALL_FCOS),
    ("video", "video_cell", SMALL_VIDEO),
    ("video", "video_cell_4", SMALL_VIDEO),
    ("masks", "mask_head", SMALL_MASKS),
    ("masks", "mask_head_single", SMALL_MASKS),
]
METRIC = {"fcos": "ap", "video": "score", "masks": "ap"}
DATA = {}
"""By task; by default the built-in data."""


@pytest.fixture(scope="module", autouse=True)
def few_masks(tmp_path_factory):
    DATA["masks"] = str(trees.write_coco(tmp_path_factory.mktemp("data"), n=12, size=(80, 64)))


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


def make(case, cache_dir, **options):
    name, space, overrides = case
    options = {"cache_dir": cache_dir, "data": DATA.get(name), "overrides": overrides} | options
    return proxy_tasks.make(name, search_spaces.get(space), TaskOptions(**options))


def nothing(what, done, total):
    pass


def prepared(case, cache_dir, **options):
    task = make(case, cache_dir, **options)
    task.prepare(nothing)
    return task


def last(task, architecture):
    items = list(task.evaluate(architecture))
    assert all(isinstance(item, Interim) for item in items[:-1])
    assert all(0 < item.step < item.steps and math.isfinite(item.reward) for item in items[:-1])
    assert isinstance(items[-1], Score)
    return items[-1]


every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
# what does not depend on the space, and takes long, is tried with each task's last
a_case_of_each = pytest.mark.parametrize(
    "case", {name: (name, *rest) for name, *rest in CASES}.values(), ids=lambda case: case[1]
)


@every_case
def test_every_task_is_registered_and_here(case):
    assert {name for name, _, _ in CASES} == set(proxy_tasks.names())
    assert search_spaces.get(case[1]).proxy_task == case[0]


@every_case
def test_opening_the_data_builds_nothing_and_tells_them_in_one_line(case, cache_dir, tmp_path):
    task = make(case, str(tmp_path))
    assert isinstance(task, ProxyTask)
    data = task.open_data()
    assert re.fullmatch(r"\S.*\d+ (image|frame).*", data.describe())
    assert data.fingerprint == prepared(case, cache_dir).fingerprints()["data"]
    assert list(tmp_path.iterdir()) == []


@every_case
def test_a_score_is_whole_and_finite(case, cache_dir):
    task = prepared(case, cache_dir)
    score = last(task, task.space.sample(np.random.default_rng(0)))
    assert math.isfinite(score.reward)
    assert score.reward == pytest.approx(-score.metrics["loss"])
    assert all(isinstance(value, float) for value in score.metrics.values())
    assert score.metrics["params"] > 0
    assert score.metrics["macs"] > 0


@every_case
def test_the_same_architecture_gets_the_same_score_whatever_came_before(case, cache_dir):
    first, second = prepared(case, cache_dir), prepared(case, cache_dir)
    rng = np.random.default_rng(1)
    architectures = [first.space.sample(rng) for _ in range(2)]
    scores = [last(first, architecture).reward for architecture in architectures]
    torch.manual_seed(99)
    for architecture, score in zip(reversed(architectures), reversed(scores), strict=True):
        assert last(second, architecture).reward == score
        second.release()


@every_case
def test_scoring_leaves_the_global_random_state_alone(case, cache_dir):
    task = prepared(case, cache_dir)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    last(task, task.space.sample(np.random.default_rng(2)))
    assert torch.equal(torch.get_rng_state(), before)


@every_case
def test_a_forward_pass_is_one_image_s_and_leaves_scores_and_the_random_state_alone(case, cache_dir):
    task = prepared(case, cache_dir)
    architecture = task.space.sample(np.random.default_rng(2))
    torch.manual_seed(5)
    score, before = last(task, architecture), torch.get_rng_state()
    outputs = task.forward_pass(architecture)()
    first = outputs[0] if isinstance(outputs, tuple) else next(iter(outputs.values()))
    assert len(first) == (MASK_ROIS if case[0] == "masks" else 1)
    assert not first.requires_grad
    assert torch.equal(torch.get_rng_state(), before)
    assert last(task, architecture) == score


@every_case
def test_a_second_preparation_builds_nothing(case, cache_dir):
    prepared(case, cache_dir)
    steps = []
    task = make(case, cache_dir)
    task.prepare(lambda *step: steps.append(step))
    assert steps == []
    assert all(isinstance(value, str) and value for value in task.fingerprints().values())


@every_case
def test_preparing_places_no_array_on_the_device(case, cache_dir, monkeypatch):
    prepared(case, cache_dir)
    monkeypatch.setattr(rows, "_place", lambda file, device: pytest.fail(f"{file.name} was placed on the device"))
    prepared(case, cache_dir).release()


@a_case_of_each
def test_the_metric_as_reward(case, cache_dir):
    task = prepared(case, cache_dir, reward="metric")
    score = last(task, task.space.sample(np.random.default_rng(3)))
    assert score.reward == score.metrics[METRIC[case[0]]]
    assert 0 <= score.reward <= 1
    assert "loss" in score.metrics


@a_case_of_each
def test_loss_and_metric_are_both_measured_where_all_are_asked_for(case, cache_dir):
    task = prepared(case, cache_dir, all_metrics=True)
    architecture = task.space.sample(np.random.default_rng(4))
    score = last(task, architecture)
    assert score.reward == pytest.approx(-score.metrics["loss"])
    assert 0 <= score.metrics[METRIC[case[0]]] <= 1
    (*_, other), (*_, same) = task.evaluate(architecture, 1000), task.evaluate(architecture, 0)
    assert other.metrics["loss"] != score.metrics["loss"] == same.metrics["loss"]
    assert task.takes(architecture)


@every_case
def test_other_seeds_give_other_caches(case, cache_dir):
    task, other = prepared(case, cache_dir), prepared(case, cache_dir, seed=1)
    assert task.fingerprints() != other.fingerprints()
    assert task.fingerprints()["data"] == other.fingerprints()["data"]


def _prepare(case, cache_dir, data, results):
    results.put(prepared(case, cache_dir, data=data).fingerprints())


@a_case_of_each
def test_two_processes_prepare_at_once(case, tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [
        context.Process(target=_prepare, args=(case, str(tmp_path), DATA.get(case[0]), results)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(30)
    assert found[0] == found[1]


@every_case
def test_settings_are_checked_before_anything_is_done(case, cache_dir):
    for overrides, message in (
        ({"colour": 1}, r"has no setting 'colour'; known: "),
        ({"batch_size": "many"}, r"setting 'batch_size' takes a value of type int, got 'many'"),
        ({"batch_size": 0}, r"setting 'batch_size' must be positive, got 0"),
    ):
        with pytest.raises(search_spaces.InputError, match=message):
            make(case, cache_dir, overrides=overrides)
    with pytest.raises(search_spaces.InputError, match="there is no preset 'huge'; known: paper, demo"):
        make(case, cache_dir, preset="huge")
