"""Pictures, pixel by pixel where it matters."""

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from experiments.video.pictures import colour, legend, strip, write_png
from proxy_tasks.data.video.base import VOID

PALETTE = ((128, 128, 128), (128, 0, 0), (192, 192, 128), (64, 0, 128))
CLASSES = ("sky", "building", "pole", "car")
FRAMES = [Image.new("RGB", (60, 40), shade) for shade in ("red", "lime", "blue")]


@settings(max_examples=30, deadline=None)
@given(
    labels=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.sampled_from([0, 1, 2, 3, VOID]))
)
def test_every_pixel_has_the_colour_of_its_class(labels):
    image = colour(torch.from_numpy(labels), PALETTE)
    assert (image.mode, image.size) == ("RGB", labels.shape[::-1])
    for row, column in np.ndindex(labels.shape):
        label = labels[row, column]
        assert image.getpixel((column, row)) == ((0, 0, 0) if label == VOID else PALETTE[label])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([[0, 4]], dtype=torch.uint8), "class 4 has no colour among 4"),
        (torch.tensor([[0, 254]], dtype=torch.uint8), "class 254"),
        (torch.tensor([[0, 1]]), "uint8, not int64"),
        (torch.zeros(1, 2, 2, dtype=torch.uint8), r"\(H, W\), not \(1, 2, 2\)"),
    ],
)
def test_labels_without_a_colour_are_refused(labels, message):
    with pytest.raises(AssertionError, match=message):
        colour(labels, PALETTE)


def columns_of(sheet, shade):
    """Rows and columns of the pixels that have exactly this colour, as two half-open ranges."""
    rows, columns = np.nonzero((np.array(sheet) == shade).all(axis=-1))
    return (rows.min(), rows.max() + 1), (columns.min(), columns.max() + 1)


def test_the_strip_shows_every_image_whole_and_in_order():
    sheet = strip(FRAMES, ["frame", "truth", "cell"])
    assert sheet.mode == "RGB"
    edges = []
    for shade in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        assert (np.array(sheet) == shade).all(axis=-1).sum() == 60 * 40
        (top, bottom), (left, right) = columns_of(sheet, shade)
        assert (bottom - top, right - left) == (40, 60)
        edges += [left, right]
    assert edges == sorted(edges)
    assert all(0 < right - left < 10 for left, right in zip(edges[1:-1:2], edges[2:-1:2], strict=True))  # a thin gap


def test_a_title_stands_above_its_own_image():
    plain, titled = strip(FRAMES, ["", "", ""]), strip(FRAMES, ["", "truth", ""])
    rows, columns = np.nonzero((np.array(plain) != np.array(titled)).any(axis=-1))
    (top, _), (left, right) = columns_of(titled, (0, 255, 0))
    assert 0 <= rows.min() < rows.max() < top
    assert rows.max() - rows.min() >= 7  # pixels: legible
    assert left <= columns.min() < columns.max() < right


@pytest.mark.parametrize("title", ["per-frame baseline", "layer 4 of the dynamic cell, p q g j y"])
def test_a_long_title_is_never_cut(title):
    small = Image.new("RGB", (16, 16), "red")
    narrow, wide = strip([small], [title]), strip([Image.new("RGB", (600, 16), "red")], [title])
    ink = [(np.array(sheet)[:24] < 128).all(axis=-1).sum() for sheet in (narrow, wide)]
    assert ink[0] == pytest.approx(ink[1], rel=0.15)  # sub-pixel placing may differ
    assert narrow.width < 600
    assert (np.array(narrow)[:, [0, -1]] == 255).all()
    (_, _), (left, right) = columns_of(narrow, (255, 0, 0))
    assert abs(left - (narrow.width - right)) <= 1  # centred under its title


def test_no_title_touches_the_image_below():
    sheet = np.array(strip(FRAMES, ["gypqj", "ÅÉ|", "(g)"]))
    top = columns_of(sheet, (255, 0, 0))[0][0]
    assert (sheet[top - 1] == 255).all()
    assert (sheet[0] == 255).all()


@pytest.mark.parametrize(
    ("images", "titles", "message"),
    [
        ([], [], "0 images"),
        (FRAMES, ["frame"], "3 images, 1 titles"),
        ([FRAMES[0], Image.new("RGB", (60, 41))], ["a", "b"], "differ in height"),
    ],
)
def test_a_strip_that_cannot_be_drawn(images, titles, message):
    with pytest.raises(AssertionError, match=message):
        strip(images, titles)


def test_images_of_other_modes_are_shown_too():
    sheet = strip([Image.new("L", (30, 20), 7), Image.new("RGB", (30, 20), "red")], ["", ""])
    assert (np.array(sheet) == 7).all(axis=-1).sum() == 30 * 20


def test_the_legend_has_every_class_in_its_colour_from_top_to_bottom():
    sheet = legend(CLASSES, PALETTE)
    tops = [columns_of(sheet, shade)[0][0] for shade in PALETTE]
    assert tops == sorted(tops)
    assert len(set(np.diff(tops))) == 1
    for shade in PALETTE:
        assert (np.array(sheet) == shade).all(axis=-1).sum() >= 300
    assert sheet.height == legend(CLASSES[:3], PALETTE[:3]).height + np.diff(tops)[0]
    assert legend(("a name that is much longer",), PALETTE[:1]).width > legend(("sky",), PALETTE[:1]).width


def test_a_legend_needs_a_colour_for_each_class():
    with pytest.raises(ValueError, match="shorter"):
        legend(CLASSES, PALETTE[:3])


def test_a_png_comes_back_the_same(tmp_path):
    labels = torch.randint(0, 4, (20, 30), dtype=torch.uint8)
    path = tmp_path / "0001.png"
    write_png(FRAMES[0], path)
    write_png(colour(labels, PALETTE), path)  # replaces
    with Image.open(path) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.array(image), np.array(PALETTE, np.uint8)[labels.numpy()])
    assert os.listdir(tmp_path) == ["0001.png"]


def test_a_failed_write_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "0001.png"
    write_png(FRAMES[0], path)
    before = path.read_bytes()

    def full(image, file, **options):
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="no space left"):
        write_png(FRAMES[1], path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["0001.png"]
