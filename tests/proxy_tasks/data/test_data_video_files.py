"""Clips from frame numbers, the two layouts on disk, and each kind of bad input with its message."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from trees import write_camvid, write_cityscapes

from proxy_tasks.data.video import open_video
from proxy_tasks.data.video.base import VOID, VideoDataset
from proxy_tasks.data.video.files import Frame, find_clips
from search_spaces import InputError


def frames(*numbers, recording="A"):
    return [Frame(recording, number, f"{recording}_{number}", Path(), None) for number in numbers]


def clips(*numbers):
    found = frames(*numbers)
    return [[found[position].number for position in clip] for clip in find_clips(found)]


def test_a_gap_ends_a_clip():
    assert clips(30, 60, 90, 150, 180) == [[30, 60, 90], [150, 180]]
    assert clips(0, 1, 2, 4, 5) == [[0, 1, 2], [4, 5]]


def test_the_step_is_the_usual_one_of_its_recording():
    assert clips(7959, 7961, 7963) == [[7959, 7961, 7963]]
    assert clips(840, 870, 901, 930, 960) == [[840, 870, 901, 930, 960]]  # CamVid counts one frame late once
    both = frames(30, 60, 90) + frames(2, 4, 6, recording="B")
    assert find_clips(both) == ((0, 1, 2), (3, 4, 5))


def test_a_frame_on_its_own():
    assert clips(5) == [[5]]
    assert find_clips(()) == ()


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 60)), unique=True, max_size=30),
    st.integers(2, 5),
    st.booleans(),
)
def test_windows_by_a_slow_definition(places, length, single):
    """A window is a sequence if each of its steps is the usual one; written over all windows of sorted frames."""
    found = sorted(frame for recording, number in places for frame in frames(number, recording=recording))
    usual = {}
    for recording in "AB":
        numbers = [frame.number for frame in found if frame.recording == recording]
        steps = sorted(later - earlier for earlier, later in pairwise(numbers))
        usual[recording] = max(steps, key=steps.count, default=None)  # the first, so the smallest, of several
    annotated = np.array([frame.number % 3 > 0 for frame in found], bool)
    expected = []
    for start in range(len(found) - length + 1):
        window = found[start : start + length]
        pairs = list(pairwise(window))
        learned = annotated[start + length - 1 if single else start + 1 : start + length]
        if any(a.recording != b.recording for a, b in pairs) or not learned.all():
            continue
        step = usual[window[0].recording]
        if all(step - step // 10 <= b.number - a.number <= step + step // 10 for a, b in pairs):
            expected.append(list(range(start, start + length)))

    class Tree:
        sequence_length, clips, sparse = length, find_clips(found), single

    Tree.annotated = annotated
    assert VideoDataset.sequences(Tree).tolist() == expected


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_camvid_images_of_either_kind(tmp_path, suffix):
    dataset = open_video(write_camvid(tmp_path, suffix=suffix))
    (tmp_path / "train" / "Thumbs.db").write_text("no frame")
    (tmp_path / "trainannot" / "._0001TP_006690.png").write_text("no frame")
    assert dataset.fingerprint == open_video(tmp_path).fingerprint
    assert dataset.describe() == "CamVid, 8 frames in 2 clips, 11 classes"
    assert dataset.clips == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert [dataset.name(frame) for frame in (0, 3, 4)] == ["0001TP_006690", "0001TP_006780", "0006R0_f00930"]
    assert dataset.size(0) == (64, 96)


def test_a_palette_does_not_change_the_labels(tmp_path):
    before = open_video(write_camvid(tmp_path)).labels(0)
    path = tmp_path / "trainannot" / "0001TP_006690.png"
    with Image.open(path) as image:
        coloured = Image.fromarray(np.array(image))
    coloured.putpalette(list(range(255, -1, -1)) * 3)
    assert coloured.mode == "P"
    coloured.save(path)
    assert (open_video(tmp_path).labels(0) == before).all()


LABELS = {
    "camvid": "trainannot/0001TP_006720.png",
    "cityscapes": "gtFine/train/aachen/aachen_000001_000019_gtFine_labelIds.png",
}
IMAGES = {
    "camvid": "train/0001TP_006720.png",
    "cityscapes": "leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png",
}


@pytest.fixture(params=["camvid", "cityscapes"])
def tree(request, tmp_path):
    """A good tree, with the paths of one image and its label file."""
    root = {"camvid": write_camvid, "cityscapes": write_cityscapes}[request.param](tmp_path / "tree")
    return root, root / IMAGES[request.param], root / LABELS[request.param]


def assert_refused(root, message):
    with pytest.raises(InputError, match=message) as caught:
        open_video(root)
    assert "\n" not in str(caught.value)


def test_a_label_file_is_missing(tree):
    root, image, labels = tree
    labels.unlink()
    assert_refused(root, rf"the image {image} has no label file {labels}$")


def test_an_image_is_missing(tree):
    root, image, labels = tree
    image.unlink()
    assert_refused(root, rf"the label file {labels} has no image")


def test_image_and_labels_of_different_sizes(tree):
    root, image, labels = tree
    Image.new("L", (95, 64)).save(labels)
    assert_refused(root, rf"{labels} has 95 x 64 pixels, its image {image} has 96 x 64$")


def test_a_clip_of_different_sizes(tree):
    root, image, labels = tree
    Image.new("RGB", (64, 64)).save(image)
    Image.new("L", (64, 64)).save(labels)
    assert_refused(root, rf"{image} has 64 x 64 pixels, .* of the same clip has 96 x 64$")


@pytest.mark.parametrize("what", ["image", "label file"])
def test_no_image_at_all(tree, what):
    root, *paths = tree
    path = paths[what == "label file"]
    path.write_bytes(b"no image at all")
    assert_refused(root, rf"the {what} {path} cannot be read: cannot identify")


@pytest.mark.parametrize("what", ["image", "label file"])
def test_a_truncated_file(tree, what):
    root, *paths = tree
    path = paths[what == "label file"]
    path.write_bytes(path.read_bytes()[:-30])
    assert_refused(root, rf"the {what} {path} is truncated; copy or download it again$")


def test_a_truncated_jpeg(tmp_path):
    image = write_camvid(tmp_path, suffix=".jpg") / "train" / "0001TP_006720.jpg"
    image.write_bytes(image.read_bytes()[:-400])
    assert_refused(tmp_path, rf"the image {image} cannot be decoded: .*truncated")


def test_a_damaged_file(tree):
    root, image, _ = tree
    content = bytearray(image.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    image.write_bytes(content)
    with pytest.raises(InputError, match=rf"the image {image} cannot be decoded"):
        open_video(root).verify()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16", "1", "LA"])
def test_labels_in_colour_or_of_other_depths(tree, mode):
    root, _, labels = tree
    Image.new(mode, (96, 64)).save(labels)
    assert_refused(
        root, rf"{labels} has pixels of mode {mode}; labels are class numbers .*\(mode L or P\), not colours$"
    )


def test_images_of_sixteen_bits(tree):
    root, image, _ = tree
    Image.new("I;16", (96, 64)).save(image)
    assert_refused(root, rf"{image} has pixels of mode I;16; 8 bits a channel are read$")


@pytest.mark.parametrize("tree", ["camvid"], indirect=True)
@pytest.mark.parametrize("value", [12, 200, 254, 255])
def test_label_values_outside_the_classes_of_camvid(tree, value):
    root, _, labels = tree
    _set_pixel(labels, value)
    assert_refused(root, rf"{labels}: the pixel x 17, y 40 has the value {value}; a label is one of 0 to 11$")


@pytest.mark.parametrize("tree", ["cityscapes"], indirect=True)
def test_label_values_outside_the_ids_of_cityscapes(tree):
    root, _, labels = tree
    _set_pixel(labels, 255)  # the licence plate's id, -1
    assert open_video(root).labels(3)[40, 17] == VOID
    for value in (34, 254):
        _set_pixel(labels, value)
        with pytest.raises(InputError, match=rf"x 17, y 40 has the value {value}; a label is one of 0 to 33, 255$"):
            open_video(root).verify()


def _set_pixel(path, value):
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[40, 17] = value
    Image.fromarray(pixels).save(path)


def test_a_sequence_too_short(tmp_path):
    write_camvid(tmp_path, n=4)
    assert_refused(
        tmp_path,
        r"its train set has no run of 3 consecutive frames, which a sequence needs \(setting 'sequence_length'\); the "
        r"longest is of 2$",
    )
    for folder, suffix in (("train", ".png"), ("trainannot", ".png")):  # 6690, 6720, 6810, 6840
        for number in (6810, 6840):
            (tmp_path / folder / f"0001TP_00{number}{suffix}").write_bytes(
                (tmp_path / folder / f"0001TP_006690{suffix}").read_bytes()
            )
    assert_refused(tmp_path, r"the longest is of 2$")


def test_names_that_are_no_frames(tree):
    root, *paths = tree
    for path in paths:
        path.rename(
            path.with_name(path.name.replace("aachen_000001_000019", "holiday").replace("0001TP_006720", "holiday"))
        )
    assert_refused(root, r"a frame is called \w+, as \w+, got 'holiday'$")


def test_one_camvid_frame_twice(tmp_path):
    write_camvid(tmp_path, suffix=".jpg")
    path = tmp_path / "train" / "0001TP_006690.jpg"
    path.with_suffix(".png").write_bytes(path.read_bytes())
    assert_refused(tmp_path, r"006690.png and .*006690.jpg are the same frame; a frame has one file$")
    path.with_suffix(".png").unlink()
    for folder, suffix in (("train", ".jpg"), ("trainannot", ".png")):
        same = tmp_path / folder / f"0001TP_006690{suffix}"
        same.with_name(f"0001TP_f6690{suffix}").write_bytes(same.read_bytes())
    assert_refused(tmp_path, r"are the same frame; a frame has one image$")


def test_a_camvid_folder_is_missing(tmp_path):
    write_camvid(tmp_path)
    (tmp_path / "val").rename(tmp_path / "validation")
    with pytest.raises(InputError, match=r"there is no folder .*val; a subset of CamVid has one of images"):
        open_video(tmp_path, "val")


def test_without_sequences_a_run_of_frames_may_be_too_short_for_one(tmp_path):
    write_camvid(tmp_path, n=4)
    assert len(open_video(tmp_path, sequences=False)) == 4
    assert_refused(tmp_path, r"no run of 3 consecutive frames")
