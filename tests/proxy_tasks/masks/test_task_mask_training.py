"""Every named network learns, and none trips over images that have nothing, only crowds, or single pixels to find."""

import pytest
import torch
from mask_networks import CASCADES, NAMES, batch, is_finite, network, nothing

from proxy_tasks.masks import cascade, efficientdet
from proxy_tasks.masks.network import build_mask_network
from proxy_tasks.masks.truth import sample
from search_spaces import InputError
from search_spaces.masks.choices import MASK_HEAD

D3 = efficientdet.NAME


def steps(made, images, targets, count, rate=2e-3):
    """The loss at every step, all from the same samples."""
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], rate)
    history = []
    for _ in range(count):
        torch.manual_seed(1)
        losses = made(images, targets)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(float(total.detach()))
    return history


@pytest.mark.parametrize("name", ["mask_rcnn", "htc"])
def test_boxes_are_not_rounded_where_maps_are_bfloat16(name, monkeypatch):
    """It knows pixels beyond 1024 by eights: a small object's own box would be another there."""
    made, drawn = network(name, max_size=1200), []
    box = torch.tensor([[1101.0, 21.0, 1109.0, 29.0]])
    masks = torch.zeros(1, 64, 1120, dtype=torch.uint8)
    masks[:, 21:29, 1101:1109] = 1

    def noted(proposals, *more):
        samples = sample(proposals, *more)
        drawn.extend((proposals[0], one.boxes) for one in samples)
        return samples

    monkeypatch.setattr(cascade, "sample", noted)
    with torch.autocast("cpu", torch.bfloat16):
        made([torch.rand(3, 64, 1120)], [{"boxes": box, "labels": torch.tensor([1]), "masks": masks}])
    assert len(drawn) == (6 if name == "htc" else 1)
    for proposals, boxes in drawn:
        assert proposals.dtype == torch.float32
        assert (boxes == box).all(dim=1).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_every_named_network_falls(name):
    made = network(name)
    history = steps(made, *batch(0, 1), count=8, rate=5e-3)
    assert history[-1] < 0.8 * history[0], history
    made.eval()
    with torch.inference_mode():
        found = made(batch(0)[0])[0]
    assert set(found) == {"boxes", "labels", "scores", "masks"}
    assert found["masks"].shape == (len(found["boxes"]), 1, 64, 64)
    assert ((found["masks"] >= 0) & (found["masks"] <= 1)).all()
    assert ((found["labels"] >= 0) & (found["labels"] < 4)).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_on_efficientdet_falls_while_it_is_frozen(name):
    """As the thesis trains: the detector's weights are kept, the heads learn."""
    made = network(name, D3, min_size=128, max_size=128, frozen=True)
    if name in CASCADES:
        frozen = made.backbone.network
    else:  # the whole detector, as where the class predictor has weights for the classes
        made.frozen_heads, frozen = True, made.network
        made.requires_grad_(True).network.requires_grad_(False)
        made.train()
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    history = steps(made, *batch(0, 1), count=4, rate=5e-3 if name in CASCADES else 2e-2)
    assert history[-1] < 0.95 * history[0], history
    assert all(torch.equal(value, before[key]) for key, value in frozen.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["htca_d", "centermask"])
def test_the_loss_on_efficientdet_falls_from_scratch(name):
    made = network(name, D3, min_size=128, max_size=128)
    history = steps(made, *batch(0, 1), count=5)
    assert history[-1] < 0.9 * history[0], history
    kept = [key for key, p in made.named_parameters() if p.requires_grad and p.grad is not None]
    assert any("network.backbone" in key or "backbone.network.backbone" in key for key in kept)


def test_eq_5_2_weighs_the_stages():
    made, (images, targets) = network("htc"), batch(0, 1)
    weighted, plain = [], []
    for weights, into in (((1.0, 0.5, 0.25), weighted), ((1.0, 1.0, 1.0), plain)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("proxy_tasks.masks.cascade.STAGE_WEIGHTS", weights)
            torch.manual_seed(0)
            into.append({name: float(value.detach()) for name, value in made(images, targets).items()})
    for name, value in weighted[0].items():
        share = {"_1": 1.0, "_2": 0.5, "_3": 0.25}.get(name[-2:], 1.0)
        assert value == pytest.approx(share * plain[0][name])
    kinds = ("loss_classifier", "loss_box_reg", "loss_mask")
    assert {f"{kind}_{stage}" for kind in kinds for stage in (1, 2, 3)} | {"loss_semantic"} <= set(weighted[0])


def crowd_only(size=64):
    image, _ = nothing(size)
    whole = torch.tensor([[0.0, 0.0, size, size]])
    return image, {
        "boxes": whole,
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, size, size, dtype=torch.uint8),
        "iscrowd": torch.tensor([1]),
    }


def one_pixel(size=64):
    image, _ = nothing(size)
    masks = torch.zeros(2, size, size, dtype=torch.uint8)
    masks[0, 10, 12] = masks[1, size - 1, size - 1] = 1
    boxes = torch.tensor([[12.0, 10, 13, 11], [size - 1.0, size - 1, size, size]])
    return image, {"boxes": boxes, "labels": torch.tensor([0, 3]), "masks": masks, "iscrowd": torch.tensor([0, 0])}


def empty_mask(size=64):
    image, target = one_pixel(size)
    return image, target | {"masks": torch.zeros_like(target["masks"])}


CASES = {"nothing": nothing, "crowds alone": crowd_only, "single pixels": one_pixel, "empty masks": empty_mask}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["htca_d", "htca_if", "centermask"])
def test_hostile_images(name, case):
    """Alone and beside a good one; shrunk to less than a pixel, too."""
    good = [part[0] for part in batch(0)]
    bad = CASES[case]()
    for smaller in (64, 48):
        made = network(name, min_size=smaller, max_size=smaller)
        for images, targets in ([[bad[0]], [bad[1]]], [[bad[0], good[0]], [bad[1], good[1]]]):
            losses = made(images, targets)
            assert is_finite(made, losses), losses
        made.eval()
        with torch.inference_mode():
            assert len(made([bad[0]])) == 1
        made.train()


@pytest.mark.parametrize("case", CASES)
def test_hostile_images_on_efficientdet(case):
    image, target = CASES[case]()
    made = network("centermask", D3, min_size=128, max_size=128)
    assert is_finite(made, made([image, image], [target, target]))


def test_no_loss_of_boxes_and_masks_where_a_crowd_is_all_there_is():
    """Neither positive nor background: nothing is learned of any RoI, and the same image without the crowd teaches."""
    made = network("htc")
    for case, silent in ((crowd_only, True), (nothing, False)):
        torch.manual_seed(0)
        image, target = case()
        losses = made([image], [target])
        silenced = [losses[f"loss_classifier_{stage}"] == 0 for stage in (1, 2, 3)]
        assert all(silenced) == any(silenced) == silent
        assert (losses["loss_semantic"] == 0) == silent
        assert all(losses[f"loss_mask_{stage}"] == 0 for stage in (1, 2, 3))


def test_an_anchor_in_a_crowd_is_neither_object_nor_background():
    made, (_, target) = network("htc"), crowd_only()
    anchors = torch.tensor([[10.0, 10, 40, 40], [50.0, 50, 90, 90], [-60.0, 0, 4, 64]])
    labels, _ = made.rpn.assign_targets_to_anchors([anchors] * 2, [target, nothing()[1]])
    assert labels[0].tolist() == [-1, 0, 0]  # the others lie outside the crowd by more than half
    assert labels[1].tolist() == [0, 0, 0]
    silent = made.rpn.compute_loss(torch.zeros(3, 1), torch.zeros(3, 4), [torch.full((3,), -1.0)], [anchors])
    assert [float(one) for one in silent] == [0, 0]


def test_no_detection_at_all():
    made = network("htca_c").eval()
    for stage in made.roi_heads.boxes:
        stage.predictor.cls_score.bias.data[0] = 100  # background
    with torch.inference_mode():
        (found,) = made([nothing()[0]])
    assert {key: tuple(value.shape) for key, value in found.items()} == {
        "boxes": (0, 4), "labels": (0,), "scores": (0,), "masks": (0, 1, 64, 64)
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_any_point_of_the_space_learns_and_detects(seed):
    import numpy as np

    architecture = MASK_HEAD.sample(np.random.default_rng(seed))
    made = network(architecture)
    assert is_finite(made, made(*batch(0, 1)))
    unused = [key for key, p in made.roi_heads.masks.named_parameters() if p.grad is None]
    assert unused == []
    with torch.inference_mode():
        made.eval()(batch(2)[0])


def test_a_label_map_of_ones_own():
    made, (images, targets) = network("htc", semantic_classes=7), batch(0)
    semantic = torch.full((64, 64), 255)
    semantic[:32] = 6
    torch.manual_seed(0)
    losses = made(images, [targets[0] | {"semantic": semantic}])
    assert losses["loss_semantic"] > 0
    void = made(images, [targets[0] | {"semantic": torch.full((64, 64), 255)}])
    assert void["loss_semantic"] == 0
    assert is_finite(made, void)


def test_averaged_detections_are_the_mean_over_the_stages():
    last, mean = network("htc").eval(), network("htc", averaged=True).eval()
    rois = {name: torch.randn(2, 8, 14, 14) for name in ("pyramid", "semantic")}
    with torch.inference_mode():
        each = torch.stack([value.sigmoid() for value in last.roi_heads.masks(rois).values()])
        torch.testing.assert_close(last.roi_heads._probabilities(rois), each[-1])
        torch.testing.assert_close(mean.roi_heads._probabilities(rois), each.mean(dim=0))


def change(**parts):
    image, targets = batch(0)
    return image, [{**targets[0], **parts}]


BAD_TARGETS = [
    ({"masks": torch.zeros(1, 5, 5)}, r"target 0 has \d labels, boxes of shape .* and masks of shape \(1, 5, 5\)"),
    ({"labels": torch.full((1,), 9), "boxes": torch.tensor([[0.0, 0, 5, 5]]), "masks": torch.zeros(1, 64, 64)},
     r"target 0 has a label beyond 0 to 3"),
    ({"labels": torch.tensor([0]), "boxes": torch.tensor([[5.0, 0, 5, 5]]), "masks": torch.zeros(1, 64, 64)},
     r"target 0 has a box without an area"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "message"), BAD_TARGETS)
def test_bad_targets_are_told(parts, message):
    made = network("mask_rcnn")
    with pytest.raises(InputError, match=message):
        made(*change(**parts))


def test_missing_targets_are_told():
    made, (images, targets) = network("mask_rcnn"), batch(0)
    with pytest.raises(InputError, match="a network in training mode needs a target for each of 1 images"):
        made(images)
    del targets[0]["masks"]
    with pytest.raises(InputError, match="target 0 has no 'masks'; a mask network learns from boxes, labels and masks"):
        made(images, targets)


def test_bad_options_are_told(monkeypatch):
    for options, message in (
        ({"backbone": "resnet5"}, r"there is no backbone 'resnet5'; known: .*; mask networks have efficientdet_d3 too"),
        ({"width": "64-128"}, r"the width of a mask network is a number of channels, got '64-128'"),
        ({"width": 0}, r"the width of a mask network is a number of channels, got 0"),
    ):
        with pytest.raises(InputError, match=message):
            network("htc", **options)


def test_the_efficientdet_says_what_it_needs(monkeypatch, tmp_path):
    from urllib.error import URLError

    def offline(*arguments, **options):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with torch.device("meta"), pytest.raises(InputError, match=r"the COCO weights of efficientdet_d3 cannot be .*none"):
        build_mask_network(MASK_HEAD.architecture([0] * len(MASK_HEAD)), D3)  # by default those of COCO
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"efficientdet_d3 needs the package effdet; install it with pip install 'dens"
    ):
        efficientdet.efficientdet("none")
