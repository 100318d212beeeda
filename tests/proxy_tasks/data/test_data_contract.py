"""One suite that every reader passes, and what `open_dataset` recognises and refuses."""

import pickle
import shutil

import pytest
import torch
from torch.utils.data import DataLoader
from trees import CLASSES, write_coco, write_instances, write_voc

from proxy_tasks.data import DATASETS, SUBSETS, Shapes, open_dataset, register
from proxy_tasks.data.images.voc import PascalVOC
from search_spaces import InputError

TREES = {"voc": write_voc, "coco": write_coco}
EVERY_TREE = {**TREES, "cityscapes": write_instances}
READERS = (*EVERY_TREE, "shapes")
BOX = {
    "voc": ("Annotations/a000.xml", r"<xmax>(\d+)</xmax>", "<xmax>90</xmax>"),
    "coco": ("annotations/instances_train2017.json", r'"bbox": \[\s*\d+', '"bbox": [1'),
}
LABEL = {
    "voc": ("Annotations/a000.xml", r"<name>\w+</name>", "<name>{}</name>"),
    "coco": ("annotations/instances_train2017.json", r'"category_id": \d+', '"category_id": {}'),
}


@pytest.fixture
def opened(tmp_path):
    def make(name, subset="train"):
        if name == "shapes":
            return Shapes(count=8, size=64, subset=subset)
        return open_dataset(EVERY_TREE[name](tmp_path / name), subset)

    return make


def test_every_registered_layout_has_a_tree_here():
    assert set(DATASETS.names()) == set(EVERY_TREE)


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("name", READERS)
def test_items(opened, name, subset):
    dataset = opened(name, subset)
    samples = list(dataset)
    assert len(samples) == len(dataset) > 0
    assert len({target["image_id"] for _, target in samples}) == len(dataset)
    for image, target in samples:
        n, (height, width) = len(target["labels"]), image.shape[1:]
        assert image.dtype == torch.uint8
        assert image.shape[0] == 3
        assert image.is_contiguous()
        assert target["boxes"].dtype == torch.float32
        assert target["boxes"].shape == (n, 4)
        for name in ("labels", "iscrowd", "difficult"):
            assert target[name].dtype == torch.int64
            assert target[name].shape == (n,)
        assert (target["difficult"] <= target["iscrowd"]).all()
        assert type(target["image_id"]) is int
        assert ((target["labels"] >= 0) & (target["labels"] < len(dataset.classes))).all()
        x1, y1, x2, y2 = target["boxes"].unbind(1)
        assert ((x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)).all()


@pytest.mark.parametrize("name", READERS)
def test_what_it_says_of_itself(opened, name):
    train, test = opened(name), opened(name, "test")
    assert train.describe().startswith(f"{train.layout}, {len(train)} images")
    assert f"{len(train.classes)} classes" in train.describe()
    assert isinstance(train.root, str)
    assert train.classes == test.classes
    assert int(train.fingerprint, 16) != int(test.fingerprint, 16)


@pytest.mark.parametrize("name", READERS)
def test_the_same_item_again(opened, name):
    dataset = opened(name)
    first = dataset[1]
    first[1]["boxes"] += 7  # a caller may change what it was given
    again, copy = dataset[1], pickle.loads(pickle.dumps(dataset))[1]
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1]["boxes"], again[1]["boxes"] + 7)
    assert torch.equal(copy[1]["boxes"], again[1]["boxes"])
    assert dataset.fingerprint == opened(name).fingerprint


@pytest.mark.parametrize("name", READERS)
def test_index_out_of_range(opened, name):
    dataset = opened(name)
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    assert dataset[-1][1]["image_id"] == dataset[len(dataset) - 1][1]["image_id"]


@pytest.mark.parametrize("name", READERS)
def test_a_data_loader_takes_it(opened, name):
    dataset = opened(name)
    batches = list(DataLoader(dataset, batch_size=3, collate_fn=list))
    assert sum(map(len, batches)) == len(dataset)


@pytest.mark.parametrize("name", TREES)
def test_labels_and_pictures_agree(opened, name):
    """The trees paint each object in the colour of its class, so classes, boxes and RGB order are seen in the image."""
    dataset = opened(name)
    image, target = dataset[0]
    for (x1, y1, x2, y2), label in zip(target["boxes"].int().tolist()[-1:], target["labels"][-1:], strict=True):
        strongest = image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].float().mean((1, 2)).argmax()
        assert int(strongest) == int(label)  # disc is red, nut green, washer blue
    assert dataset.classes == CLASSES


@pytest.mark.parametrize("name", TREES)
def test_images_without_boxes_are_valid(opened, name):
    _, target = opened(name)[5]
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)


@pytest.mark.parametrize("name", TREES)
def test_fingerprint_follows_the_data_not_the_place(tmp_path, name, edit):
    root = TREES[name](tmp_path / "here")
    before = open_dataset(root).fingerprint
    moved = tmp_path / "a" / "there"
    shutil.copytree(root, moved)
    assert open_dataset(moved).fingerprint == before
    file, old, new = BOX[name]
    edit(moved / file, old, new)
    assert open_dataset(moved).fingerprint != before


@pytest.mark.parametrize("name", TREES)
def test_fingerprint_follows_labels_and_images(tmp_path, name, edit):
    prints = set()
    for label in ({"voc": CLASSES, "coco": (3, 5, 7)})[name]:
        root = TREES[name](tmp_path / "tree")
        file, old, new = LABEL[name]
        edit(root / file, old, new.format(label))
        prints.add(open_dataset(root).fingerprint)
    with next(iter(root.rglob("*a000.jpg" if name == "voc" else "*0101.jpg"))).open("ab") as image:
        image.write(b"\0")
    prints.add(open_dataset(root).fingerprint)
    assert len(prints) == 4


@pytest.mark.parametrize("name", TREES)
def test_skipping_bad_boxes(tmp_path, name, edit):
    root = TREES[name](tmp_path / "tree")
    before = open_dataset(root)
    file, old, new = BOX[name]
    edit(root / file, old, new.replace("90", "99").replace("[1", "[-20"))
    with pytest.raises(InputError, match=r"lies outside its image of 96 x 64 pixels.*--skip-bad-boxes$"):
        open_dataset(root)
    with pytest.warns(UserWarning, match=r"dropped 1 bad boxes; the first: .* lies outside its image"):
        after = open_dataset(root, skip_bad_boxes=True)
    assert after.box_count == before.box_count - 1
    assert len(after) == len(before)


@pytest.mark.parametrize("name", TREES)
def test_missing_image(tmp_path, name):
    root = TREES[name](tmp_path / "tree")
    next(iter(root.rglob("*.jpg"))).unlink()
    with pytest.raises(InputError, match=r"its image .*\.jpg is missing"):
        [open_dataset(root, subset) for subset in SUBSETS]


@pytest.mark.parametrize("name", TREES)
def test_unreadable_image(tmp_path, name):
    root = TREES[name](tmp_path / "tree")
    sorted(root.rglob("*.jpg"))[0].write_bytes(b"no image at all")
    with pytest.raises(InputError, match=r"its image .*\.jpg cannot be read: cannot identify"):
        open_dataset(root)


@pytest.mark.parametrize("name", TREES)
def test_truncated_image(tmp_path, name):
    root = TREES[name](tmp_path / "tree")
    path = sorted(root.rglob("*.jpg"))[1]
    path.write_bytes(path.read_bytes()[:-400])
    dataset = open_dataset(root)
    dataset[0]
    for decode in (lambda: dataset[1], dataset.verify):
        with pytest.raises(InputError, match=rf"the image .*{path.name} cannot be decoded: .*truncated"):
            decode()


@pytest.mark.parametrize("name", READERS)
def test_verify_passes_good_images(opened, name):
    assert opened(name).verify() is None


@pytest.mark.parametrize("name", TREES)
def test_empty_dataset(tmp_path, name):
    with pytest.raises(InputError, match=r"its train set has no images"):
        open_dataset(TREES[name](tmp_path / "tree", n=0, n_test=2))


@pytest.mark.parametrize("name", TREES)
def test_unknown_subset(tmp_path, name):
    root = TREES[name](tmp_path / "tree")
    with pytest.raises(InputError, match=r"subsets train and test, got 'val'"):
        open_dataset(root, "val")


def test_nothing_given_opens_the_built_in_set():
    assert open_dataset(None).describe() == Shapes().describe()
    assert open_dataset(None, "test").fingerprint == Shapes(subset="test").fingerprint


def test_paths_without_a_dataset(tmp_path):
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"file is not a folder"):
        open_dataset(tmp_path / "file")
    with pytest.raises(InputError, match=r"no known dataset layout; looked for Pascal VOC \(.*\); or COCO \(.*\)$"):
        open_dataset(tmp_path)


def test_two_layouts_in_one_folder(voc):
    write_coco(voc)
    with pytest.raises(InputError, match=r"more than one dataset layout, Pascal VOC and COCO"):
        open_dataset(voc)


def test_a_layout_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))

    class Nested(PascalVOC):
        layout, looks_for = "nested VOC", "inner/Annotations"

        @classmethod
        def recognise(cls, root):
            return (root / "inner" / "Annotations").is_dir()

        def read(self, root, subset):
            return super().read(root / "inner", subset)

    register("nested", Nested)
    write_voc(tmp_path / "inner")
    assert open_dataset(tmp_path).describe().startswith("nested VOC, 6 images, 3 classes")
    with pytest.raises(InputError, match="'voc' is registered already"):
        register("voc", Nested)
