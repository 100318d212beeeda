"""What FCOS trials learn from and how they are scored: mirror images, sizes of interest, interim scores, C2."""

import dataclasses

import numpy as np
import pytest
import torch

import proxy_tasks
import search_spaces
from experiments import published
from proxy_tasks import Interim, Score, TaskOptions
from proxy_tasks.crops import mirrored_boxes
from proxy_tasks.fcos.loss import fcos_loss_sums
from proxy_tasks.fcos.settings import fcos_settings
from proxy_tasks.fcos.targets import DenseTargets, assign, pad_boxes
from proxy_tasks.images import detector_input
from search_spaces import Architecture, InputError

SMALL = {
    "crop": 64,
    "batch_size": 8,
    "iterations": 4,
    "width": "8-16",
    "fpn_search_width": "8",
    "pretrain_iterations": 0,
}


def nothing(what, done, total):
    pass


def prepared(cache_dir, space="fcos_fpn", **overrides):
    options = TaskOptions(cache_dir=cache_dir, overrides=SMALL | overrides)
    task = proxy_tasks.make("fcos", search_spaces.get(space), options)
    task.prepare(nothing)
    return task


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def task(cache_dir):
    return prepared(cache_dir)


def test_every_crop_of_meta_train_and_no_other_is_learned_as_its_mirror_image_too(task):
    prepared = task.prepared
    count = len(prepared.crops)
    originals = prepared.meta_train[prepared.meta_train < count]
    assert sorted([*originals, *prepared.meta_val]) == list(range(count))
    assert len(prepared.meta_train) == 2 * len(originals)
    for position in (0, 3):
        row, original = np.array([count + position]), originals[position : position + 1]
        assert torch.equal(prepared.rows.images(row), prepared.crops.images(original).flip(-1))
        images = detector_input(prepared.crops.images(original).flip(-1))
        with torch.inference_mode():
            expected = prepared.body(images)["C3"].half().float()
        assert torch.allclose(task.prepared.cache.features(row)["C3"], expected, atol=1e-2)


def test_the_targets_of_a_mirror_image_are_those_of_the_mirrored_boxes(task):
    prepared = task.prepared
    originals = prepared.meta_train[prepared.meta_train < len(prepared.crops)]
    target = prepared.crops.target(int(originals[1]))
    target["boxes"] = mirrored_boxes(target["boxes"], 64)
    expected = assign(*pad_boxes([target]), task.locations)
    row = np.array([len(prepared.crops) + 1])
    assert torch.equal(prepared.cache.rows("labels", row).long(), expected.labels)
    assert torch.equal(prepared.cache.rows("distances", row), expected.distances)


def test_the_paper_mirrors_nothing_and_scales_the_sizes_of_interest_to_its_crops(cache_dir):
    paper = fcos_settings("paper", None, {})
    assert (paper.mirrored, paper.interest) == (False, 384 / 800)
    plain = prepared(cache_dir, mirrored="false").prepared
    assert plain.rows is plain.crops
    assert plain.meta_train.max() < len(plain.crops)


def test_pretrained_backbones_are_fine_tuned_more_gently():
    scratch, pretrained = (fcos_settings("demo", name, {}) for name in ("tiny", "mobilenet_v2"))
    assert pretrained.pretrain_learning_rate == 1e-3 < scratch.pretrain_learning_rate
    assert fcos_settings("demo", "mobilenet_v2", {"pretrain_learning_rate": 2e-3}).pretrain_learning_rate == 2e-3


def test_the_sizes_of_interest_have_caches_of_their_own_and_move_boxes_between_levels(task, cache_dir):
    other = prepared(cache_dir, interest=0.1)
    assert other.fingerprints()["features"] != task.fingerprints()["features"]
    levels = np.repeat(np.arange(5), task.locations.levels)
    mean = [
        np.broadcast_to(levels, labels.shape)[labels >= 0].mean()
        for labels in (each.prepared.cache["labels"] for each in (task, other))
    ]
    assert mean[0] < mean[1]


def test_a_score_halfway_is_that_of_the_average_as_it_stands_and_disturbs_nothing(task):
    architecture = task.space.sample(np.random.default_rng(0))
    halfway, final = task.evaluate(architecture)
    assert isinstance(halfway, Interim)
    assert (halfway.step, halfway.steps) == (2, 4)
    assert isinstance(final, Score)
    *_, (_, model) = task.training(architecture, task.options.seed)
    assert final.reward == -task.losses(model, task.prepared.cache, task.prepared.meta_val)["loss"]
    assert halfway.reward != final.reward


def test_fpns_alone_are_searched_with_a_narrow_head(task, cache_dir):
    standard = Architecture.of("fpn_fcos")
    whole = prepared(cache_dir, "fcos_decoder")
    assert (task.width, whole.width) == ("8", "8-16")
    assert (task.sizes()["width"], whole.sizes()["width"]) == ("8-16", "8-16")  # what is found is trained at full width
    trained, full = (one.train(standard, 0).head for one in (task, whole))
    assert 2 * sum(p.numel() for p in trained.parameters()) < sum(p.numel() for p in full.parameters())
    assert task.complexity(standard) == whole.complexity(standard)  # what a target bounds is what is found


def test_an_architecture_that_takes_c2_is_scored_beside_those_that_do_not(task, cache_dir):
    fpn = published.load("nas_fcos_fpn")
    assert "C2" not in task.prepared.cache.names
    *_, score = task.evaluate(fpn)
    own = prepared(cache_dir, "fcos_fpn_c2")
    *_, expected = own.evaluate(fpn)
    assert score == expected


def test_box_losses_may_count_by_centerness():
    torch.manual_seed(0)
    labels = torch.tensor([[0, -1, 1, 1]])
    targets = DenseTargets(labels, torch.rand(1, 4, 4) * 8 + 1, torch.tensor([[0.2, 0.0, 0.7, 1.0]]))
    outputs = {
        "cls_logits": torch.randn(1, 4, 2),
        "bbox_regression": torch.rand(1, 4, 4) + 0.1,
        "bbox_ctrness": torch.randn(1, 4, 1),
    }
    sizes = torch.full((4,), 8.0)
    single = []
    for i in (0, 2, 3):
        only = dataclasses.replace(targets, labels=labels.where(torch.arange(4) == i, -1))
        single.append(fcos_loss_sums(outputs, only, sizes).terms()["regression"])
    weights = torch.tensor([0.2, 0.7, 1.0])
    weighted = fcos_loss_sums(outputs, targets, sizes, "centerness").terms()["regression"]
    assert torch.allclose(weighted, (torch.stack(single) * weights).sum() / weights.sum())
    assert torch.allclose(fcos_loss_sums(outputs, targets, sizes).terms()["regression"], torch.stack(single).mean())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"interest": 0}, "setting 'interest' must be positive, got 0"),
        ({"mirrored": "yes"}, "setting 'mirrored' takes true or false, got 'yes'"),
        ({"mirrored": 1}, "setting 'mirrored' takes true or false, got 1"),
        ({"regression": "box"}, "setting 'regression' must be uniform or centerness, got 'box'"),
        ({"fpn_search_width": "64-100"}, "setting 'fpn_search_width': the head's width 100 must be a multiple"),
    ],
)
def test_bad_settings_are_told_in_a_sentence(overrides, message):
    with pytest.raises(InputError, match=message):
        fcos_settings("demo", None, overrides)
