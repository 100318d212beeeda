"""Mask heads as diagrams: a box a stage with its operations, and what flows between them."""

from search_spaces.diagram import Box, Diagram
from search_spaces.masks.choices import OPERATIONS, places_of
from search_spaces.space import Architecture

__all__ = ["diagram"]

_WORDS = {"flow": "on the flow", "convs": "before the split", "deconv": "before the deconvolution"}


def diagram(architecture: Architecture) -> Diagram:
    """The diagram of a mask branch, drawn as it is built: attention that touches nothing is left out."""
    named = architecture.canonical.named
    count = sum(name.endswith(".place") for name in named)
    fused = [named.get(f"mask.{stage}.semantic") == "yes" for stage in range(1, count + 1)]
    diagram = Diagram([Box("RoIs", ("pyramid", "semantic") if any(fused) else ("pyramid",), kind="input")])
    for stage in range(1, count + 1):
        operations = [named[f"mask.{stage}.op{number}"] for number in range(1, OPERATIONS + 1)]
        rows = [f"{number}. {operation}" for number, operation in enumerate(operations, start=1)]
        kind, places = named[f"mask.{stage}.attention"], places_of(named[f"mask.{stage}.place"])
        words = " and ".join(_WORDS[place] for place in _WORDS if place in places)
        title = f"mask stage {stage}"
        footer = f"{kind} attention {words}" if places else "no attention"
        diagram.boxes.append(Box(title, tuple(rows), footer, "block"))
        diagram.connect(("RoIs", 0), title)
        if fused[stage - 1]:
            diagram.connect(("RoIs", 1), title)
        if named.get(f"mask.{stage}.flow") == "yes":
            diagram.connect(f"mask stage {stage - 1}", title)
        diagram.connect(title, ("masks", stage - 1))
    diagram.boxes.append(Box("masks", tuple(f"of stage {stage}" for stage in range(1, count + 1)), kind="output"))
    return diagram
