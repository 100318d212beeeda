"""A placed diagram as a PNG file, drawn by matplotlib with the fonts that it brings."""

from pathlib import Path

from matplotlib import path as curves
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon

from nas.drawing.layout import FONT, Picture, PlacedArrow, PlacedBox
from nas.drawing.svg import COLOURS, FILL, INK

__all__ = ["write"]

INCH = 100  # pixels of the layout
DENSITY = 2  # pixels of the image, for each of the layout's


def write(picture: Picture, path: Path) -> None:
    """Writes the picture on white, at twice the layout's size; raises `OSError` where it cannot be written."""
    figure = Figure((picture.width / INCH, picture.height / INCH), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, picture.width), ylim=(picture.height, 0))
    axes.axis("off")
    for arrow in picture.arrows:
        _arrow(axes, arrow)
    for box in picture.boxes:
        _box(axes, box)
    figure.savefig(path, dpi=DENSITY * INCH, format="png")


def _arrow(axes: Axes, arrow: PlacedArrow) -> None:
    points = [arrow.points[0], *(point for curve in arrow.curves for point in curve)]
    codes = [curves.Path.MOVETO] + [curves.Path.CURVE4] * (len(points) - 1)
    style = (0, (5, 4)) if arrow.dashed else "solid"
    outline = curves.Path(points, codes)
    axes.add_patch(PathPatch(outline, fill=False, edgecolor="black", alpha=INK, linewidth=0.72, linestyle=style))
    axes.add_patch(Polygon(arrow.head, facecolor="black", alpha=INK, linewidth=0))


def _box(axes: Axes, placed: PlacedBox) -> None:
    colour = COLOURS[placed.box.kind]
    for fill, alpha in (("white", 1.0), (colour, FILL)):
        frame = FancyBboxPatch((placed.x, placed.y), placed.width, placed.height, "round,pad=0,rounding_size=4")
        frame.set(facecolor=to_rgba(fill, alpha), edgecolor=colour, linewidth=1.1)
        axes.add_patch(frame)
    for text, y, style in placed.lines:
        font = FontProperties(
            family="DejaVu Sans Mono",
            size=FONT * 72 / INCH,
            weight="bold" if style == "bold" else "normal",
            style="italic" if style == "italic" else "normal",
        )
        middle = placed.x + placed.width / 2
        axes.text(middle, y, text, fontproperties=font, ha="center", va="center_baseline", parse_math=False)
