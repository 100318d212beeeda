import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO as Reference

from proxy_tasks.data import open_dataset
from search_spaces import InputError


@pytest.mark.parametrize(("subset", "file"), [("train", "instances_train2017"), ("test", "instances_val2017")])
def test_equals_pycocotools(coco, subset, file):
    ours, theirs = open_dataset(coco, subset), Reference(coco / "annotations" / f"{file}.json")
    assert [target["image_id"] for _, target in ours] == theirs.getImgIds()
    for _, target in ours:
        things = theirs.loadAnns(theirs.getAnnIds(imgIds=target["image_id"]))
        x, y, w, h = np.array([thing["bbox"] for thing in things], np.float32).reshape(-1, 4).T
        assert np.array_equal(target["boxes"].numpy(), np.stack([x, y, x + w, y + h], 1))
        named = [theirs.loadCats(thing["category_id"])[0]["name"] for thing in things]
        assert [ours.classes[label] for label in target["labels"]] == named


coordinate = st.floats(-3, 100, width=32)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), min_size=1, max_size=5))
def test_boxes_are_clipped_or_refused(edit_coco, corners):
    """Against the intersection with the image, computed the slow way."""
    written, expected = [], []
    for xa, xb, ya, yb in corners:
        (x1, x2), (y1, y2) = sorted((xa, xb)), sorted((ya * 2 / 3, yb * 2 / 3))
        w, h = x2 - x1, y2 - y1
        written.append([x1, y1, w, h])
        clip = np.array([max(0, x1), max(0, y1), min(96, x1 + w), min(64, y1 + h)]).astype(np.float32)
        within = x1 >= -1 and y1 >= -1 and x1 + w <= 97 and y1 + h <= 65
        if clip[2] > clip[0] and clip[3] > clip[1] and within:
            expected.append(clip)

    def change(content):
        first, *others = [item for item in content["annotations"] if "bbox" in item]
        others = [item for item in others if item["image_id"] != first["image_id"]]
        content["annotations"] = [*({**first, "bbox": box} for box in written), *others]

    root = edit_coco(change)
    if len(expected) < len(corners):
        with pytest.raises(InputError, match=r"annotations\[\d\]\.bbox .* (has no area|lies outside)"):
            open_dataset(root)
        with pytest.warns(UserWarning, match=f"dropped {len(corners) - len(expected)} bad boxes"):
            dataset = open_dataset(root, skip_bad_boxes=True)
    else:
        dataset = open_dataset(root)
    assert np.array_equal(dataset[0][1]["boxes"].numpy(), np.array(expected, np.float32).reshape(-1, 4))


def test_labels_follow_the_ids_not_the_file(edit_coco):
    def change(content):
        content["categories"].append({"id": 1, "name": "axle"})

    assert open_dataset(edit_coco(change)).classes == ("axle", "disc", "nut", "washer")


def test_crowds(coco, edit_coco):
    before = open_dataset(coco)
    edit_coco(lambda content: content["annotations"][0].update(iscrowd=1))
    train = open_dataset(coco)
    assert train.box_count == before.box_count - 1
    assert train.fingerprint != before.fingerprint
    shutil.copy(coco / "annotations" / "instances_train2017.json", coco / "annotations" / "instances_val2017.json")
    shutil.rmtree(coco / "val2017")
    shutil.copytree(coco / "train2017", coco / "images")
    test = open_dataset(coco, "test")
    for dataset in (train, test):
        assert dataset.box_count == before.box_count - 1
        assert dataset[0][1]["iscrowd"][0] == 1
        assert torch.equal(dataset[0][1]["boxes"], before[0][1]["boxes"])
        assert sum(int(target["iscrowd"].sum()) for _, target in dataset) == 1
        assert not any(target["difficult"].any() for _, target in dataset)


@pytest.mark.parametrize("folder", ["images", "images/train2017"])
def test_other_image_folders(coco, folder):
    (coco / "train2017").rename(coco / "moved")
    (coco / folder).parent.mkdir(exist_ok=True)
    (coco / "moved").rename(coco / folder)
    assert len(open_dataset(coco)) == 6


def test_no_image_folder(coco):
    shutil.rmtree(coco / "train2017")
    with pytest.raises(
        InputError, match=r"instances_train2017.json: its images are in none of the folders .*train2017"
    ):
        open_dataset(coco)


def test_annotation_files(coco):
    first = coco / "annotations" / "instances_train2017.json"
    shutil.copy(first, first.with_name("instances_train2014.json"))
    with pytest.raises(
        InputError, match=r"needs one file instances_train\*.json, found instances_train2014.json, inst"
    ):
        open_dataset(coco)
    first.with_name("instances_val2017.json").unlink()
    with pytest.raises(InputError, match=r"the test set needs one file instances_val\*.json, found none"):
        open_dataset(coco, "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"images": [\n  {"id": 1,}\n]}', r"train2017\.json: broken JSON, line 2 column \d+: "),
        ("", r"train2017\.json: broken JSON, line 1 column 1: Expecting value$"),
        ("[]", r"the file must hold a JSON object, got list$"),
        ('{"images": ' + "9" * 5000 + "}", r"train2017\.json cannot be read: "),
        ('{"images": ' + "[" * 200_000, r"train2017\.json cannot be read: |broken JSON"),
        ("{}", r"train2017\.json: key 'categories' must be a list, which is missing$"),
    ],
)
def test_hostile_files(coco, text, message):
    (coco / "annotations" / "instances_train2017.json").write_text(text)
    with pytest.raises(InputError, match=message):
        open_dataset(coco)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("annotations", {"bbox": [1, 2, 3]}, r"annotations\[0\]\.bbox must be four finite numbers .*, got \[1, 2, 3\]"),
        ("annotations", {"bbox": [1, 2, 3, "4"]}, r"annotations\[0\]\.bbox must be four finite numbers"),
        ("annotations", {"bbox": [1, 2, 3, True]}, r"annotations\[0\]\.bbox must be four finite numbers"),
        ("annotations", {"bbox": [1, 2, 3, float("nan")]}, r"annotations\[0\]\.bbox must be four finite numbers"),
        ("annotations", {"bbox": [1, 2, 3, 10**400]}, r"annotations\[0\]\.bbox must be four finite numbers"),
        ("annotations", {"bbox": None}, r"annotations\[0\]: key 'bbox' must be a list, got None"),
        (
            "annotations",
            {"bbox": [5, 5, 0, 9]},
            r"annotations\[0\]\.bbox \[5, 5, 0, 9\] has no area; .*--skip-bad-boxes$",
        ),
        ("annotations", {"bbox": [5, 5, -3, 9]}, r"annotations\[0\]\.bbox \[5, 5, -3, 9\] has no area"),
        ("annotations", {"bbox": [-1, 5, 0.5, 9]}, r"\[-1, 5, 0.5, 9\] has no area within its image of 96 x 64 pixels"),
        ("annotations", {"bbox": [90, 5, 8, 9]}, r"\.bbox \[90, 5, 8, 9\] lies outside its image of 96 x 64 pixels"),
        ("annotations", {"category_id": 4}, r"annotations\[0\]\.category_id 4 is not the id of a category"),
        ("annotations", {"category_id": "3"}, r"annotations\[0\]: key 'category_id' must be a whole number, got '3'"),
        ("annotations", {"image_id": 9}, r"annotations\[0\]\.image_id 9 is not the id of an image"),
        ("annotations", {"iscrowd": 2}, r"annotations\[0\]\.iscrowd must be 0 or 1, got 2"),
        ("images", {"id": 102}, r"images\[1\]\.id 102 is taken already; ids in images are unique"),
        ("images", {"file_name": 7}, r"images\[0\]: key 'file_name' must be a string, got 7"),
        ("images", {"width": 100}, r"images\[0\]: the annotated size is 100 x 64 pixels, its image .* has 96 x 64$"),
        ("images", {"height": True}, r"images\[0\]: key 'height' must be a whole number, got True"),
        ("categories", {"name": "disc"}, r"categories must name each class once, got \['disc', 'nut', 'disc'\]"),
        ("categories", {"id": None}, r"categories\[0\]: key 'id' must be a whole number, got None"),
    ],
)
def test_hostile_items(edit_coco, part, changes, message):
    root = edit_coco(lambda content: content[part][0].update(changes))
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(root)
    assert str(root / "annotations" / "instances_train2017.json") in str(caught.value)


@pytest.mark.parametrize("part", ["annotations", "images", "categories"])
def test_items_of_another_type(edit_coco, part):
    root = edit_coco(lambda content: content[part].insert(0, 5))
    with pytest.raises(InputError, match=rf"{part}\[0\] must be an object, got 5"):
        open_dataset(root)
    root = edit_coco(lambda content: content.pop(part))
    with pytest.raises(InputError, match=rf"key '{part}' must be a list, which is missing"):
        open_dataset(root)


def test_no_classes(edit_coco):
    root = edit_coco(lambda content: content.update(categories=[], annotations=[]))
    with pytest.raises(InputError, match=r"categories must name each class once, got \[\]"):
        open_dataset(root)
