"""EfficientDet-D3 with masks is effdet's detector, and takes its weights whichever classes they are for."""

import pytest
import torch
from effdet import create_model
from mask_networks import batch, network

from proxy_tasks.images import IMAGE_MEAN, IMAGE_STD
from proxy_tasks.masks import efficientdet
from proxy_tasks.masks.efficientdet import COCO_IDS, PREDICTOR, UNUSED_IDS
from search_spaces import InputError

NAME = efficientdet.NAME
# COCO's ids of its 80 categories, as its annotation files have them
COCO_CATEGORIES = """1 2 3 4 5 6 7 8 9 10 11 13 14 15 16 17 18 19 20 21 22 23 24 25 27 28 31 32 33 34 35 36 37 38 39
40 41 42 43 44 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 67 70 72 73 74 75 76
77 78 79 80 81 82 84 85 86 87 88 89 90"""


@pytest.fixture(scope="module")
def ours():
    made = network("centermask", NAME, min_size=128, max_size=256)
    made.network.class_net.predict.conv_pw.bias.data[:] = -2  # scores above the threshold
    for module in made.network.class_net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data *= 3
    return made.eval()


def test_detections_are_effdets(ours):
    theirs = create_model(
        efficientdet.EFFDET_NAME, "predict", num_classes=4, image_size=(128, 256), pretrained_backbone=False
    )
    theirs.model.load_state_dict(ours.network.state_dict())
    image = torch.rand(3, 128, 256, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(value)[:, None, None] for value in (IMAGE_MEAN, IMAGE_STD))
    with torch.inference_mode():
        (found,) = ours([image])
        (rows,) = theirs.eval()(((image - mean) / std)[None])
    rows = rows[rows[:, 4] > 0.05]
    boxes = rows[:, :4].clamp(min=0).minimum(torch.tensor([256.0, 128, 256, 128]))
    seen = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    assert seen.sum() > 3
    torch.testing.assert_close(found["boxes"], boxes[seen], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found["scores"], rows[seen, 4], rtol=1e-4, atol=1e-4)
    assert torch.equal(found["labels"] + 1, rows[seen, 5].long())
    assert found["masks"].shape == (int(seen.sum()), 1, 128, 256)


def test_an_anchor_in_a_crowd_is_neither_object_nor_background(ours):
    """Against effdet's own loss: a crowd over all of the image silences its background, and only that."""
    images, targets = batch(0, size=128)
    crowd = {
        "boxes": torch.cat([targets[0]["boxes"], torch.tensor([[-500.0, -500, 700, 700]])]),
        "labels": torch.cat([targets[0]["labels"], torch.tensor([0])]),
        "masks": torch.cat([targets[0]["masks"], torch.ones(1, 128, 128, dtype=torch.uint8)]),
        "iscrowd": torch.tensor([0] * len(targets[0]["labels"]) + [1]),
    }
    images, crowd, targets = images * 2, [crowd] * 2, targets * 2
    ours.train()
    try:
        with torch.no_grad():
            for module in ours.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()
            with_crowd, without = ours(images, crowd), ours(images, targets)
    finally:
        ours.eval()
    assert with_crowd["loss_box_reg"] == without["loss_box_reg"]
    assert 0 < with_crowd["loss_classifier"] < 0.5 * without["loss_classifier"]


def test_the_ids_in_use_are_cocos():
    assert [number for number in range(1, COCO_IDS + 1) if number not in UNUSED_IDS] == [
        int(number) for number in COCO_CATEGORIES.split()
    ]


def test_weights_of_90_ids_serve_80_classes_and_other_classes_get_new_ones(tmp_path):
    whole, _ = efficientdet.efficientdet("none", COCO_IDS)
    file, state = tmp_path / "weights.pt", whole.state_dict()
    torch.save(state, file)
    eighty, fitting = efficientdet.efficientdet(str(file), 80)
    assert fitting
    categories = [int(number) for number in COCO_CATEGORIES.split()]
    for name, value in eighty.state_dict().items():
        expected = state[name]
        if name.startswith(PREDICTOR):
            rows = [anchor * COCO_IDS + category - 1 for anchor in range(9) for category in categories]
            expected = expected[rows]
        assert torch.equal(value, expected), name
    three, fitting = efficientdet.efficientdet(str(file), 3)
    assert not fitting
    name = "fpn.cell.0.fnode.0.after_combine.conv.conv_pw.weight"
    assert torch.equal(three.state_dict()[name], state[name])

    with pytest.raises(InputError, match=rf"weights.pt: the weights of '{name}' are missing; they are not of effic"):
        efficientdet._load(three, {key: value for key, value in state.items() if key != name}, str(file), 3)
    with pytest.raises(
        InputError, match=r"weights.pt: '.*' has shape \(3,\), efficientdet_d3 needs \(160, 160, 1, 1\)"
    ):
        efficientdet._load(three, state | {name: torch.zeros(3)}, str(file), 3)
