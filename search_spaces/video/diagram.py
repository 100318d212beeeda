"""Dynamic cells, and the static network arch2, as diagrams."""

from search_spaces.diagram import Box, Diagram, Port, add_blocks
from search_spaces.space import Architecture
from search_spaces.video.choices import ARCH2_CELL, ARCH2_JOINED, ARCH2_LEVELS, ARCH2_MERGES

__all__ = ["diagram"]


def diagram(architecture: Architecture) -> Diagram:
    """The diagram of a cell, or of arch2, which has no choices."""
    return _cell(architecture) if len(architecture.space) else _arch2()


def _cell(architecture: Architecture) -> Diagram:
    diagram = Diagram([Box("previous frame", ("C5", "dec"), kind="input")])
    diagram.boxes.append(Box("current frame", ("C3", "C4", "C5"), kind="input"))
    inputs: dict[str, Port] = {
        "prev_C5": ("previous frame", 0),
        "prev_dec": ("previous frame", 1),
        **{level: ("current frame", row) for row, level in enumerate(("C3", "C4", "C5"))},
    }
    dangling = add_blocks(diagram, architecture.named, "cell", "c", inputs)
    for block in sorted(dangling):
        diagram.connect(block, ("output", 0), dashed=True)
    _output(diagram, ("to the classifier", "to the next frame"))
    return diagram


def _output(diagram: Diagram, uses: tuple[str, ...]) -> None:
    diagram.boxes += [Box("output", ("concat",), "conv1x1"), Box("dec", uses, kind="output")]
    diagram.connect("output", "dec")


def _arch2() -> Diagram:
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
