"""Detection decoders as diagrams: the pyramid network block by block, the head layer by layer."""

from collections.abc import Mapping

from search_spaces.diagram import Box, Diagram, Port, add_blocks
from search_spaces.fcos.choices import fpn_outputs
from search_spaces.space import Architecture

__all__ = ["diagram"]


def diagram(architecture: Architecture) -> Diagram:
    """The diagram of an FPN, a head or a whole decoder; what the architecture leaves open is drawn as it is built."""
    named = architecture.named
    levels = next((c.options for c in architecture.space.choices if c.name == "fpn.1.x1"), ("C3", "C4", "C5"))
    pyramid = ("P3", "P4", "P5", "P6: conv3x3 of P5", "P7: conv3x3 of P6")
    diagram = Diagram([Box("backbone", levels, kind="input"), Box("pyramid", pyramid)])
    inputs: dict[str, Port] = {level: ("backbone", row) for row, level in enumerate(levels)}
    if "fpn.1.x1" in named:
        add_blocks(diagram, named, "fpn", "b", inputs)
        outputs, added = fpn_outputs(architecture)
        for row, output in enumerate(outputs):
            diagram.connect(output, ("pyramid", row))
            for block in added:
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
