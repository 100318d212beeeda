"""Bad data: one sentence, status 2, nothing left that trips a second run."""

import re
import shutil

import pytest
import trees
from PIL import Image
from places import change_json, edit, set_box

from search_spaces import Architecture

ARCH2 = Architecture.of("arch2", ())

# Data


def test_data_that_are_not_there(place):
    place.assert_refused(r"there is no folder \S+/nowhere; ", "--data", place.root / "nowhere")
    (place.root / "file").write_text("")
    place.assert_refused(r"\S+/file is not a folder; ", "--data", place.root / "file")
    place.assert_refused(r"setting 'data' must be a path, got ''", "--data", "")


def test_data_of_no_known_layout(place):
    (place.data / "pictures").mkdir(parents=True)
    place.assert_refused(
        r"data has no known dataset layout; looked for Pascal VOC \(.*\); or COCO \(annotations/instances_"
    )


def test_data_of_two_layouts(voc):
    trees.write_coco(voc.data)
    voc.assert_refused("data has more than one dataset layout, Pascal VOC and COCO; ")


VOC_FAULTS = {
    "broken XML": (
        lambda p: edit(p.xml(1), "</size>", "<size>"),
        r"a001.xml: broken XML, line \d+ column \d+: mismatch",
    ),
    "not an annotation": (lambda p: p.xml(1).write_text("<html/>"), r"a001.xml: the outermost element must be <annota"),
    "empty XML": (lambda p: p.xml(1).write_text(""), r"a001.xml: broken XML, line 1 column 1: no element found"),
    "missing image": (lambda p: p.jpg(2).unlink(), r"a002.xml: its image \S+/a002.jpg is missing"),
    "no image": (
        lambda p: p.jpg(2).write_text("hello"),
        r"a002.xml: its image \S+/a002.jpg cannot be read: cannot ident",
    ),
    "empty image": (lambda p: p.jpg(2).write_bytes(b""), r"a002.xml: its image \S+/a002.jpg cannot be read: "),
    "broken header": (
        lambda p: p.jpg(2).write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x04IHDR" + b"\0\0\0\x20" + b"\0" * 40),
        r"a002.xml: its image \S+/a002.jpg cannot be read: ",
    ),
    "annotation missing": (lambda p: p.xml(3).unlink(), r"trainval.txt, line 4: image 'a003' has no file in "),
    "box outside": (
        lambda p: set_box(p.xml(0), 1, xmax=200),
        r"a000.xml: object 1 \(.*xmax 200, .*\) lies outside its image of 96 x 64 pixels; .*--skip-bad-boxes",
    ),
    "box of no area": (
        lambda p: set_box(p.xml(0), 1, ymin=40, ymax=30),
        r"a000.xml: object 1 \(.*ymin 40, .*ymax 30\) has no area; .*--skip-bad-boxes",
    ),
    "box not a number": (
        lambda p: set_box(p.xml(0), 1, xmin="one"),
        r"a000.xml: object 1 needs a number in <xmin>, got 'o",
    ),
    "box is NaN": (lambda p: set_box(p.xml(0), 1, xmin="nan"), r"a000.xml: object 1 \(xmin nan, .*\) has no area"),
    "box is infinite": (
        lambda p: set_box(p.xml(0), 1, xmax="1e999"),
        r"a000.xml: object 1 \(.*xmax inf, .*\) lies outside",
    ),
    "other size": (
        lambda p: edit(p.xml(1), ">96<", ">69<"),
        r"a001.xml: the annotated size is 69 x 64 pixels, its image",
    ),
    "unknown class": (
        lambda p: (p.data / "classes.txt").write_text("disc\nwasher\nbolt\n"),
        r"a\d+.xml: object \d+ is a 'nut', a class that \S+/classes.txt lacks: disc, washer, bolt",
    ),
    "class listed twice": (
        lambda p: (p.data / "classes.txt").write_text("nut\nnut\n"),
        r"classes.txt: a class list names",
    ),
    "unnamed class": (
        lambda p: p.xml(0).write_text(re.sub("<name>.*</name>", "", p.xml(0).read_text())),
        "a000.xml: object 1 has no <name>",
    ),
    "no boxes at all": (
        lambda p: [xml.write_text(trees.voc_xml(xml.stem, 96, 64, [])) for xml in p.data.glob("Annotations/*.xml")],
        r"data: its train set has 6 images and not one box; it needs at least one",
    ),
}


@pytest.mark.parametrize("fault", VOC_FAULTS)
def test_bad_pascal_voc_data(voc, fault):
    damage, message = VOC_FAULTS[fault]
    damage(voc)
    voc.assert_refused(message)


def annotations(place):
    return place.data / "annotations" / "instances_train2017.json"


COCO_FAULTS = {
    "broken JSON": (lambda c: None, r"instances_train2017.json: broken JSON, line 3 column 4: "),
    "missing image": (
        lambda c: c["images"][1].update(file_name="none.jpg"),
        r"instances_train2017.json: images\[1\]: its image \S+/none.jpg is missing",
    ),
    "impossible file name": (
        lambda c: c["images"][1].update(file_name="a\0b"),
        r"instances_train2017.json: images\[1\]: its image \S+ cannot be read: embedded null",
    ),
    "box outside": (
        lambda c: c["annotations"][0].update(bbox=[90, 10, 30, 10]),
        r"annotations\[0\].bbox \[90, 10, 30, 10\] lies outside its image of 96 x 64 pixels; .*--skip-bad-boxes",
    ),
    "box of no area": (
        lambda c: c["annotations"][0].update(bbox=[9, 10, 0, 10]),
        r"annotations\[0\].bbox \[9, 10, 0, 10\] has no area",
    ),
    "labels mixed": (
        lambda c: c["annotations"][1].update(category_id="5"),
        r"annotations\[1\]: key 'category_id' must be a whole number, got '5'",
    ),
    "unknown class": (
        lambda c: c["annotations"][1].update(category_id=4),
        r"annotations\[1\].category_id 4 is not the id of a category in the file",
    ),
    "class twice": (
        lambda c: c["categories"][0].update(name="disc"),
        r"instances_train2017.json: categories must name each class once, got \['disc', 'nut', 'disc'\]",
    ),
    "image of nowhere": (
        lambda c: c["annotations"][1].update(image_id=9),
        r"annotations\[1\].image_id 9 is not the id of an image in the file",
    ),
    "no list": (lambda c: c.update(images={}), r"instances_train2017.json: key 'images' must be a list, got {}"),
    "no annotations": (lambda c: c.pop("annotations"), r"key 'annotations' must be a list, which is missing"),
}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_bad_coco_data(coco, fault):
    damage, message = COCO_FAULTS[fault]
    if fault == "broken JSON":
        edit(annotations(coco), '  {\n   "id": 101', '  {;\n   "id": 101')
    else:
        change_json(annotations(coco), damage)
    coco.assert_refused(message)


def test_one_bad_box_is_refused_or_skipped_with_a_warning(voc):
    set_box(voc.xml(0), 1, xmax=200)
    voc.assert_refused("lies outside its image")
    _, lines = voc.runs("--skip-bad-boxes")
    (line,) = lines
    assert re.search(r"^nas-search: warning: \S+/data: dropped 1 bad boxes; the first: \S+a000.xml: object 1 ", line)


def test_a_truncated_image_is_found_while_decoding_and_the_mended_data_run(voc):
    calm, _ = voc.runs("--cache-dir", voc.root / "calm")
    whole = voc.jpg(3).read_bytes()
    voc.jpg(3).write_bytes(whole[: len(whole) // 2])
    voc.assert_refused(r"the image \S+/a003.jpg cannot be decoded: image file is truncated")
    voc.jpg(3).write_bytes(whole)
    assert voc.runs() == (calm, [])


def test_mended_data_run_after_a_refusal(voc):
    text = voc.xml(1).read_text()
    voc.xml(1).write_text(text[: len(text) // 2])
    voc.assert_refused("a001.xml: broken XML, line ")
    voc.xml(1).write_text(text)
    assert len(voc.runs()[0]) == 2


def test_images_without_boxes_are_valid(voc):
    for number in (1, 2):
        voc.xml(number).write_text(trees.voc_xml(f"a{number:03d}", 96, 64, []))
    assert len(voc.runs()[0]) == 2


def test_grey_palette_and_transparent_images_are_valid(voc):
    for number, mode in enumerate(("L", "P", "CMYK")):
        Image.open(voc.jpg(number)).convert(mode).convert("RGB" if mode == "P" else mode).save(voc.jpg(number))
    assert len(voc.runs()[0]) == 2


def test_one_image_is_too_few_and_some_must_have_boxes(place):
    trees.write_voc(place.data, n=1, n_test=1)
    place.assert_refused(r"\S+/data: meta-train and meta-val need at least 2 images, the train set has 1")
    shutil.rmtree(place.data)
    trees.write_voc(place.data, n=2, n_test=1)  # the second of which has no box and is meta-val
    place.assert_refused(
        r"\S+/data: no box of meta-val reaches a location at crop 128, so nothing can be scored; use larger"
    )
    shutil.rmtree(place.data)
    trees.write_voc(place.data, n=6, n_test=1)
    assert len(place.runs()[0]) == 2
