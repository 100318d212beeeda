"""Sequences of any length: searches on them, the default, and data that have none."""

import numpy as np
import pytest
import trees
from video_sets import TINY

import proxy_tasks
import search_spaces
from experiments import recipes
from proxy_tasks import Score, TaskOptions
from search_spaces import InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two clips of twelve frames."""
    return trees.write_camvid(tmp_path_factory.mktemp("length") / "data", n=24, n_test=5, size=(56, 40))


def made(root, length):
    changes = {} if length is None else {"sequence_length": length}
    options = TaskOptions(
        data=str(root), cache_dir=str(root.parent / "cache"), overrides={**TINY, "epochs": 1, **changes}
    )
    return proxy_tasks.make("video", search_spaces.get("video_cell"), options)


def scored(root, length):
    """The task and the score of one cell."""
    task = made(root, length)
    task.prepare(lambda *n: None)
    *_, score = task.evaluate(task.space.sample(np.random.default_rng(0)))
    assert isinstance(score, Score)
    return task, score


@pytest.mark.parametrize("length", [2, 4, 5])
def test_a_search_on_sequences_of_another_length(root, length):
    task, score = scored(root, length)
    prepared = task.prepared
    for side in (prepared.meta_train, prepared.meta_val):
        assert side.sequences.shape[1] == length
        assert (np.diff(side.sequences) == 1).all()
    assert len(prepared.meta_val.frames) == 2 * length  # one block of two sequences' length is a tenth of the frames
    per_frame = task.score_reference("static").metrics["loss"] / (length - 1)
    assert score.metrics["loss"] / (length - 1) == pytest.approx(per_frame, rel=0.5)  # a sum over the later frames


def test_the_default_is_three_frames_bit_for_bit(root):
    (task, usual), (_, three) = scored(root, None), scored(root, 3)
    assert usual == three
    assert task.prepared.meta_val.sequences.shape[1] == 3


def test_a_length_that_the_data_do_not_have(root):
    sentence = r"data: its train set has no run of 13 consecutive frames, .*'sequence_length'\); the longest is of 12$"
    with pytest.raises(InputError, match=sentence):
        made(root, 13).open_data()
    with pytest.raises(InputError, match=r"need a sequence of 9 frames each \(setting 'sequence_length'\)"):
        made(trees.write_camvid(root.parent / "one", n=17, size=(56, 40)), 9).prepare(lambda *n: None)


@pytest.mark.parametrize("length", [1, 0, -3])
def test_one_frame_is_no_sequence(root, length):
    sentence = f"setting 'sequence_length' must be at least 2 frames, got {length}"
    with pytest.raises(InputError, match=sentence):
        made(root, length)
    with pytest.raises(InputError, match=sentence):
        recipes.load("camvid_video", {"sequence_length": length})
