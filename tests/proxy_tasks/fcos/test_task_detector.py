"""The whole detector: published counts, torchvision's interface, detections."""

import pytest
import torch
from torchvision.models.detection import FCOS
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from experiments import published
from proxy_tasks.fcos.detector import build_detector, detections, parse_width
from proxy_tasks.images import IMAGE_MEAN, IMAGE_STD
from search_spaces import InputError
from search_spaces.parts.complexity import count

# (published name, width, backbone): parameters in millions, giga-MACs at 1088x800 with 80 classes, from an independent
# reproduction of table 7.2. Its ResNets have their strides in the 1x1 convolutions. Parameters are those that are
# trained: frozen batch norm, stem and first stage are not.
TABLE_7_2 = {
    ("nas_fcos", "128", "mobilenet_v2"): (5.960, 38.82),
    ("nas_fcos", "128-256", "mobilenet_v2"): (9.947, 95.15),
    ("nas_fcos", "256", "mobilenet_v2"): (16.073, 121.19),
    ("nas_fcos", "128", "resnet50_v1"): (27.814, 103.90),
    ("nas_fcos", "128-256", "resnet50_v1"): (31.801, 160.23),
    ("nas_fcos", "256", "resnet50_v1"): (38.358, 189.32),
    ("nas_fcos", "256", "resnet101_v1"): (57.298, 253.71),
    ("nas_fcos", "128-256", "resnext101_64x4d"): (89.374, 361.49),
    ("fpn_fcos", "256", "mobilenet_v2"): (9.796, 104.93),
    ("fpn_fcos", "256", "resnet50_v1"): (32.022, 169.82),
    ("fpn_fcos", "256", "resnet101_v1"): (50.962, 234.22),
    ("fpn_fcos", "256", "resnext101_64x4d"): (89.595, 371.09),
    ("fpn_retinanet", "256", "mobilenet_v2"): (11.339, 132.96),
    ("fpn_retinanet", "256", "resnet50_v1"): (33.564, 197.86),
    ("fpn_retinanet", "256", "resnet101_v1"): (52.504, 262.25),
}


class Whole(torch.nn.Module):
    """A detector without its image transform and post-processing: what the table counts."""

    def __init__(self, detector):
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images):
        return self.head(list(self.backbone(images).values()))


@pytest.mark.parametrize("row", TABLE_7_2, ids="-".join)
def test_table_7_2(row):
    name, width, backbone = row
    with torch.device("meta"):
        detector = build_detector(published.load(name), backbone, frozen=True, width=width)
        counted = count(Whole(detector), torch.empty(1, 3, 800, 1088))
    params, macs = TABLE_7_2[row]
    assert counted.trainable_params / 1e6 == pytest.approx(params, abs=0.1)
    assert counted.macs / 1e9 == pytest.approx(macs, abs=0.1)


@pytest.mark.parametrize("name", ["fpn_fcos", "fpn_retinanet"])
def test_anchors_are_whole_pixels_also_where_maps_are_bfloat16(name):
    """Of which the largest that it tells from their neighbours is 256."""
    detector = build_detector(published.load(name), "tiny", num_classes=3, width=16, min_size=128, max_size=1200).eval()
    found = []
    detector.anchor_generator.register_forward_hook(lambda module, inputs, anchors: found.extend(anchors))
    images = [torch.rand(3, 128, 1100, generator=torch.Generator().manual_seed(0))]
    for lower in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=lower):
            assert lower == (next(iter(detector.backbone(images[0][None]).values())).dtype == torch.bfloat16)
            detector(images)
    assert found[1].dtype == torch.float32
    assert torch.equal(*found)


def small(name="nas_fcos"):
    torch.manual_seed(0)
    return build_detector(published.load(name), "tiny", num_classes=3, width="16-32", min_size=96, max_size=128)


DETECTORS = [name for name in published.names() if published.load(name).space.proxy_task == "fcos"]


@pytest.mark.parametrize("name", DETECTORS)
def test_torchvisions_lists_of_dicts(name):
    detector = small(name)
    images = [torch.rand(3, 96, 128), torch.rand(3, 80, 70)]
    targets = [
        {"boxes": torch.tensor([[10.0, 12.0, 60.0, 70.0], [5.0, 5.0, 90.0, 80.0]]), "labels": torch.tensor([0, 2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    losses = detector(images, targets)
    assert set(losses) == {"classification", "bbox_regression", *(["bbox_ctrness"] * (name != "fpn_retinanet"))}
    sum(losses.values()).backward()
    detector.eval()
    with torch.inference_mode():
        found = detector(images)
    for result, image in zip(found, images, strict=True):
        assert set(result) == {"boxes", "scores", "labels"}
        assert (result["boxes"][:, 2] <= image.shape[2]).all()
        assert (result["labels"] < 3).all()


def test_detections_are_torchvisions():
    """On a square image that needs no resizing the whole detector and our post-processing agree."""
    detector = small().eval()
    with torch.no_grad():
        torch.nn.init.normal_(detector.head.cls_logits.weight, std=0.5)  # some scores above the threshold
    image = torch.rand(3, 128, 128)
    detector.transform.min_size = (128,)
    with torch.inference_mode():
        (expected,) = detector([image])
        mean, std = (torch.tensor(value)[:, None, None] for value in (IMAGE_MEAN, IMAGE_STD))
        outputs = detector.head(list(detector.backbone(((image - mean) / std)[None]).values()))
        (found,) = detections(outputs, 128)
    assert len(expected["boxes"]) > 0
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_strides_are_exact_on_images_of_any_size():
    detector = small().eval()
    with torch.inference_mode():
        images, _ = detector.transform([torch.rand(3, 90, 150)])  # resized to 77 x 128
        maps = list(detector.backbone(images.tensors).values())
        anchors = detector.anchor_generator(images, maps)[0]
    centers = ((anchors[:, :2] + anchors[:, 2:]) / 2).split([x.shape[-2] * x.shape[-1] for x in maps])
    for stride, found in zip((8, 16, 32, 64, 128), centers, strict=True):
        lines = (torch.arange(0, side, stride).float() for side in images.tensors.shape[-2:])
        assert torch.equal(found, torch.cartesian_prod(*lines).flip(1))


def test_widths():
    assert parse_width("128-256") == (128, 256)
    assert parse_width(64) == (64, 64)
    assert parse_width("@128") == (128, 128)
    for wrong in ("", "a", "1-2-3", "0", "-5", "64-"):
        with pytest.raises(InputError, match="must be a number, or FPN width and head width as in '128-256'"):
            parse_width(wrong)
    with pytest.raises(InputError, match="multiple of the FPN's width 48, got 64"):
        build_detector(published.load("fpn_fcos"), "tiny", width="48-64")


def boxes_of(count, generator, classes=3):
    corners = torch.rand(count, 2, generator=generator) * 70
    return {
        "boxes": torch.cat([corners, corners + 5 + torch.rand(count, 2, generator=generator) * 50], dim=1),
        "labels": torch.randint(classes, (count,), generator=generator),
    }


def outputs_of(detector, images, targets):
    """What the head says of a batch, its targets in the network's pixels, and the anchors."""
    resized, targets = detector.transform(images, targets)
    maps = list(detector.backbone(resized.tensors).values())
    anchors = detector.anchor_generator(resized, maps)
    return targets, detector.head(maps), anchors, [x.shape[-2] * x.shape[-1] for x in maps]


def test_the_loss_is_torchvisions():
    detector, generator = small(), torch.Generator().manual_seed(0)
    images = [torch.rand(3, 96, 128), torch.rand(3, 80, 70), torch.rand(3, 90, 90)]
    targets = [boxes_of(count, generator) for count in (6, 0, 3)]
    parts = outputs_of(detector, images, targets)
    ours, theirs = detector.compute_loss(*parts), FCOS.compute_loss(detector, *parts)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value)


def test_crowds_are_neither_boxes_nor_background():
    detector, generator = small(), torch.Generator().manual_seed(1)
    target = boxes_of(4, generator) | {"iscrowd": torch.tensor([0, 0, 0, 1])}
    target["boxes"][3] = torch.tensor([8.0, 8.0, 120.0, 90.0])
    targets, outputs, *rest = outputs_of(detector, [torch.rand(3, 96, 128)], [target])
    outputs = {name: value.detach().requires_grad_() for name, value in outputs.items()}
    terms = detector.compute_loss(targets, outputs, *rest)
    sum(terms.values()).backward()
    silent = (outputs["cls_logits"].grad == 0).all(dim=2)
    assert silent.any()
    alone = [{"boxes": targets[0]["boxes"][:3], "labels": targets[0]["labels"][:3]}]
    assert FCOS.compute_loss(detector, alone, outputs, *rest)["classification"] != terms["classification"]


@pytest.mark.parametrize("name", ["fpn_fcos", "nas_fcos"])
def test_centerness_on_either_tower(name):
    torch.manual_seed(0)
    sizes = {"backbone": "tiny", "num_classes": 3, "width": 16}
    detector = build_detector(published.load(name), **sizes, centerness_on="regression")
    maps = [torch.rand(1, 16, side, side) for side in (16, 8, 4, 2, 1)]
    detector.head(maps)["bbox_ctrness"].sum().backward()
    assert all(parameter.grad is None for parameter in detector.head.cls_tower.parameters())
    assert any(parameter.grad is not None for parameter in detector.head.box_tower.parameters())
    with pytest.raises(InputError, match="on the tower of classification or regression, got 'both'"):
        build_detector(published.load(name), **sizes, centerness_on="both")


def test_retinanet_leaves_crowds_out():
    detector, generator = small("fpn_retinanet"), torch.Generator().manual_seed(2)
    target, image = boxes_of(3, generator), [torch.rand(3, 96, 128)]
    marked = target | {"iscrowd": torch.tensor([0, 1, 0])}
    kept = [{name: value[[0, 2]] for name, value in target.items()}]
    one, other = (detector(image, targets) for targets in ([marked], kept))
    assert all(torch.equal(one[name], other[name]) for name in other)


@pytest.mark.parametrize(("height", "width"), [(1, 2000), (2000, 3), (1, 1)])
def test_no_image_is_too_thin(height, width):
    """torchvision's resizing would leave nothing of the first two."""
    detector, target = small(), {"boxes": torch.tensor([[0.0, 0.0, width, height]]), "labels": torch.tensor([1])}
    assert all(loss.isfinite() for loss in detector([torch.rand(3, height, width)], [target]).values())
    detector.score_thresh = 0.0
    (found,) = detector.eval()([torch.rand(3, height, width)])
    assert (found["boxes"][:, 2] <= width).all()
    assert (found["boxes"][:, 3] <= height).all()


def test_other_images_are_resized_as_torchvision_does():
    ours = small().transform
    theirs = GeneralizedRCNNTransform(ours.min_size, ours.max_size, ours.image_mean, ours.image_std)
    for shape in ((64, 500), (500, 64), (1, 128), (100, 100)):
        image = torch.rand(3, *shape)
        for transform in (ours, theirs):
            transform.eval()
        assert torch.equal(ours.resize(image)[0], theirs.resize(image)[0])
