"""One suite that every reader of video passes, and what `open_video` recognises and refuses."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from trees import STREET, write_camvid, write_cityscapes, write_frames, write_voc

from proxy_tasks.data.video import VIDEO_DATASETS, open_video
from proxy_tasks.data.video.base import VIDEO_SUBSETS, VOID
from proxy_tasks.data.video.moving_shapes import MovingShapes
from search_spaces import InputError

TREES = {"camvid": write_camvid, "cityscapes": write_cityscapes, "frames": write_frames}
READERS = (*TREES, "shapes")
LABELS = {"camvid": "trainannot", "cityscapes": "gtFine/train/aachen", "frames": "labels/train/morning"}


@pytest.fixture
def opened(tmp_path):
    def make(name, subset="train"):
        if name == "shapes":
            return MovingShapes(subset, count=3, length=4, size=64)
        return open_video(TREES[name](tmp_path / name), subset)

    return make


def test_every_registered_layout_has_a_tree_here():
    assert set(VIDEO_DATASETS.names()) == set(TREES)


@pytest.mark.parametrize("subset", VIDEO_SUBSETS)
@pytest.mark.parametrize("name", READERS)
def test_frames(opened, name, subset):
    dataset = opened(name, subset)
    frames = range(len(dataset))
    assert len(dataset) > 0
    assert len({dataset.name(frame) for frame in frames}) == len(dataset)
    assert dataset.annotated.dtype == bool
    assert dataset.annotated.shape == (len(dataset),)
    for frame in frames:
        image, size = dataset.image(frame), dataset.size(frame)
        assert (image.dtype, image.shape) == (torch.uint8, (3, *size))
        assert image.is_contiguous()
    for frame in np.flatnonzero(dataset.annotated):
        labels = dataset.labels(frame)
        assert (labels.dtype, labels.shape) == (torch.uint8, dataset.size(frame))
        assert ((labels < len(dataset.classes)) | (labels == VOID)).all()


@pytest.mark.parametrize("subset", VIDEO_SUBSETS)
@pytest.mark.parametrize("name", READERS)
def test_clips_and_sequences(opened, name, subset):
    dataset = opened(name, subset)
    assert [frame for clip in dataset.clips for frame in clip] == list(range(len(dataset)))
    sequences = dataset.sequences()
    assert sequences.dtype == np.int64
    assert sequences.shape[1:] == (dataset.sequence_length,)
    assert len(sequences) > 0
    for window in sequences:
        assert any(set(window) <= set(clip) for clip in dataset.clips)
        assert (np.diff(window) == 1).all()
        assert dataset.annotated[window[1:]].all()


@pytest.mark.parametrize("name", READERS)
def test_what_it_says_of_itself(opened, name):
    train, val = opened(name), opened(name, "val")
    assert train.describe().startswith(f"{train.layout}, {len(train)} frames ")
    assert f" in {len(train.clips)} clips, {len(train.classes)} classes" in train.describe()
    assert isinstance(train.root, str)
    assert train.classes == val.classes
    assert len(train.palette) == len(set(train.palette)) == len(set(train.classes)) == len(train.classes)
    assert np.shape(train.palette) == (len(train.classes), 3)
    assert 0 <= np.min(train.palette) <= np.max(train.palette) <= 255
    assert int(train.fingerprint, 16) != int(val.fingerprint, 16)


@pytest.mark.parametrize("name", READERS)
def test_the_same_frame_again(opened, name):
    dataset = opened(name)
    number = int(np.flatnonzero(dataset.annotated)[0])
    image, labels = dataset.image(number).clone(), dataset.labels(number).clone()
    dataset.image(number).add_(7)  # a caller may change what it was given
    dataset.labels(number).fill_(VOID)
    copy = pickle.loads(pickle.dumps(dataset))
    for again in (dataset, copy, opened(name)):
        assert torch.equal(again.image(number), image)
        assert torch.equal(again.labels(number), labels)
        assert again.fingerprint == dataset.fingerprint


@pytest.mark.parametrize("name", READERS)
def test_index_out_of_range(opened, name):
    dataset = opened(name)
    for read in (dataset.name, dataset.size, dataset.image, dataset.labels):
        with pytest.raises(IndexError):
            read(len(dataset))
    assert dataset.name(-1) == dataset.name(len(dataset) - 1)


@pytest.mark.parametrize("name", READERS)
def test_good_files_verify(opened, name):
    assert opened(name).verify() is None


@pytest.mark.parametrize("name", TREES)
def test_labels_and_pictures_agree(opened, name):
    """The trees paint each class in a colour of its own, so mapping, pairing and RGB order are seen in the image."""
    dataset = opened(name)
    for frame in np.flatnonzero(dataset.annotated):
        image, labels = dataset.image(frame), dataset.labels(frame)
        for known, colour in STREET.items():
            pixels = image[:, labels == dataset.classes.index(known)].float()
            assert pixels.shape[1] > 50
            assert torch.allclose(pixels.mean(1), torch.tensor(colour).float(), atol=4)  # noise below 0 is cut off
        assert (labels[:, 0] == VOID).all()
        assert (labels[:, 1:] != VOID).all()


@pytest.mark.parametrize("name", TREES)
def test_fingerprint_follows_the_data_not_the_place(tmp_path, name):
    root = TREES[name](tmp_path / "here")
    before = open_video(root).fingerprint
    moved = tmp_path / "a" / "there"
    shutil.copytree(root, moved)
    assert open_video(moved).fingerprint == before
    label_file = sorted((moved / LABELS[name]).glob("*[0-9s].png"))[0]
    with Image.open(label_file) as image:
        labels = np.array(image)
    labels[10, 10] = 8
    Image.fromarray(labels).save(label_file)
    assert open_video(moved).fingerprint != before


@pytest.mark.parametrize("name", TREES)
def test_fingerprint_follows_images_and_frames(tmp_path, name):
    root = TREES[name](tmp_path / "tree")
    prints = {open_video(root).fingerprint, open_video(TREES[name](tmp_path / "longer", n=10)).fingerprint}
    folder = {"camvid": "train", "cityscapes": "leftImg8bit_sequence/train", "frames": "images/train"}[name]
    with sorted((root / folder).rglob("*.png"))[0].open("ab") as image:
        image.write(b"\0")
    prints.add(open_video(root).fingerprint)
    assert len(prints) == 3


@pytest.mark.parametrize("name", READERS)
def test_unknown_subset(opened, name):
    with pytest.raises(InputError, match=r"the subsets train, val, test, got 'trainval'$"):
        opened(name, "trainval")


@pytest.mark.parametrize("name", TREES)
def test_no_images(tmp_path, name):
    root = TREES[name](tmp_path / "tree", n=4, n_test=2 if name == "cityscapes" else 3)
    for path in root.rglob("*.png"):
        if "train" in path.relative_to(root).as_posix():
            path.unlink()
    with pytest.raises(InputError, match=r"its train set has no images; a dataset needs at least one"):
        open_video(root)
    assert len(open_video(root, "val")) > 0


def test_nothing_given_opens_the_built_in_set():
    assert open_video(None).describe() == MovingShapes().describe()
    assert open_video(None, "val").fingerprint == MovingShapes("val").fingerprint


def test_paths_without_a_video(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*nowhere; a dataset's path"):
        open_video(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"file is not a folder; a dataset's path"):
        open_video(tmp_path / "file")
    write_voc(tmp_path)
    with pytest.raises(InputError, match=r"no known video layout; looked for CamVid \(.*\); or Cityscapes \(.*\)$"):
        open_video(tmp_path)


def test_two_layouts_in_one_folder(tmp_path):
    write_cityscapes(write_camvid(tmp_path))
    with pytest.raises(InputError, match=r"more than one video layout, CamVid and Cityscapes; give each"):
        open_video(tmp_path)
