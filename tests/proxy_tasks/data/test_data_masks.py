"""Masks: what readers give where they are asked to, against pycocotools and the files themselves."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO as Reference
from trees import write_coco, write_instances, write_voc

from proxy_tasks.data import open_dataset
from proxy_tasks.data.images import masks as mask_module
from proxy_tasks.data.images.masks import Runs, coco_mask
from search_spaces import InputError

HEIGHT, WIDTH = 64, 96
FILE = "annotations/instances_train2017.json"


def runs_of(mask):
    """The runs of a mask, counted pixel by pixel down the columns."""
    runs, value = [0], 0
    for pixel in mask.T.reshape(-1).tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def blob(seed):
    rng = np.random.default_rng(seed)
    return (rng.random((HEIGHT, WIDTH)) < rng.choice([0.02, 0.5, 0.98])).astype(np.uint8)


def with_segmentations(root, segmentations):
    """The tree with the first annotations' masks replaced."""
    path = root / FILE
    content = json.loads(path.read_text())
    for item, segmentation in zip(content["annotations"], segmentations, strict=False):
        item["segmentation"] = segmentation
    path.write_text(json.dumps(content))
    return root


def test_polygons_runs_and_compressed_runs_equal_pycocotools(tmp_path):
    mask = blob(1)
    compressed = coco_masks.encode(np.asfortranarray(mask))
    segmentations = [
        {"size": [HEIGHT, WIDTH], "counts": runs_of(mask)},
        {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()},
        [[3.5, 2, 60.25, 8, 33, 50], [0, 0, 20, 0, 20, 63.5, 0, 63.5]],
    ]
    root = with_segmentations(write_coco(tmp_path), segmentations)
    ours, theirs = open_dataset(root, masks=True), Reference(root / FILE)
    seen = 0
    for _, target in ours:
        things = theirs.loadAnns(theirs.getAnnIds(imgIds=target["image_id"]))
        expected = [theirs.annToMask(thing) for thing in things]
        assert target["masks"].dtype == torch.uint8
        assert target["masks"].shape == (len(things), HEIGHT, WIDTH)
        assert all(np.array_equal(one, other) for one, other in zip(target["masks"].numpy(), expected, strict=True))
        seen += len(things)
    assert seen > len(segmentations)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=12))
def test_compressed_runs_are_expanded_as_pycocotools_compressed_them(runs):
    height = sum(runs)
    packed = coco_masks.frPyObjects({"size": [height, 1], "counts": runs}, height, 1)
    read = coco_mask({"size": [height, 1], "counts": packed["counts"].decode()}) if height else None
    if read is not None:
        assert read.counts.tolist() == runs
        assert read.fault((1, height)) == ""
        assert np.array_equal(read.decode((1, height)), coco_masks.decode(packed))


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=160), max_size=30))
def test_no_text_of_runs_is_decoded_that_does_not_fill_its_image(text):
    read = coco_mask({"size": [HEIGHT, WIDTH], "counts": text})
    if read is not None and not read.fault((WIDTH, HEIGHT)):
        assert read.counts.sum() == HEIGHT * WIDTH
        assert read.decode((WIDTH, HEIGHT)).shape == (HEIGHT, WIDTH)


SHORT = "a list of polygons, or an object with size and counts"
BAD = {
    "two points": ([[1, 1, 5, 5]], r"its mask has a polygon of 4 numbers, x and y of at least 3 points are needed"),
    "odd numbers": ([[1, 1, 5, 5, 9, 9, 3]], r"its mask has a polygon of 7 numbers"),
    "no polygon": ([], r"its mask has no polygon"),
    "outside": ([[1, 1, 99, 5, 50, 9]], r"its mask has a polygon outside its image of 96 x 64 pixels"),
    "above": ([[1, -3, 9, 5, 5, 9]], r"its mask has a polygon outside its image of 96 x 64 pixels"),
    "other size": ({"size": [96, 64], "counts": [96 * 64]}, r"its mask is of 64 x 96 pixels, its image of 96 x 64"),
    "too short": ({"size": [64, 96], "counts": [5, 6]}, r"its mask has runs of 11 pixels in all, its image has 6144"),
    "negative": ({"size": [64, 96], "counts": [-6, 6150]}, r"its mask has runs of 6144 pixels in all"),
    "text": ("abc", SHORT),
    "names": ([["a"] * 6], SHORT),
    "not a number": ([[float("nan")] * 6], SHORT),
    "no counts": ({"size": [64, 96]}, SHORT),
    "bad text": ({"size": [64, 96], "counts": "\u00e4"}, SHORT),
    "cut text": ({"size": [64, 96], "counts": "a"}, SHORT),
    "huge": ({"size": [64, 96], "counts": [10**30]}, SHORT),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_masks_are_told_in_one_sentence(tmp_path, case):
    segmentation, message = BAD[case]
    root = with_segmentations(write_coco(tmp_path), [segmentation])
    with pytest.raises(InputError, match=rf"annotations\[0\].*{message}") as error:
        open_dataset(root, masks=True)
    assert "\n" not in str(error.value)
    open_dataset(root)  # detection does not look at masks
    if message is not SHORT:
        with pytest.warns(UserWarning, match=r"dropped 1 bad boxes or masks; the first: .* its mask "):
            dataset = open_dataset(root, skip_bad_boxes=True, masks=True)
        assert all(len(target["masks"]) == len(target["boxes"]) for _, target in dataset)


def test_a_file_without_segmentations(tmp_path):
    root = write_coco(tmp_path)
    content = json.loads((root / FILE).read_text())
    del content["annotations"][0]["segmentation"]
    (root / FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"annotations\[0\] has no key 'segmentation', from which its mask would be"):
        open_dataset(root, masks=True)
    assert len(open_dataset(root)) == 6


def test_a_layout_without_masks(tmp_path):
    root = write_voc(tmp_path)
    with pytest.raises(InputError, match=r"masks are not read from the layout Pascal VOC; COCO and Cityscapes have"):
        open_dataset(root, masks=True)


def test_detection_pays_nothing(tmp_path, monkeypatch):
    """Nothing of a mask is parsed, kept or decoded, and what data are called does not change."""
    root = write_coco(tmp_path)
    masks = open_dataset(root, masks=True)

    def refuse(*arguments):
        raise AssertionError("a mask was read")

    monkeypatch.setattr("proxy_tasks.data.images.coco.coco_mask", refuse)
    for name in ("Polygons", "Runs"):
        monkeypatch.setattr(mask_module, name, refuse)
    plain = open_dataset(root)
    assert "masks" not in plain[0][1]
    assert masks.fingerprint != plain.fingerprint
    assert not any(record.masks for record in plain._records)


def test_the_fingerprint_follows_the_masks(tmp_path):
    root = write_coco(tmp_path)
    before = [open_dataset(root, masks=one).fingerprint for one in (False, True)]
    with_segmentations(root, [[[1, 1, 9, 1, 9, 9]]])
    after = [open_dataset(root, masks=one).fingerprint for one in (False, True)]
    assert before[0] == after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("subset", ["train", "test"])
def test_cityscapes_instances_are_those_of_the_file(tmp_path, subset):
    root = write_instances(tmp_path)
    dataset = open_dataset(root, subset, masks=True)
    files = sorted((root / "gtFine" / {"train": "train", "test": "val"}[subset]).rglob("*_instanceIds.png"))
    groups = 0
    for file, (_, target) in zip(files, dataset, strict=True):
        ids = np.array(Image.open(file))
        expected = [value for value in sorted(set(ids.reshape(-1).tolist())) if value >= 24000 or value == 26]
        assert len(expected) == len(target["labels"])
        for number, value in enumerate(expected):
            rows, columns = np.nonzero(ids == value)
            assert np.array_equal(target["masks"][number].numpy(), ids == value)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert target["boxes"][number].tolist() == box
            assert int(target["area"][number]) == len(rows)
            name = dataset.classes[target["labels"][number]]
            assert name == {24: "person", 25: "rider", 26: "car"}[value // 1000 or value]
            assert int(target["iscrowd"][number]) == (value < 1000)
            groups += value < 1000
    assert groups == (subset == "train")
    assert int(dataset[0][1]["difficult"].sum()) == 0


def test_cityscapes_opened_without_masks(tmp_path):
    root = write_instances(tmp_path)
    plain, masks = open_dataset(root), open_dataset(root, masks=True)
    assert "masks" not in plain[0][1]
    assert torch.equal(plain[0][1]["boxes"], masks[0][1]["boxes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), r"the file of instances .*_instanceIds.png is missing"),
        (lambda path: path.write_bytes(b"x"), r"the file of instances .* cannot be read"),
        (lambda path: Image.fromarray(np.full((64, 96), 77, np.uint16)).save(path), r"has the value 77; a value is a"),
        (lambda path: Image.fromarray(np.full((64, 96), 50003, np.uint16)).save(path), r"has the value 50003"),
        (lambda path: Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(path), r"one whole number a pixel"),
        (lambda path: Image.fromarray(np.zeros((60, 90), np.uint16)).save(path), r"annotated size is 90 x 60 pixels"),
    ],
)
def test_bad_files_of_instances(tmp_path, change, message):
    root = write_instances(tmp_path)
    change(min(root.rglob("train/**/*_instanceIds.png")))
    with pytest.raises(InputError, match=message):
        open_dataset(root)


def test_runs_of_nothing_and_of_everything():
    for counts, value in (([HEIGHT * WIDTH], 0), ([0, HEIGHT * WIDTH], 1)):
        mask = Runs(HEIGHT, WIDTH, np.array(counts))
        assert mask.fault((WIDTH, HEIGHT)) == ""
        assert (mask.decode((WIDTH, HEIGHT)) == value).all()
