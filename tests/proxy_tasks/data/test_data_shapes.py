import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import masks_to_boxes

from proxy_tasks.data import Shapes
from proxy_tasks.data.images.shapes import Scene, Shape, render
from search_spaces import InputError


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    index=st.integers(0, 7),
    size=st.integers(32, 160),
    subset=st.sampled_from(["train", "test"]),
)
def test_items(seed, index, size, subset):
    image, target = Shapes(8, size, seed, subset)[index]
    masks, n = target["masks"], len(target["labels"])
    assert image.shape == (3, size, size)
    assert masks.dtype == torch.uint8
    assert masks.shape == (n, size, size)
    assert 1 <= n <= 6
    assert masks.sum(0).max() == 1  # each pixel shows one object at most
    expected = masks_to_boxes(masks) + torch.tensor([0.0, 0, 1, 1])  # torchvision's include the last pixel
    assert torch.equal(target["boxes"], expected)
    again, _ = Shapes(8, size, seed, subset)[index]
    assert torch.equal(image, again)


def test_another_process_draws_the_same():
    code = "from proxy_tasks.data import Shapes; s = Shapes(seed=3); print(s.fingerprint, int(s[9][0].sum()))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    here = Shapes(seed=3)
    assert printed.split() == [here.fingerprint, str(int(here[9][0].sum()))]


def test_sets_differ_by_every_argument():
    sets = [Shapes(), Shapes(count=255), Shapes(size=96), Shapes(seed=1), Shapes(subset="test")]
    assert len({dataset.fingerprint for dataset in sets}) == len(sets)
    train, test = sets[0], sets[-1]
    assert not torch.equal(train[0][0], test[0][0])
    assert not torch.equal(train[0][0], train[1][0])


def test_all_classes_and_sizes_occur():
    targets = [target for _, target in Shapes(200)]
    labels = torch.cat([target["labels"] for target in targets])
    assert (labels.bincount(minlength=4) > 0.15 * len(labels)).all()
    boxes = torch.cat([target["boxes"] for target in targets])
    longest = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    assert longest.min() <= 10
    assert 40 < longest.max() <= 65
    assert {len(target["labels"]) for target in targets} >= {1, 2, 3, 4, 5}


def scene(*shapes, size=64):
    ground = np.full((6, 6, 3), 128, np.uint8)
    return Scene(size, ground, 0.0, 0, shapes)


def test_a_circle_is_the_pixels_within_its_radius():
    image, labels, masks = render(scene(Shape("circle", 20.0, 30.0, 10.0, 0.0, (255.0, 0.0, 0.0))))
    y, x = np.mgrid[:64, :64]
    within = (x - 20) ** 2 + (y - 30) ** 2 <= 100
    assert np.array_equal(masks[0].astype(bool), within)
    assert labels.tolist() == [0]
    assert (image[within] == (255, 0, 0)).all()
    assert (image[~within] == 128).all()


@pytest.mark.parametrize(
    ("kind", "area"),
    [("circle", np.pi), ("square", 2.0), ("triangle", 0.75 * np.sqrt(3)), ("cross", 4 * 0.95 * 0.64 - 0.64**2)],
)
def test_areas_at_any_angle(kind, area):
    for angle in (0.0, 0.3, 2.0):
        _, _, masks = render(scene(Shape(kind, 128.3, 127.6, 100.0, angle, (1.0, 2.0, 3.0)), size=256))
        assert masks.sum() == pytest.approx(area * 100**2, rel=0.01)


def test_the_front_hides_the_back():
    front = Shape("square", 30.0, 30.0, 14.0, 0.0, (255.0, 0.0, 0.0))
    behind = Shape("circle", 40.0, 30.0, 14.0, 0.0, (0.0, 255.0, 0.0))
    _, (alone,) = render(scene(front))[1:]
    image, labels, masks = render(scene(front, behind))
    assert labels.tolist() == [1, 0]
    assert np.array_equal(masks[0], alone)
    assert not (masks[0] & masks[1]).any()
    assert (image[masks[1].astype(bool)] == (0, 255, 0)).all()


def test_a_hidden_shape_is_neither_drawn_nor_labelled():
    front = Shape("circle", 30.0, 30.0, 20.0, 0.0, (255.0, 0.0, 0.0))
    hidden = Shape("square", 44.0, 30.0, 10.0, 0.0, (0.0, 255.0, 0.0))
    image, labels, _ = render(scene(front, hidden))
    assert labels.tolist() == [0]
    assert not (image == (0, 255, 0)).all(2).any()


@pytest.mark.parametrize(("argument", "value", "least"), [("count", 0, 1), ("size", 31, 32), ("seed", -1, 0)])
def test_bad_arguments(argument, value, least):
    with pytest.raises(InputError, match=f"{argument} must be at least {least}, got {value}"):
        Shapes(**{argument: value})
    with pytest.raises(InputError, match="subsets train and test, got 'val'"):
        Shapes(subset="val")


def test_an_item_is_quick():
    dataset = Shapes()
    times = []
    for index in range(30):
        start = time.process_time()
        dataset[index]
        times.append(time.process_time() - start)
    assert sorted(times)[15] < 0.010  # 0.8 ms where measured; the bound only catches a change of kind
