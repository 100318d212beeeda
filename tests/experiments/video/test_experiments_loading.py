"""Training batches: functions of seed and step alone, whose frames and labels stay together."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from video_parts import Memory, noise, static_recipe

from experiments import recipes
from experiments.loading import steps_in
from experiments.video.loading import augmented, batches
from proxy_tasks.data.video.base import VOID
from proxy_tasks.images import PADDING

BLOCK, SHADE = 16, 30  # pixels of one class side by side, and grey levels between two classes


def blocks(height, width, seed):
    """Frames whose every pixel tells its own label: three of one sequence, alike."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.integers(0, 8, (height, width), dtype=np.uint8))
    labels = coarse.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1).expand(3, -1, -1)
    return (SHADE * labels)[:, None].expand(-1, 3, -1, -1).contiguous(), labels.contiguous()


def inside(labels):
    """Where all labels within two pixels are one class: resampling has not mixed it with another."""
    planes = F.pad(labels.float()[:, None], (2, 2, 2, 2), value=float(VOID))
    return ((F.max_pool2d(planes, 5, 1) == -F.max_pool2d(-planes, 5, 1))[:, 0]) & (labels != VOID)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(2, 5), width=st.integers(2, 5), seed=st.integers(0, 10**6), scale=st.sampled_from([0.5, 1.0]),
    crop=st.tuples(st.integers(32, 80), st.integers(32, 80)),
)  # fmt: skip
def test_frames_and_labels_are_scaled_cropped_and_flipped_as_one(height, width, seed, scale, crop):
    recipe = static_recipe(scale=scale, scale_min=1.0, scale_max=2.0, crop_height=crop[0], crop_width=crop[1])
    images, labels = augmented(*blocks(height, width, seed), recipe, np.random.default_rng(seed))
    assert (images.shape, labels.shape) == ((3, 3, *crop), (3, *crop))
    assert images.dtype == labels.dtype == torch.uint8
    for frame in (1, 2):  # one draw for the whole sequence
        assert torch.equal(images[frame], images[0])
        assert torch.equal(labels[frame], labels[0])
    sure = inside(labels)
    assert sure.any()
    for channel in range(3):
        assert torch.equal((images[:, channel][sure].float() / SHADE).round(), labels[sure].float())
        assert (images[:, channel][labels == VOID] == PADDING[channel]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.5, 1.0]), least=st.sampled_from([0.5, 1.0]))
def test_the_random_factor_multiplies_the_scale(seed, scale, least):
    recipe = static_recipe(scale=scale, scale_min=least, scale_max=2.0, crop_height=200, crop_width=240)
    _, labels = augmented(*blocks(5, 6, 0), recipe, np.random.default_rng(seed))
    rows, columns = (labels[0] != VOID).any(1).nonzero(), (labels[0] != VOID).any(0).nonzero()
    factors = [len(rows) / 80, len(columns) / 96]  # the whole frame fits into the crop
    assert factors[0] == pytest.approx(factors[1], abs=0.02)
    assert scale * least - 0.01 <= factors[0] <= scale * 2.0 + 0.01
    assert (labels[0] != VOID).sum() == len(rows) * len(columns)  # void is only around it


def test_half_of_the_sequences_are_flipped_and_the_crop_goes_everywhere():
    images = torch.arange(64, dtype=torch.uint8).expand(1, 3, 64, 64)
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    recipe = static_recipe(scale_min=1.0, scale_max=1.0)
    rng, flips, places = np.random.default_rng(0), 0, set()
    for _ in range(300):
        row = augmented(images, labels, recipe, rng)[0][0, 0, 0].int()
        flips += int(row[0] > row[-1])
        places.add(int(row.min()))
    assert 120 < flips < 180
    assert places == set(range(64 - 32 + 1))


def test_sequences_of_the_published_video_recipes_are_neither_scaled_nor_mirrored():
    images, labels = blocks(5, 6, 3)
    for name in ("camvid_video", "cityscapes_video"):
        recipe = recipes.load(name).settings
        for seed in range(8):
            found, classes = augmented(images, labels, recipe, np.random.default_rng(seed))
            rows, columns = (classes[0] != VOID).any(1).nonzero(), (classes[0] != VOID).any(0).nonzero()
            window = (..., slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            assert torch.equal(found[window], images)
            assert torch.equal(classes[window], labels)


def test_one_batch_is_the_same_from_every_start_and_by_every_number_of_workers():
    data, recipe = noise(7, lengths=[4, 3]), static_recipe(batch_size=3)
    every = list(batches(data, data.sequences(), recipe, 5, range(6), loaders=0))
    assert every[0][0].shape == (3, 3, 3, 32, 32)
    assert every[0][1].shape == (3, 3, 32, 32)
    later = list(batches(data, data.sequences(), recipe, 5, range(4, 6), loaders=0))
    beside = list(batches(data, data.sequences(), recipe, 5, range(6), loaders=2))
    for got, expected in zip([*later, *beside], [*every[4:], *every], strict=True):
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])
    other = next(batches(data, data.sequences(), recipe, 6, range(6), loaders=0))
    assert not torch.equal(other[0], every[0][0])


def test_every_item_occurs_once_a_pass_each_time_in_another_order():
    count = 7
    numbers = torch.arange(count, dtype=torch.uint8)[:, None, None].expand(-1, 32, 32)
    data = Memory(numbers[:, None].expand(-1, 3, -1, -1), numbers, [count])
    frames = np.flatnonzero(data.annotated)[:, None]
    recipe = static_recipe(batch_size=3)
    assert (steps_in(3, count, 3), steps_in(1, count, 3), steps_in(0, count, 3)) == (7, 3, 0)
    drawn = [
        int(labels[labels != VOID].unique())
        for _, batch in batches(data, frames, recipe, 0, range(7), loaders=0)
        for labels in batch
    ]
    passes = [tuple(drawn[start : start + count]) for start in range(0, 21, count)]
    assert all(sorted(one) == list(range(count)) for one in passes)
    assert len(set(passes)) == 3


def test_a_frame_without_labels_is_void():
    data = noise(3, annotated=[False, True, True])
    (images, labels), *_ = batches(data, data.sequences(), static_recipe(batch_size=1), 0, range(1), loaders=0)
    assert images.float().std() > 40
    assert (labels[0, 0] == VOID).all()
    assert (labels[0, 1] != VOID).any()
