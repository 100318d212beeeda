"""Cityscapes: the official label mapping, its clips of two frames, and packages that are missing."""

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import Cityscapes as Official
from trees import write_cityscapes

from proxy_tasks.data.video import open_video
from proxy_tasks.data.video.base import VOID
from proxy_tasks.data.video.cityscapes import Cityscapes
from proxy_tasks.data.video.files import INVALID
from proxy_tasks.data.video.part import Part
from search_spaces import InputError


def assert_refused(root, message):
    with pytest.raises(InputError, match=message) as caught:
        open_video(root)
    assert "\n" not in str(caught.value)


def test_the_label_mapping_is_the_official_one():
    official = [entry for entry in Official.classes if not entry.ignore_in_eval]
    kept = sorted(official, key=lambda entry: entry.train_id)
    assert Cityscapes.classes == tuple(entry.name for entry in kept)
    assert Cityscapes.palette == tuple(entry.color for entry in kept)
    expected = np.full(256, INVALID)
    for entry in Official.classes:
        expected[entry.id % 256] = VOID if entry.ignore_in_eval else entry.train_id
    assert np.array_equal(Cityscapes.label_map, expected)


def test_cityscapes_frames_and_clips(tmp_path):
    dataset = open_video(write_cityscapes(tmp_path))
    assert [dataset.name(frame) for frame in range(4)] == [
        "aachen_000000_000018",
        "aachen_000000_000019",
        "aachen_000001_000018",
        "aachen_000001_000019",
    ]
    assert dataset.annotated.tolist() == [False, True] * 4
    assert dataset.sequences().tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    with pytest.raises(ValueError, match=r"frame aachen_000000_000018 has no labels"):
        dataset.labels(0)


def test_the_test_set_of_cityscapes_is_val(tmp_path):
    write_cityscapes(tmp_path)
    val, test = open_video(tmp_path, "val"), open_video(tmp_path, "test")
    assert [val.name(frame) for frame in range(len(val))] == [test.name(frame) for frame in range(len(test))]


def test_neighbouring_annotated_frames_of_cityscapes(tmp_path):
    write_cityscapes(tmp_path, n=1)
    for package, end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        folder = tmp_path / package / "train/aachen"
        (folder / f"aachen_000000_000020_{end}.png").write_bytes(
            (folder / f"aachen_000000_000019_{end}.png").read_bytes()
        )
    dataset = open_video(tmp_path)
    assert dataset.annotated.tolist() == [False, True, True]
    assert dataset.sequences().tolist() == [[0, 1], [1, 2]]


def longer(root, first):
    """Gives every snippet its frames from number ``first`` on, in other shades each."""
    for path in sorted((root / "leftImg8bit_sequence").rglob("*_000018_leftImg8bit.png")):
        for number in range(first, 18):
            with Image.open(path) as image:
                image.point(lambda value, number=number: value * number // 18).save(
                    path.with_name(path.name.replace("_000018_", f"_{number:06d}_"))
                )
    return root


def test_longer_sequences_end_in_the_annotated_frame(tmp_path):
    longer(write_cityscapes(tmp_path), 15)
    usual, dataset = open_video(tmp_path), open_video(tmp_path, sequence_length=4)
    assert [dataset.name(frame) for frame in range(4)] == [f"aachen_000000_0000{n}" for n in (16, 17, 18, 19)]
    assert dataset.annotated.tolist() == [False, False, False, True] * 4
    assert dataset.sequences().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert Part(dataset, range(2, 12)).sequences().tolist() == [[2, 3, 4, 5], [6, 7, 8, 9]]
    assert dataset.fingerprint != usual.fingerprint
    gone = tmp_path / "leftImg8bit_sequence/train/aachen/aachen_000000_000014_leftImg8bit.png"
    with pytest.raises(InputError, match=rf"the frame 5 before .*_000019_.* is missing, {gone}; .*'sequence_length'$"):
        open_video(tmp_path, sequence_length=6)


@pytest.mark.parametrize("package", ["leftImg8bit", "gtFine", "leftImg8bit_sequence"])
def test_a_cityscapes_package_is_missing(tmp_path, package):
    write_cityscapes(tmp_path)
    (tmp_path / package).rename(tmp_path / "elsewhere")
    assert_refused(
        tmp_path, rf"there is no folder .*{package}/train; download Cityscapes' package {package}_trainvaltest$"
    )


def test_a_sequence_frame_is_missing(tmp_path):
    write_cityscapes(tmp_path)
    before = tmp_path / "leftImg8bit_sequence/train/bochum/bochum_000001_000018_leftImg8bit.png"
    before.unlink()
    assert_refused(
        tmp_path,
        rf"the frame before .*bochum_000001_000019_leftImg8bit.png is missing, {before}; download .* package "
        r"leftImg8bit_sequence_trainvaltest$",
    )


def test_without_sequences_cityscapes_needs_no_package_of_sequences(tmp_path):
    write_cityscapes(tmp_path)
    whole = open_video(tmp_path)
    (tmp_path / "leftImg8bit_sequence").rename(tmp_path / "elsewhere")
    for subset in ("train", "val", "test"):
        dataset = open_video(tmp_path, subset, sequences=False)
        assert dataset.annotated.all()
        dataset.verify()
    dataset = open_video(tmp_path, sequences=False)
    assert [dataset.name(frame) for frame in range(len(dataset))] == [
        whole.name(frame) for frame in np.flatnonzero(whole.annotated)
    ]
    assert dataset.fingerprint != whole.fingerprint
    assert_refused(
        tmp_path, r"leftImg8bit_sequence/train; download Cityscapes' package leftImg8bit_sequence_trainvaltest$"
    )
