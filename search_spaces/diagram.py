"""What is drawn of an architecture: boxes with rows, and arrows from row to row.

Every family makes the diagrams of its spaces, in its wing; any other architecture is drawn as a table of its choices.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from search_spaces.space import Architecture

__all__ = ["Arrow", "Box", "Diagram", "Kind", "Port", "add_blocks", "table_of_choices"]

Kind = str
"""What a box is: ``input``, ``block``, ``fixed`` (no choice made it) or ``output``."""
Port = tuple[str, int | None]
"""A box's name and one of its rows, or None for the box as a whole."""


@dataclass(frozen=True)
class Box:
    """A box.

    Args:
        title: its name, unique in the diagram.
        rows: lines that arrows may end at or start from.
        footer: a last line, such as the aggregation.
        kind: see `Kind`.
    """

    title: str
    rows: tuple[str, ...] = ()
    footer: str = ""
    kind: Kind = "fixed"


@dataclass(frozen=True)
class Arrow:
    """A feature map that goes from one box to another; dashed where no choice took it there."""

    source: Port
    target: Port
    dashed: bool = False


@dataclass
class Diagram:
    """Boxes, and arrows between them without a cycle."""

    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)

    def connect(self, source: str | Port, target: str | Port, dashed: bool = False) -> None:
        """Adds an arrow; a box's name alone stands for the whole box."""
        ends = [(end, None) if isinstance(end, str) else end for end in (source, target)]
        self.arrows.append(Arrow(ends[0], ends[1], dashed))


def table_of_choices(architecture: Architecture) -> Diagram:
    """One box with a row for every choice and the option taken."""
    rows = tuple(f"{choice}: {option}" for choice, option in architecture.named.items())
    return Diagram([Box(architecture.space.name, rows, kind="block")])


def add_blocks(
    diagram: Diagram, named: Mapping[str, str], name: str, result: str, inputs: Mapping[str, Port]
) -> set[str]:
    """Adds the blocks that the choices ``name.1.x1``, … spell; returns the results that no block takes."""
    sources = dict(inputs)
    results: list[str] = []
    taken: set[str] = set()
    while f"{name}.{len(results) + 1}.agg" in named:
        number = len(results) + 1
        block = f"{result}{number}"
        rows = (named[f"{name}.{number}.op1"], named[f"{name}.{number}.op2"])
        diagram.boxes.append(Box(block, rows, named[f"{name}.{number}.agg"], "block"))
        for row, x in enumerate((named[f"{name}.{number}.x1"], named[f"{name}.{number}.x2"])):
            diagram.connect(sources[x], (block, row))
            taken.add(x)
        sources[block] = (block, None)
        results.append(block)
    return set(results) - taken
