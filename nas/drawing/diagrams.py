"""What is drawn of an architecture: boxes with rows, and arrows from row to row.

Every registered space has its diagram in `DIAGRAMS`; a user's own space is drawn as a table of its choices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from search_spaces import Architecture
from search_spaces.video.choices import ARCH2_CELL, ARCH2_JOINED, ARCH2_LEVELS, ARCH2_MERGES

__all__ = ["DIAGRAMS", "Arrow", "Box", "Diagram", "Kind", "diagram_of"]

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


def diagram_of(architecture: Architecture) -> Diagram:
    """The diagram of an architecture of any space."""
    return DIAGRAMS.get(architecture.space.name, _choices)(architecture)


def _choices(architecture: Architecture) -> Diagram:
    rows = tuple(f"{choice}: {option}" for choice, option in architecture.named.items())
    return Diagram([Box(architecture.space.name, rows, kind="block")])


def _blocks(diagram: Diagram, named: Mapping[str, str], name: str, result: str, inputs: Mapping[str, Port]) -> set[str]:
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


def _fcos(architecture: Architecture) -> Diagram:
    named = architecture.named
    levels = next((c.options for c in architecture.space.choices if c.name == "fpn.1.x1"), ("C3", "C4", "C5"))
    pyramid = ("P3", "P4", "P5", "P6: conv3x3 of P5", "P7: conv3x3 of P6")
    diagram = Diagram([Box("backbone", levels, kind="input"), Box("pyramid", pyramid)])
    inputs: dict[str, Port] = {level: ("backbone", row) for row, level in enumerate(levels)}
    if "fpn.1.x1" in named:
        dangling = _blocks(diagram, named, "fpn", "b", inputs)
        for row, output in enumerate(("b7", "b6", "b5")):
            diagram.connect(output, ("pyramid", row))
            for block in sorted(dangling - {"b5", "b6", "b7"}):
                diagram.connect(block, ("pyramid", row), dashed=True)
    else:
        diagram.boxes.append(Box("standard FPN", ("conv1x1, conv3x3",) * len(levels), "sum from the top down"))
        for row, level in enumerate(levels):
            diagram.connect(inputs[level], ("standard FPN", row))
            diagram.connect(("standard FPN", row), ("pyramid", row))
    _head(diagram, named)
    return diagram


def _head(diagram: Diagram, named: Mapping[str, str]) -> None:
    """The head: its layers in sequence, the same in the class tower and in the box tower."""
    operations = [value for name, value in named.items() if name.startswith("head.") and name.endswith(".op")]
    searched = bool(operations)
    share = int(named["head.share"]) if searched else 0
    layers = [
        f"{i}. {op} ({'per level' if i <= share else 'shared'})"
        for i, op in enumerate(operations or ["conv3x3"] * 4, start=1)
    ]
    title = "head, two towers" if searched else "standard head, two towers"
    diagram.boxes.append(Box(title, tuple(layers), "one for classes, one for boxes", "block" if searched else "fixed"))
    diagram.boxes.append(Box("detections", ("classes", "centerness", "boxes"), kind="output"))
    diagram.connect("pyramid", title)
    diagram.connect(title, "detections")


def _cell(architecture: Architecture) -> Diagram:
    diagram = Diagram([Box("previous frame", ("C5", "dec"), kind="input")])
    diagram.boxes.append(Box("current frame", ("C3", "C4", "C5"), kind="input"))
    inputs: dict[str, Port] = {
        "prev_C5": ("previous frame", 0),
        "prev_dec": ("previous frame", 1),
        **{level: ("current frame", row) for row, level in enumerate(("C3", "C4", "C5"))},
    }
    dangling = _blocks(diagram, architecture.named, "cell", "c", inputs)
    for block in sorted(dangling):
        diagram.connect(block, ("output", 0), dashed=True)
    _output(diagram, ("to the classifier", "to the next frame"))
    return diagram


def _output(diagram: Diagram, uses: tuple[str, ...]) -> None:
    diagram.boxes += [Box("output", ("concat",), "conv1x1"), Box("dec", uses, kind="output")]
    diagram.connect("output", "dec")


def _arch2(architecture: Architecture) -> Diagram:
    """The decoder, and below it the contextual cell that stands before each of its sums."""
    diagram = Diagram([Box("encoder", ARCH2_LEVELS, kind="input")])
    for name, pair in ARCH2_MERGES.items():
        diagram.boxes.append(Box(name, ("contextual cell",) * 2, "sum"))
        for row, x in enumerate(pair):
            diagram.connect(("encoder", ARCH2_LEVELS.index(x)) if x in ARCH2_LEVELS else x, (name, row))
    for name in ARCH2_JOINED:
        diagram.connect(name, ("output", 0))
    _output(diagram, ("to the classifier",))
    diagram.boxes += [Box("contextual cell", ("a map",), kind="input"), Box("its output", ("sum",), kind="output")]
    for result, (operation, source) in ARCH2_CELL.items():
        diagram.boxes.append(Box(result, (operation,)))
        diagram.connect("contextual cell" if source == "x" else source, (result, 0))
        diagram.connect(result, ("its output", 0))
    return diagram


DIAGRAMS: dict[str, Callable[[Architecture], Diagram]] = {
    **dict.fromkeys(("fcos_fpn", "fcos_fpn_c2", "fcos_head", "fcos_decoder", "fcos_decoder_c2", "fpn_fcos"), _fcos),
    **dict.fromkeys(("video_cell", "video_cell_4"), _cell),
    "arch2": _arch2,
}
"""The diagram of every registered space, by its name."""
