"""Folders of frames: classes, recordings, frames without labels, and what is refused."""

import numpy as np
import pytest
from PIL import Image
from trees import write_frames

from proxy_tasks.data import open_video
from proxy_tasks.data.video.frames import colours
from search_spaces import InputError


def test_recordings_are_clips_and_frames_may_lack_labels(tmp_path):
    data = open_video(write_frames(tmp_path / "d", n=8))
    assert data.classes[:4] == ("sky", "building", "road", "car")
    assert [len(clip) for clip in data.clips] == [4, 4]
    assert data.name(0) == "morning-f0000"
    assert data.name(4) == "night-second-f0000"
    assert data.annotated.tolist() == [True, False, True, True] * 2


def test_without_a_test_set_val_is_read(tmp_path):
    root = write_frames(tmp_path / "d", subsets=("train", "val"))
    assert [open_video(root, subset).name(0) for subset in ("val", "test")] == ["noon-f0000"] * 2


def test_frames_in_the_subset_s_own_folder(tmp_path):
    root = write_frames(tmp_path / "d")
    for kind in ("images", "labels"):
        for file in sorted((root / kind / "val" / "noon").iterdir()):
            file.rename(root / kind / "val" / file.name)
    data = open_video(root, "val")
    assert (len(data.clips), data.name(0)) == (1, "f0000")


def test_colours_are_pascal_vocs():
    published = [(128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128), (128, 128, 128)]
    assert list(colours(8)) == [*published, (64, 0, 0)]
    assert len(set(colours(254))) == 254


def rename(place, name):
    return lambda root: (root / place).rename(root / place.rpartition("/")[0] / name)


def paint(root):
    path = root / "labels/train/morning/f0000.png"
    labels = np.array(Image.open(path))
    labels[3, 5] = 77
    Image.fromarray(labels).save(path)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda root: (root / "classes.txt").write_text("car\ncar\n"), "must name each class once, a line each"),
        (lambda root: (root / "classes.txt").write_text("\n"), "must name each class once, a line each"),
        (rename("images/train/morning/f0000.png", "f9000.png"), "the label file .*f0000.png has no image"),
        (rename("images/train/morning/f0005.png", "last.png"), "the name of a frame ends in its number, .*'last'"),
        (rename("images/train", "training"), "its train set has no images"),
        (rename("labels/train/morning/f0000.png", "f0000.jpg"), "must be a PNG: JPEG changes the classes' numbers"),
        (paint, "the pixel x 5, y 3 has the value 77; a label is one of 0 to 9, 255"),
    ],
)
def test_what_is_refused(tmp_path, break_it, sentence):
    root = write_frames(tmp_path / "d")
    break_it(root)
    with pytest.raises(InputError, match=sentence):
        open_video(root).verify()
