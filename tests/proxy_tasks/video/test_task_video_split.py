"""Meta-train and meta-val against slow definitions of them, and the datasets that they are."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from video_sets import Noise

from proxy_tasks.data.video.part import Part
from proxy_tasks.video.split import split

CAMVID = [62, 101, 68, 120, 16]  # the clips of its training set


@st.composite
def video_sets(draw):
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=8))
    labelled = draw(st.lists(st.booleans() | st.just(True), min_size=sum(lengths), max_size=sum(lengths)))
    return Noise(lengths, draw(st.integers(2, 4)), labelled=labelled)


def sequences(part):
    """A part's sequences, in the numbers of the whole."""
    return [tuple(part.numbers[row].tolist()) for row in part.sequences()]


@settings(deadline=None)
@given(video_sets(), st.integers(0, 50))
def test_the_split_shares_no_frame_and_loses_no_other_sequence(data, seed):
    every = [tuple(sequence) for sequence in data.sequences().tolist()]
    meta_train, meta_val = split(data, seed)
    held_out = set(meta_val.numbers.tolist())
    assert sorted([*meta_train.numbers.tolist(), *held_out]) == list(range(len(data)))
    assert sequences(meta_val) == [sequence for sequence in every if set(sequence) <= held_out]
    assert sequences(meta_train) == [sequence for sequence in every if not set(sequence) & held_out]
    assert bool(sequences(meta_val)) == bool(every)
    assert [part.fingerprint for part in split(data, seed)] == [meta_train.fingerprint, meta_val.fingerprint]


@settings(deadline=None)
@given(video_sets(), st.integers(0, 50))
def test_meta_val_is_a_block_of_a_clip_with_a_sequence_in_it(data, seed):
    held_out = set(split(data, seed)[1].numbers.tolist())
    for clip in data.clips:
        block = [frame for frame in clip if frame in held_out]
        if block:
            assert block == list(range(block[0], block[-1] + 1))
            assert len(block) == min(len(clip), max(2 * data.sequence_length, round(len(clip) / 10)))
            assert any(set(sequence) <= set(block) for sequence in data.sequences().tolist())


@pytest.mark.parametrize("seed", range(8))
def test_meta_val_of_camvid_has_every_window_of_a_tenth_of_each_clip(seed):
    """A tenth of windows that share no frame, which it once was, scores 24 frames."""
    meta_val = split(Noise(CAMVID), seed)[1]
    assert [len(clip) for clip in meta_val.clips] == [6, 10, 7, 12, 6]
    assert meta_val.sequences()[:, 1:].size == 2 * (4 + 8 + 5 + 10 + 4) == 62


@pytest.mark.parametrize("lengths", [[2] * 50, [40, 2, 2, 80], [6] * 48, CAMVID])
def test_meta_val_is_about_a_tenth_of_the_frames(lengths):
    for seed in range(5):
        meta_val = split(Noise(lengths, 2), seed)[1]
        assert 0.1 * sum(lengths) <= len(meta_val) <= 0.1 * sum(lengths) + 8


def test_every_frame_is_held_out_by_some_seed():
    data = Noise([30, 6, 3, 9])
    found = {int(frame) for seed in range(150) for frame in split(data, seed)[1].numbers}
    assert found == set(range(48))


def test_another_seed_is_another_split():
    prints = [part.fingerprint for seed in range(4) for part in split(Noise(CAMVID), seed)]
    assert len(set(prints)) == 8


def test_a_part_is_the_whole_but_for_what_is_left_out():
    whole = Noise([4, 3], sizes=[(8, 9), (6, 5)], labelled=[True, True, False, True, True, False, True])
    part = Part(whole, [6, 0, 1, 3, 5])
    assert part.numbers.tolist() == [0, 1, 3, 5, 6]
    assert part.clips == ((0, 1), (2,), (3, 4))
    assert part.annotated.tolist() == [True, True, True, False, True]
    assert (part.layout, part.root, part.classes, part.palette) == (
        whole.layout,
        "in memory",
        whole.classes,
        whole.palette,
    )
    for index, number in enumerate(part.numbers.tolist()):
        assert (part.name(index), part.size(index)) == (whole.name(number), whole.size(number))
        assert torch.equal(part.image(index), whole.image(number))
    assert torch.equal(part.labels(4), whole.labels(6))
    assert Part(whole, range(7)).clips == whole.clips
    prints = {Part(whole, np.array(numbers)).fingerprint for numbers in itertools.combinations(range(7), 3)}
    assert len(prints) == 35
