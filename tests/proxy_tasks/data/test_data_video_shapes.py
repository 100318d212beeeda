import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import sawtooth

from proxy_tasks.data.images.shapes import INSIDE, Shape
from proxy_tasks.data.video.moving_shapes import Mover, MovingShapes
from search_spaces import InputError


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**40),
    frame=st.integers(0, 11),
    size=st.integers(32, 96),
    subset=st.sampled_from(["train", "val", "test"]),
)
def test_a_frame_depends_on_nothing_else(seed, frame, size, subset):
    dataset = MovingShapes(subset, 3, 4, size, seed)
    longer = MovingShapes(subset, 5, 4, size, seed)
    assert torch.equal(dataset.image(frame), longer.image(frame))
    assert torch.equal(dataset.labels(frame), longer.labels(frame))
    assert dataset.image(frame).shape == (3, size, size)
    assert dataset.labels(frame).max() < 5


def test_labels_are_the_front_most_shape_at_each_pixel():
    dataset = MovingShapes(count=8, size=64)
    for frame in range(0, len(dataset), 5):
        expected = np.zeros((64, 64), int)
        for shape in reversed(dataset.scene(frame).shapes):
            for y, x in np.ndindex(64, 64):
                u, v = (x - shape.x) / shape.radius, (y - shape.y) / shape.radius
                turned = (
                    np.cos(shape.angle) * u + np.sin(shape.angle) * v,
                    np.cos(shape.angle) * v - np.sin(shape.angle) * u,
                )
                if max(abs(u), abs(v)) <= 1 and INSIDE[shape.kind](*turned):
                    expected[y, x] = dataset.classes.index(shape.kind)
        assert (dataset.labels(frame).numpy() != expected).sum() <= 2  # rounding at a border


def test_sets_differ_by_every_argument():
    sets = [MovingShapes(**change) for change in ({}, {"count": 9}, {"length": 5}, {"size": 96}, {"seed": 1})]
    sets += [MovingShapes("val"), MovingShapes("test")]
    assert len({dataset.fingerprint for dataset in sets}) == len(sets)
    train, val, test = sets[0], *sets[-2:]
    assert not torch.equal(train.image(0), val.image(0))
    assert not torch.equal(val.image(0), test.image(0))
    assert not torch.equal(train.image(0), train.image(1))


def test_neighbours_are_alike_and_clips_are_not():
    dataset = MovingShapes()
    labels = torch.stack([dataset.labels(frame) for frame in range(len(dataset))]).unflatten(0, (48, 6))
    neighbours = (labels[:, 1:] == labels[:, :-1]).float().mean((0, 2, 3))
    assert (neighbours > 0.9).all()
    assert (neighbours < 0.99).all()  # yet something moves
    assert (labels[1:] == labels[:-1]).float().mean() < 0.7
    shares = labels.flatten().bincount(minlength=5) / labels.numel()
    assert (shares[1:] > 0.02).all()
    assert shares[0] < 0.85


def test_something_moves_in_every_clip_and_the_ground_too():
    dataset = MovingShapes(count=10)
    for clip in dataset.clips:
        first, last = dataset.labels(clip[0]), dataset.labels(clip[-1])
        assert not torch.equal(first, last)
        ground = dataset.scene(clip[0]).ground.astype(int) - dataset.scene(clip[-1]).ground
        assert abs(ground).max() > 3


@given(start=st.floats(0, 63), speed=st.floats(-20, 20), time=st.integers(0, 50), turn=st.floats(-1, 1))
def test_a_mover_is_thrown_back_at_the_borders(start, speed, time, turn):
    still = Shape("cross", start, 63 - start, 9.0, 0.25, (1.0, 2.0, 3.0))
    moved = Mover(still, (speed, -speed), turn).at(time, 64)
    triangle = 31.5 * (1 + sawtooth(np.pi * (start + time * speed) / 63, width=0.5))
    assert moved.x == pytest.approx(triangle, abs=1e-6)
    assert moved.y == pytest.approx(63 - triangle, abs=1e-6)
    assert moved.angle == pytest.approx(0.25 + time * turn)
    assert (moved.kind, moved.radius, moved.colour) == (still.kind, still.radius, still.colour)


@pytest.mark.parametrize(
    ("argument", "value", "least"), [("count", 0, 1), ("length", 0, 1), ("size", 31, 32), ("seed", -1, 0)]
)
def test_bad_arguments(argument, value, least):
    with pytest.raises(InputError, match=f"{argument} must be at least {least}, got {value}"):
        MovingShapes(**{argument: value})


def test_clips_shorter_than_a_sequence():
    assert MovingShapes(length=5, sequence_length=5).sequences().tolist()[:2] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    sentence = (
        r"^built-in: its train set has no run of {} consecutive frames, .*'sequence_length'.*; the longest is of {}$"
    )
    for options, needed, longest in (({"length": 2}, 3, 2), ({"sequence_length": 7}, 7, 6)):
        with pytest.raises(InputError, match=sentence.format(needed, longest)):
            MovingShapes(**options)
