"""The one-stage network is torchvision's Mask R-CNN: the same weights give the same losses and the same masks."""

import pytest
import torch
from mask_networks import batch
from torchvision.models.detection import maskrcnn_resnet50_fpn

import nas

PARTS = {  # ours to theirs
    "roi_heads.boxes.0.head.": "roi_heads.box_head.",
    "roi_heads.boxes.0.predictor.": "roi_heads.box_predictor.",
    "roi_heads.masks.stages.0.convs.": "roi_heads.mask_head.",
    "roi_heads.masks.stages.0.deconv.": "roi_heads.mask_predictor.conv5_mask.",
    "roi_heads.masks.stages.0.predict.": "roi_heads.mask_predictor.mask_fcn_logits.",
}


def theirs_of(name):
    for ours, theirs in PARTS.items():
        name = name.replace(ours, theirs)
    return name


@pytest.fixture(scope="module")
def both():
    torch.manual_seed(0)
    sizes = {"min_size": 96, "max_size": 128}
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=5, **sizes)
    theirs.roi_heads.box_predictor.cls_score.weight.data *= 20  # some scores well above the threshold
    ours = nas.build("mask_rcnn", backbone="resnet50", num_classes=4, **sizes)
    state = theirs.state_dict()
    # their maps of masks count background, which nothing reads
    values = {
        name: state[theirs_of(name)][1:] if ".predict." in name else state[theirs_of(name)]
        for name in ours.state_dict()
    }
    ours.load_state_dict(values)
    assert len(values) == len(state)
    for network in (ours, theirs):
        network.rpn._post_nms_top_n = {"training": 40, "testing": 40}
        (network.roi_heads.sampler if network is ours else network.roi_heads.fg_bg_sampler).batch_size_per_image = 24
    return ours, theirs


def test_the_same_detections_and_masks(both):
    ours, theirs = both
    images = [torch.rand(3, 80, 110, generator=torch.Generator().manual_seed(1)), *batch(0)[0]]
    with torch.inference_mode():
        for found, expected in zip(ours.eval()(images), theirs.eval()(images), strict=True):
            assert len(expected["boxes"]) > 3
            assert torch.equal(found["labels"] + 1, expected["labels"])
            for name in ("boxes", "scores", "masks"):
                torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)


def test_the_same_losses(both):
    ours, theirs = both
    images, targets = batch(0, 1)
    losses = []
    for network, shift in ((ours, 0), (theirs, 1)):
        torch.manual_seed(5)  # of the samplers
        network.train()
        known = [{**one, "labels": one["labels"] + shift} for one in targets]
        with torch.no_grad():
            losses.append(network(images, known))
    assert set(losses[0]) == set(losses[1])
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name], rtol=1e-4, atol=1e-5)
