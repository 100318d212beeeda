import pytest
import torch
from PIL import Image
from torchvision.datasets import VOCDetection
from trees import voc_xml, write_voc

from proxy_tasks.data import open_dataset
from proxy_tasks.data.images.voc import VOC_CLASSES
from search_spaces import InputError


def lists(root, **ids):
    """Replaces the set files."""
    folder = root / "ImageSets" / "Main"
    for path in folder.glob("*.txt"):
        path.unlink()
    for name, listed in ids.items():
        (folder / f"{name}.txt").write_text("\n".join(listed) + "\n")
    return root


def names(root, subset):
    return [record.path.stem for record in open_dataset(root, subset)._records]


def test_equals_torchvision(tmp_path):
    write_voc(tmp_path / "VOCdevkit" / "VOC2007")
    ours, theirs = open_dataset(tmp_path), VOCDetection(tmp_path, year="2007", image_set="trainval")
    assert len(ours) == len(theirs)
    for (image, target), (picture, annotation) in zip(ours, theirs, strict=True):
        assert image.permute(1, 2, 0).numpy().tobytes() == picture.tobytes()
        things = annotation["annotation"].get("object", [])
        assert [ours.classes[label] for label in target["labels"]] == [thing["name"] for thing in things]
        corners = [[float(thing["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] for thing in things]
        counted_from_0 = torch.tensor(corners).reshape(-1, 4) - torch.tensor([1.0, 1, 0, 0])
        assert torch.equal(target["boxes"], counted_from_0)


@pytest.mark.parametrize(
    ("ids", "train", "test"),
    [
        ({"trainval": ["a000", "a001"], "test": ["a002"]}, ["a000", "a001"], ["a002"]),
        ({"trainval": ["a000"], "train": ["a001"], "test": ["a002"]}, ["a000"], ["a002"]),
        ({"train": ["a000", "a003"], "val": ["a001"]}, ["a000", "a003"], ["a001"]),
        ({"train": ["a000"], "val": ["a001"], "trainval": ["a000", "a001"]}, ["a000"], ["a001"]),
        ({"train": ["a000"], "val": ["a001"], "test": ["a002"]}, ["a000"], ["a002"]),
        ({"val": ["a000", "a001"]}, ["a002", "a003"], ["a000", "a001"]),
    ],
)
def test_subsets_never_share_an_image(tmp_path, ids, train, test):
    root = lists(write_voc(tmp_path, n=3, n_test=1), **ids)
    (root / "Annotations" / "a002.xml").write_text(voc_xml("a002", 96, 64, [(0, 1, 1, 9, 9)]))
    assert (names(root, "train"), names(root, "test")) == (train, test)


def test_no_set_files(voc):
    lists(voc)
    assert len(open_dataset(voc)) == 8
    with pytest.raises(InputError, match=r"there is no test set: neither test.txt nor val.txt in .*Main"):
        open_dataset(voc, "test")


def test_years_are_joined_and_withheld_test_sets_passed_over(tmp_path):
    write_voc(tmp_path / "VOC2007", n=3, n_test=2)
    late = lists(write_voc(tmp_path / "VOC2012", n=4, n_test=0), trainval=["a000", "a001"], test=["2012_000001"])
    assert (len(open_dataset(tmp_path)), len(open_dataset(tmp_path, "test"))) == (5, 2)
    lists(late, train=["a000"], val=["a001"], trainval=["a000", "a001"], test=["2012_000001"])
    assert len(open_dataset(tmp_path)) == 5
    assert (names(late.parent / "VOC2012", "train"), names(late, "test")) == (["a000"], ["a001"])


def test_coordinates_count_from_one_and_include_the_last(voc):
    objects = [(0, 503, 336, 504, 337), (1, -1, -1, 640, 480), (2, 600, 400, 641, 481)]
    Image.new("RGB", (640, 480)).save(voc / "JPEGImages" / "a000.jpg")
    (voc / "Annotations" / "a000.xml").write_text(voc_xml("a000", 640, 480, objects))
    expected = [[503, 336, 504, 337], [0, 0, 640, 480], [600, 400, 640, 480]]
    assert open_dataset(voc)[0][1]["boxes"].tolist() == expected


def test_difficult_objects(voc, edit):
    before = {subset: open_dataset(voc, subset).box_count for subset in ("train", "test")}
    for name in ("a000", "a006"):
        edit(voc / "Annotations" / f"{name}.xml", "<difficult>0", "<difficult>1")
    for subset in ("train", "test"):
        dataset = open_dataset(voc, subset)
        assert dataset.box_count == before[subset] - 1
        expected = [1] + [0] * (len(dataset[0][1]["labels"]) - 1)
        assert dataset[0][1]["iscrowd"].tolist() == dataset[0][1]["difficult"].tolist() == expected


def test_a_set_with_nothing_but_difficult_objects(voc, edit):
    for path in (voc / "Annotations").glob("*.xml"):
        path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    with pytest.raises(InputError, match=r"its train set has 6 images and not one box; it needs at least one"):
        open_dataset(voc)


def test_class_names(tmp_path):
    assert open_dataset(write_voc(tmp_path / "a", classes=("dog", "cat"))).classes == VOC_CLASSES
    assert len(VOC_CLASSES) == len(set(VOC_CLASSES)) == 20
    mixed = open_dataset(write_voc(tmp_path / "b", classes=("dog", "cat", "axolotl")))
    assert mixed.classes == ("axolotl", "cat", "dog")
    (tmp_path / "a" / "classes.txt").write_text("cat\n\ndog\n")
    listed = open_dataset(tmp_path / "a")
    assert listed.classes == ("cat", "dog")


def test_other_image_formats(voc):
    for suffix, mode in ((".png", "P"), (".JPG", "L"), (".bmp", "RGB")):
        with Image.open(voc / "JPEGImages" / "a000.jpg") as image:
            pixels = image.convert(mode)
        (voc / "JPEGImages" / "a000.jpg").rename(voc / "JPEGImages" / "kept")
        pixels.save(voc / "JPEGImages" / f"a000{suffix}")
        assert open_dataset(voc)[0][0].shape == (3, 64, 96)
        (voc / "JPEGImages" / f"a000{suffix}").unlink()
        (voc / "JPEGImages" / "kept").rename(voc / "JPEGImages" / "a000.jpg")


def test_sixteen_bit_images_are_refused(voc):
    (voc / "JPEGImages" / "a000.jpg").unlink()
    Image.new("I;16", (96, 64)).save(voc / "JPEGImages" / "a000.png")
    with pytest.raises(InputError, match=r"a000.png has pixels of mode I;16; 8 bits a channel are read"):
        open_dataset(voc)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</object>", "</objekt>", r"a000\.xml: broken XML, line 4 column \d+: mismatched tag$"),
        (r"(?s)^.*$", "", r"a000\.xml: broken XML, line 1 column 1: no element found$"),
        (r"^<annotation>(?s:.*)$", "<a/>", r"a000\.xml: the outermost element must be <annotation>, got <a>"),
        (r"<name>\w+</name>", "", r"a000\.xml: object 1 has no <name>"),
        (r"<xmin>\d+</xmin>", "", r"a000\.xml: object 1 needs a number in <xmin>, got None"),
        (r"<ymax>\d+<", "<ymax>ten<", r"a000\.xml: object 1 needs a number in <ymax>, got 'ten'"),
        (r"<xmin>\d+<", "<xmin>nan<", r"object 1 \(xmin nan, .*\) has no area; .* --skip-bad-boxes$"),
        (r"<xmax>\d+<", "<xmax>inf<", r"object 1 \(.*xmax inf, .*\) lies outside its image of 96 x 64 pixels"),
        (r"<xmax>\d+<", "<xmax>0<", r"a000\.xml: object 1 \(xmin \d+, ymin \d+, xmax 0, ymax \d+\) has no area"),
        (r"<xmax>\d+<", "<xmax>98<", r"object 1 \(.*\) lies outside its image of 96 x 64 pixels"),
        (r"<ymin>\d+<", "<ymin>-1<", r"object 1 \(.*\) lies outside its image of 96 x 64 pixels"),
        (r"<width>96<", "<width>97<", r"a000\.xml: the annotated size is 97 x 64 pixels, its image .* has 96 x 64$"),
        (r"<width>96<", "<width>wide<", r"a000\.xml needs a number in <width>, got 'wide'"),
    ],
)
def test_hostile_annotations(voc, edit, old, new, message):
    edit(voc / "Annotations" / "a000.xml", old, new)
    with pytest.raises(InputError, match=message):
        open_dataset(voc)


def test_a_class_that_the_list_lacks(voc, edit):
    (voc / "labels.txt").write_text("disc\nnut\nwasher\n")
    edit(voc / "Annotations" / "a001.xml", r"<name>\w+<", "<name>bolt<")
    with pytest.raises(InputError, match=r"a001.xml: object 1 is a 'bolt', a class that .*labels.txt lacks: disc, nut"):
        open_dataset(voc)
    (voc / "labels.txt").write_text("disc\ndisc\n")
    with pytest.raises(InputError, match=r"labels.txt: a class list names each class once"):
        open_dataset(voc)


def test_set_files_that_list_what_is_not_there(voc):
    lists(voc, trainval=["a000", "", "zebra"])
    with pytest.raises(InputError, match=r"trainval.txt, line 3: image 'zebra' has no file in .*Annotations"):
        open_dataset(voc)
    lists(voc, trainval=["a000", "a001", "a000"])
    with pytest.raises(InputError, match=r"trainval.txt: image 'a000' is listed twice"):
        open_dataset(voc)
    (voc / "ImageSets" / "Main" / "trainval.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match=r"trainval.txt cannot be read: .*codec"):
        open_dataset(voc)


def test_a_set_without_any_box(voc):
    lists(voc, trainval=["a005"])
    with pytest.raises(InputError, match=r"its train set has 1 images and not one box"):
        open_dataset(voc)
