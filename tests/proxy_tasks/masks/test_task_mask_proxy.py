"""The mask proxy task: cached RoIs and their scores against the whole network run on every image."""

import numpy as np
import pytest
import torch
import trees
from torchvision.models.detection.roi_heads import maskrcnn_loss
from torchvision.ops import box_iou, roi_align

import proxy_tasks
import search_spaces
from proxy_tasks import TaskOptions
from proxy_tasks.average_precision import coco_figures, run_lengths
from proxy_tasks.masks.cascade import IOU_THRESHOLDS, STAGE_WEIGHTS
from proxy_tasks.masks.rois import LEVEL_RULES
from search_spaces import InputError

SETTINGS = {
    **{"crop": 64, "rois": 6, "batch_size": 16, "iterations": 4, "width": 8},
    **{"pretrain_iterations": 30, "pretrain_batch_size": 4},
}


def make(data, cache_dir, space="mask_head", **options):
    overrides = SETTINGS | options.pop("overrides", {})
    given = {"data": str(data), "cache_dir": str(cache_dir), "overrides": overrides, "all_metrics": True} | options
    return proxy_tasks.make("masks", search_spaces.get(space), TaskOptions(**given))


def prepared(*args, **options):
    task = make(*args, **options)
    task.prepare(lambda what, done, total: None)
    return task


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return trees.write_coco(tmp_path_factory.mktemp("data"), n=12, size=(80, 64))


@pytest.fixture(scope="module", params=["mask_head", "mask_head_single"])
def task(request, data, tmp_path_factory):
    return prepared(data, tmp_path_factory.mktemp("cache"), request.param)


@pytest.fixture(scope="module")
def branch(task):
    """Drawn with every stage's inputs in use, whatever it gives."""
    return task.build(task.space.sample(np.random.default_rng(5)), 0).eval()


def crop_and_truth(task, number, learned_mirrors):
    crops = task.prepared.crops
    original = number if number < len(crops) else learned_mirrors[number - len(crops)]
    image, target = crops.images(np.array([original])), crops.target(int(original))
    if number >= len(crops):
        image = image.flip(-1)
        boxes = target["boxes"]
        target["boxes"] = torch.stack([64 - boxes[:, 2], boxes[:, 1], 64 - boxes[:, 0], boxes[:, 3]], dim=1)
        target["masks"] = target["masks"].flip(-1)
    return image, target


@pytest.fixture(scope="module")
def mirrors(task):
    """The crops that are mirrored: those of meta-train."""
    crops = task.prepared.crops
    return np.setdiff1d(np.arange(len(crops)), task.prepared.meta_val_crops)


@torch.inference_mode()
def test_cached_features_are_those_of_the_frozen_network(task, mirrors):
    learned, network = task.prepared.learned, task.prepared.network
    stages, pools = learned.stages, {"fpn": (2, 5), "area": (3, 5)}
    for row in range(0, len(learned["crops"]), 7):
        image, _ = crop_and_truth(task, int(learned["crops"][row]), mirrors)
        images, _ = network.transform(list(image.float() / 255))
        maps = network.roi_heads.maps(network.backbone(images.tensors))
        for t in range(1, stages + 1):
            box = torch.from_numpy(learned[f"boxes_{t}"][row : row + 1].copy())
            for rule, (first, last) in pools.items():
                level = int(LEVEL_RULES[rule]([box], [(64, 64)], first, last))
                expected = roi_align(maps[f"P{level}"], [box], 14, 2.0**-level, 2)
                found = learned.maps([f"{rule}_{t}"], np.array([row]))[f"{rule}_{t}"]
                torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
            if stages > 1:
                expected = roi_align(maps["semantic"], [box], 14, 1 / 8, 2)
                torch.testing.assert_close(
                    learned.maps([f"semantic_{t}"], np.array([row]))[f"semantic_{t}"], expected, rtol=2e-3, atol=2e-3
                )


def test_rois_answer_for_their_objects_and_the_loss_is_torchvision_s(task, branch, mirrors):
    learned = task.prepared.learned
    rows = np.arange(0, len(learned["crops"]), 3)
    terms = []
    for t in range(1, learned.stages + 1):
        name = f"_{t}" if learned.stages > 1 else ""
        boxes, masks, labels, matched = [], [], [], []
        for row in rows:
            _, target = crop_and_truth(task, int(learned["crops"][row]), mirrors)
            box = torch.from_numpy(learned[f"boxes_{t}"][row : row + 1].copy())
            overlap, own = box_iou(box, target["boxes"]).max(dim=1)
            assert overlap >= IOU_THRESHOLDS[t - 1]
            assert target["labels"][own] == learned[f"labels_{t}"][row]
            boxes.append(box)
            masks.append(target["masks"])
            labels.append(target["labels"])
            matched.append(own)
        maps = learned.maps([f"{branch.levels}_{t}"] + [f"semantic_{t}"] * branch.uses_semantic, rows)
        with torch.inference_mode():
            logits = branch.masks(t - 1, maps[f"{branch.levels}_{t}"], maps.get(f"semantic_{t}"))
            terms.append(STAGE_WEIGHTS[t - 1] * float(maskrcnn_loss(logits, boxes, masks, labels, matched)))
        assert task.losses(branch, rows)[f"loss_mask{name}"] == pytest.approx(terms[-1], rel=1e-3)
    assert task.losses(branch, rows)["loss"] == pytest.approx(sum(terms), rel=1e-3)


def test_average_precision_is_that_of_the_whole_network(task, branch):
    network, crops = task.prepared.network, task.prepared.crops
    found, own = [], network.roi_heads.masks
    network.roi_heads.masks, pool = branch, network.roi_heads.mask_pool
    if branch.levels == "area":
        network.roi_heads.mask_pool = type(pool)(("P3", "P4", "P5"), 14, "area")
    try:
        for number in task.prepared.meta_val_crops:
            with torch.inference_mode():
                (one,) = network(list(crops.images(np.array([number])).float() / 255))
            found.append({**one, "segmentations": run_lengths(one["masks"][:, 0] > 0.5)})
    finally:
        network.roi_heads.masks, network.roi_heads.mask_pool = own, pool
    truth = [crops.target(int(number)) for number in task.prepared.meta_val_crops]
    truth = [{**one, "segmentations": run_lengths(one["masks"])} for one in truth]
    expected = coco_figures(found, truth, 3, masks=True)
    assert sum(len(one["boxes"]) for one in found) > 0
    figures = task.average_precision(branch)
    assert figures == pytest.approx({name: expected[name] for name in figures}, abs=1e-2)


def test_every_object_is_learned_from_and_the_sides_share_no_crop(task):
    prepared = task.prepared
    crops = prepared.learned["crops"]
    sides = [set(crops[rows]) for rows in (prepared.meta_train, prepared.meta_val)]
    assert not sides[0] & sides[1]
    for number in range(len(prepared.crops)):
        objects, rows = len(prepared.crops.target(number)["boxes"]), int((crops == number).sum())
        assert min(objects, 6) <= rows <= 6
        assert (rows == 0) == (objects == 0)


def test_a_longer_training_learns(task):
    plain = search_spaces.masks.choices.plain(task.space)
    few, many = (
        prepared_losses(task, plain, {"iterations": iterations, "learning_rate": 3e-3}) for iterations in (2, 60)
    )
    assert many < 0.8 * few


def prepared_losses(task, architecture, overrides):
    options = task.options
    other = make(options.data, options.cache_dir, task.space.name, overrides=overrides)
    other.prepare(lambda what, done, total: pytest.fail(f"{what}: only trials differ"))
    *_, score = other.evaluate(architecture)
    return score.metrics["loss"]


@pytest.mark.parametrize(
    ("overrides", "backbone", "message"),
    [
        ({"crop": 100}, "tiny", "setting 'crop' must be a multiple of 32 pixels with this backbone, got 100"),
        ({"crop": 64}, "efficientdet_d3", "setting 'crop' must be a multiple of 128 pixels with this backbone, got 64"),
        ({"polyak_decay": 1}, "tiny", r"setting 'polyak_decay' must be in \[0, 1\), got 1.0"),
        ({"rois": 0}, "tiny", "setting 'rois' must be positive, got 0"),
        ({"width": 9}, "tiny", "setting 'width' must be even, as deformable convolutions need it, got 9"),
        ({}, "vgg99", "vgg99"),
    ],
)
def test_bad_settings(data, tmp_path, overrides, backbone, message):
    with pytest.raises(InputError, match=message):
        make(data, tmp_path, overrides=overrides, backbone=backbone)


def test_heads_of_one_stage_are_not_searched_on_a_detector_of_its_own(data, tmp_path):
    with pytest.raises(InputError, match="heads of one stage are searched in Mask R-CNN's network, but efficientdet"):
        make(data, tmp_path, "mask_head_single", backbone="efficientdet_d3", overrides={"crop": 128})


def test_data_without_masks(tmp_path):
    task = make(trees.write_voc(tmp_path / "voc"), tmp_path / "cache")
    with pytest.raises(InputError, match="masks"):
        task.prepare(lambda what, done, total: None)
    assert not (tmp_path / "cache").exists()


def test_data_without_an_object(tmp_path):
    folder = trees.write_coco(tmp_path / "coco", n=2, n_test=1, size=(80, 64))
    seeds = [seed for seed in range(8) if np.random.default_rng(seed).permutation(2)[0] == 1]
    task = make(folder, tmp_path / "cache", seed=seeds[0])  # the last image has no object: meta-train is that one
    with pytest.raises(InputError, match="no crop of meta-train has an object"):
        task.prepare(lambda what, done, total: None)


def test_a_frozen_network_that_finds_nothing(tmp_path):
    """Among thirty classes no score of an untrained network is above the threshold."""
    classes = [f"class {number}" for number in range(30)]
    folder = trees.write_coco(tmp_path / "coco", n=6, n_test=1, size=(80, 64), classes=classes)
    untrained = {"pretrain_iterations": 0}
    task = prepared(folder, tmp_path / "cache", "mask_head_single", overrides=untrained)
    assert len(task.prepared.detected["crops"]) == 0
    *_, score = task.evaluate(search_spaces.masks.choices.plain(task.space))
    assert score.metrics["ap"] == 0
    with pytest.raises(InputError, match="finds no object on meta-val, so average precision tells no heads apart"):
        prepared(folder, tmp_path / "cache", "mask_head_single", overrides=untrained, reward="metric")


def test_other_anchors_are_other_rois(data, tmp_path):
    """An untrained network has the same weights whatever its anchors are."""
    one, other = (
        prepared(data, tmp_path, overrides={"pretrain_iterations": 0, "anchors": anchors}) for anchors in (0.25, 1)
    )
    assert one.fingerprints()["network"] != other.fingerprints()["network"]
    assert one.prepared.learned.key != other.prepared.learned.key
    assert one.prepared.detected.key != other.prepared.detected.key
