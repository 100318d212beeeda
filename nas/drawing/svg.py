"""A placed diagram as SVG text.

Colours are those of Okabe and Ito's palette, translucent, so that ink and page show through in any theme.
"""

from collections.abc import Sequence
from html import escape

from nas.drawing.layout import FONT, Picture, PlacedArrow, PlacedBox

__all__ = ["COLOURS", "FILL", "INK", "svg"]

COLOURS = {"input": "#56b4e9", "block": "#e69f00", "fixed": "#999999", "output": "#009e73"}
"""The colour of each kind of box."""
FILL, INK = 0.2, 0.7  # opacity of boxes and of arrows
STYLES = {"": "", "bold": ' font-weight="bold"', "italic": ' font-style="italic"'}
FAMILY = "'DejaVu Sans Mono', ui-monospace, Menlo, Consolas, monospace"


def svg(picture: Picture, label: str) -> str:
    """The text of an SVG image.

    Args:
        picture: what to draw.
        label: the image's name for those who do not see it.
    """
    size = f'width="{picture.width:.0f}" height="{picture.height:.0f}"'
    view = f'viewBox="0 0 {picture.width:.0f} {picture.height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} role="img" aria-label="{escape(label)}" '
        f'font-family="{FAMILY}" font-size="{FONT:g}" fill="currentColor" '
        'text-anchor="middle" dominant-baseline="central">',
        *map(_arrow, picture.arrows),
        *map(_box, picture.boxes),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _box(placed: PlacedBox) -> str:
    colour, middle = COLOURS[placed.box.kind], placed.x + placed.width / 2
    frame = f'x="{placed.x:.1f}" y="{placed.y:.1f}" width="{placed.width:.1f}" height="{placed.height:.1f}" rx="4"'
    look = f'fill="{colour}" fill-opacity="{FILL}" stroke="{colour}" stroke-width="1.5"'
    texts = (
        f'<text x="{middle:.1f}" y="{y:.1f}"{STYLES[style]}>{escape(text)}</text>' for text, y, style in placed.lines
    )
    return f"<g><rect {frame} {look}/>{''.join(texts)}</g>"


def _arrow(arrow: PlacedArrow) -> str:
    curves = "".join(f"C{_points(curve)}" for curve in arrow.curves)
    dashes = ' stroke-dasharray="5 4"' if arrow.dashed else ""
    return (
        f'<g opacity="{INK}"><path d="M{_points(arrow.points[:1])}{curves}" fill="none" stroke="currentColor"{dashes}/>'
        f'<path d="M{_points(arrow.head)}Z"/></g>'
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
