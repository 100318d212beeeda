"""Crops of masks: they follow the pixels, are kept whole in the cache, and are turned with what they belong to."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_tasks.crops import Crops, MirroredBeside, crop_image
from proxy_tasks.data import Shapes
from proxy_tasks.rows import Site


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 7), st.sampled_from([24, 40, 64, 90]), st.integers(0, 99))
def test_masks_are_cropped_as_a_slow_version_does(index, crop, seed):
    image, target = Shapes(8, 64)[index]
    image, target = image[:, :, 8:], {**target, "masks": target["masks"][:, :, 8:]}  # not a square
    boxes = target["boxes"] - torch.tensor([8.0, 0, 8, 0])
    kept = boxes[:, 2] > 0
    target = {name: value[kept] for name, value in target.items() if name not in ("image_id", "boxes")}
    target["boxes"] = boxes[kept].clamp(min=0)
    cropped, found = crop_image(image, target, crop, np.random.default_rng(seed), masks=True)

    rng = np.random.default_rng(seed)
    height, width = round(64 * crop / 56), crop
    top, left = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
    rows = torch.arange(crop) + top
    columns = torch.arange(crop) + left
    slow = target["masks"][:, rows * 64 // height][:, :, columns * 56 // width]  # nearest
    assert found["masks"].dtype == torch.uint8
    assert (found["masks"] > 0).flatten(1).any(dim=1).all()
    expected = {tuple(mask.flatten().tolist()) for mask in slow if mask.any()}
    assert {tuple(mask.flatten().tolist()) for mask in found["masks"]} <= expected
    for mask, box in zip(found["masks"], found["boxes"], strict=True):
        y, x = mask.nonzero().unbind(1)
        assert x.min() >= box[0] - 1.5
        assert y.min() >= box[1] - 1.5
        assert x.max() + 1 <= box[2] + 1.5
        assert y.max() + 1 <= box[3] + 1.5
    assert cropped.shape[-2:] == found["masks"].shape[-2:] == (crop, crop)


def test_an_object_without_a_pixel_in_the_crop_is_not_seen():
    masks = torch.zeros(2, 40, 80, dtype=torch.uint8)
    masks[0, 2:38, 2:78] = 1
    masks[1, 0, 0] = masks[1, 39, 79] = 1  # a box of the whole image, pixels in two corners
    names = ("labels", "iscrowd", "difficult")
    target = {name: torch.zeros(2, dtype=torch.int64) for name in names} | {"masks": masks}
    target["boxes"] = torch.tensor([[2.0, 2, 78, 38], [0.0, 0, 80, 40]])
    image = torch.zeros(3, 40, 80, dtype=torch.uint8)
    _, with_masks = crop_image(image, target, 20, np.random.default_rng(1), masks=True)
    _, without = crop_image(image, target, 20, np.random.default_rng(1))
    assert len(without["boxes"]) == 2
    assert torch.equal(with_masks["boxes"], without["boxes"][:1])
    assert "masks" not in without


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path, torch.device("cpu"), lambda *progress: None)


def test_stored_masks_are_the_cropped_ones_and_turn_with_their_images(site):
    dataset = Shapes(5, 64)
    crops = Crops(dataset, 37, 3, site, masks=True)  # no multiple of eight pixels
    both = MirroredBeside(crops, np.array([3, 1]))
    for index in range(5):
        image, expected = crop_image(*dataset[index], 37, np.random.default_rng([3, index]), masks=True)
        assert torch.equal(crops.images(np.array([index]))[0], image)
        target = crops.target(index)
        assert set(target) == set(expected)
        assert all(torch.equal(target[name], value) for name, value in expected.items())
    for number, original in ((5, 3), (6, 1)):
        turned, target = both.target(number), crops.target(original)
        assert torch.equal(turned["masks"], target["masks"].flip(-1))
        assert torch.equal(both.images(np.array([number]))[0], crops.images(np.array([original]))[0].flip(-1))


def test_without_masks_crops_are_what_they_were(site):
    dataset = Shapes(3, 64)
    plain, masks = Crops(dataset, 32, 3, site), Crops(dataset, 32, 3, site, masks=True)
    assert plain.key != masks.key
    assert "masks" not in plain.target(0)
    assert torch.equal(plain.target(0)["boxes"], masks.target(0)["boxes"])


def test_an_image_without_objects(site):
    class Empty:
        classes, fingerprint = ("thing",), "empty"

        def __len__(self):
            return 2

        def __getitem__(self, index):
            count = 1 - index
            target = {name: torch.zeros(count, dtype=torch.int64) for name in ("labels", "iscrowd", "difficult")}
            target |= {"boxes": torch.tensor([[0.0, 0, 40, 40]])[:count]}
            target |= {"masks": torch.ones(count, 40, 50, dtype=torch.uint8)}
            return torch.zeros(3, 40, 50, dtype=torch.uint8), target

    crops = Crops(Empty(), 32, 0, site, masks=True)
    assert crops.target(0)["masks"].shape == (1, 32, 32)
    assert crops.target(1)["masks"].shape == (0, 32, 32)
