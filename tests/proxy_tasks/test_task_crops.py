"""Fixed crops: boxes follow the pixels, and the same seed gives the same crops."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_tasks.crops import MINIMUM_SIDE, OBJECTS, Crops, crop_image
from proxy_tasks.rows import Site


class Blocks:
    """A dataset of uniform rectangles on black, whose boxes can be read back from the pixels."""

    classes = ("block",)
    fingerprint = "blocks"

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def describe(self):
        return "blocks"

    def __getitem__(self, index):
        height, width, box = self.sizes[index]
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        x0, y0, x1, y1 = box
        image[:, y0:y1, x0:x1] = 255
        target = {"boxes": torch.tensor([box], dtype=torch.float32), "labels": torch.tensor([0])}
        return image, target | {"iscrowd": torch.tensor([index % 2]), "difficult": torch.tensor([index // 2])}


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(40, 200),
    width=st.integers(40, 200),
    corner=st.tuples(st.integers(0, 29), st.integers(0, 29)),
    side=st.tuples(st.integers(8, 160), st.integers(8, 160)),
    crop=st.sampled_from([32, 64, 128]),
    seed=st.integers(0, 99),
)
def test_boxes_follow_the_pixels(height, width, corner, side, crop, seed):
    box = (*corner, min(corner[0] + side[0], width), min(corner[1] + side[1], height))
    image, target = crop_image(*Blocks([(height, width, box)])[0], crop, np.random.default_rng(seed))
    assert image.shape == (3, crop, crop)
    assert image.dtype == torch.uint8
    lit = (image[0] > 127).nonzero()
    if len(target["boxes"]) == 0:
        assert len(lit) == 0 or (lit.amax(0) - lit.amin(0)).amin() < MINIMUM_SIDE + 1
        return
    (found,) = target["boxes"]
    expected = torch.cat([lit.amin(0).flip(0), lit.amax(0).flip(0) + 1]).float()
    assert (found - expected).abs().max() <= 1.5, (found, expected)
    assert (found[:2] >= 0).all()
    assert (found[2:] <= crop).all()


def test_an_image_without_boxes():
    image, target = crop_image(
        torch.zeros(3, 60, 80, dtype=torch.uint8),
        {name: torch.zeros(0, 4) if name == "boxes" else torch.zeros(0, dtype=torch.int64) for name in OBJECTS},
        32,
        np.random.default_rng(0),
    )
    assert image.shape == (3, 32, 32)
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)


def test_what_is_stored_is_what_was_cropped(tmp_path):
    dataset = Blocks([(50, 70, (5, 5, 30, 40)), (64, 64, (0, 0, 10, 60)), (90, 45, (20, 30, 40, 80))])
    steps = []
    site = Site(tmp_path, torch.device("cpu"), lambda *n: steps.append(n))
    crops = Crops(dataset, 32, 3, site)
    assert steps == [("cropping the images", done, 3) for done in (1, 2, 3)]
    for index in range(3):
        image, target = crop_image(*dataset[index], 32, np.random.default_rng([3, index]))
        assert torch.equal(crops.images(np.array([index]))[0], image)
        assert set(crops.target(index)) == set(target)
        assert all(torch.equal(crops.target(index)[name], value) for name, value in target.items())
    assert [int(crops.target(index)["iscrowd"]) for index in range(3)] == [0, 1, 0]
    assert crops.images(np.array([2, 0])).is_contiguous(memory_format=torch.channels_last)
    assert Crops(dataset, 32, 3, site).key == crops.key
    assert len(steps) == 3  # nothing was cropped again
    assert Crops(dataset, 32, 4, site).key != crops.key
