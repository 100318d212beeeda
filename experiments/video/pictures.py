"""Segmentations as pictures: classes as colours, images side by side under their captions, a legend."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from proxy_tasks.data.video.base import VOID
from search_spaces.files import write_whole

__all__ = ["colour", "legend", "strip", "write_png"]

Palette = Sequence[tuple[int, int, int]]
"""Red, green and blue of each class, 0 to 255."""

GAP = 4  # pixels between and around the pictures
FONT_SIZE = 16  # pixels
BAR = 24  # pixels, the height of a caption
PAPER, INK, VOID_COLOUR = (255, 255, 255), (0, 0, 0), (0, 0, 0)


def colour(labels: Tensor, palette: Palette) -> Image.Image:
    """Every class in its colour, `VOID` black: an RGB image of the labels' size.

    Args:
        labels: uint8 (H, W), classes from 0 or `VOID`.
        palette: a colour for each class.
    """
    values = labels.cpu().numpy()
    assert values.ndim == 2, f"labels are (H, W), not {values.shape}"
    assert values.dtype == np.uint8, f"labels are uint8, not {values.dtype}"
    strange = (values >= len(palette)) & (values != VOID)
    assert not strange.any(), f"class {values[strange][0]} has no colour among {len(palette)}"
    table = np.empty((VOID + 1, 3), np.uint8)
    table[: len(palette)] = palette
    table[VOID] = VOID_COLOUR
    return Image.fromarray(table[values])


def strip(images: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """The images in a row, each under its title, e.g. frame, truth, baseline and cell: an RGB image.

    A column is as wide as its image, or as its title where that is wider, so that no title is ever cut.

    Args:
        images: at least one image, all of the same height.
        titles: one line for each.
    """
    assert len(images) == len(titles) > 0, f"{len(images)} images, {len(titles)} titles"
    assert len({image.height for image in images}) == 1, "the images differ in height"
    font = _font()
    columns = [
        max(image.width, round(font.getlength(title)) + 2 * GAP) for image, title in zip(images, titles, strict=True)
    ]
    sheet = Image.new("RGB", (sum(columns) + GAP * (len(images) + 1), images[0].height + BAR + GAP), PAPER)
    pen, left = ImageDraw.Draw(sheet), GAP
    for image, title, column in zip(images, titles, columns, strict=True):
        pen.text((left + column / 2, BAR / 2), title, fill=INK, font=font, anchor="mm")
        sheet.paste(image, (left + (column - image.width) // 2, BAR))
        left += column + GAP
    return sheet


def legend(classes: Sequence[str], palette: Palette) -> Image.Image:
    """One line a class, its colour and its name, and one for void: an RGB image."""
    rows = [*zip(classes, palette, strict=True), ("void", VOID_COLOUR)]
    font = _font()
    text = 2 * GAP + BAR
    width = text + round(max(font.getlength(name) for name, _ in rows)) + 2 * GAP
    sheet = Image.new("RGB", (width, len(rows) * (BAR + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (name, shade) in enumerate(rows):
        top = GAP + row * (BAR + GAP)
        pen.rectangle((GAP, top, GAP + BAR - 1, top + BAR - 1), fill=tuple(shade), outline=INK)
        pen.text((text, top + BAR / 2), name, fill=INK, font=font, anchor="lm")
    return sheet


def write_png(image: Image.Image, path: Path) -> None:
    """Writes a PNG in one step: a reader, or a run killed meanwhile, sees no half of it."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_whole(path, buffer.getvalue())


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, so that a picture is the same on every machine."""
    return ImageFont.load_default(size=FONT_SIZE)
