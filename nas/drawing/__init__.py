"""Architectures drawn as graphs that a person can read: inputs on the left, outputs on the right, blocks in between.

An arrow ends at the operation that its map goes through; arrows of results that no block takes are dashed.
"""

from pathlib import Path

from experiments.families import family_of
from search_spaces import Architecture
from search_spaces.diagram import Diagram, table_of_choices

__all__ = ["diagram_of", "draw", "write_png"]


def diagram_of(architecture: Architecture) -> Diagram:
    """The diagram that an architecture's family makes; of a space that no family declares a table of its choices."""
    family = family_of(architecture.space)
    make = family.function("diagram") if architecture.space.name in family.spaces else None
    diagram: Diagram = (make or table_of_choices)(architecture)
    return diagram


def draw(architecture: Architecture) -> str:
    """The drawing as the text of an SVG image: ink in ``currentColor``, no background, nothing fetched.

    It may stand in a page of any colours; an architecture of a space without a diagram of its own is a table of its
    choices.
    """
    from nas.drawing.layout import arrange
    from nas.drawing.svg import svg

    return svg(arrange(diagram_of(architecture)), f"{architecture.space.name} {architecture.key}")


def write_png(architecture: Architecture, path: Path) -> None:
    """The same drawing as a PNG file on white; raises `OSError` where it cannot be written."""
    from nas.drawing.layout import arrange
    from nas.drawing.png import write

    write(arrange(diagram_of(architecture)), path)
