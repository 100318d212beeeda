"""Where a diagram's boxes and arrows go: layers from left to right by Sugiyama's method.

The order within the layers is igraph's; heights then follow by least squares: each box, and each arrow where it passes
a layer, is drawn towards what it is connected to, while the order and the distances are kept.

Lengths are in pixels, x to the right, y down. All text is in a monospaced font of `FONT` pixels, so that a line's width
is known without the font.
"""

from dataclasses import dataclass
from itertools import pairwise

import igraph
import numpy as np
from scipy.optimize import isotonic_regression

from search_spaces.diagram import Box, Diagram

__all__ = ["FONT", "LINE", "Picture", "PlacedArrow", "PlacedBox", "arrange"]

FONT = 12.0
LINE = 18.0  # between two lines of text
ADVANCE = 0.602 * FONT  # a character's width in DejaVu Sans Mono, the widest of the usual monospaced fonts
PADDING = 8.0  # around a box's text
BETWEEN = 18.0  # the least distance of boxes and passing arrows in one layer
CHANNEL = 64.0  # between two layers, where arrows bend
HEAD = 7.0
MARGIN = 10.0
ROUNDS = 30
Point = tuple[float, float]
_Joint = tuple[int, float, int, float]
"""Two items that an arrow joins, each with how far below its middle."""


@dataclass(frozen=True)
class PlacedBox:
    """A box, its upper left corner and its size."""

    box: Box
    x: float
    y: float
    width: float
    height: float

    @property
    def lines(self) -> list[tuple[str, float, str]]:
        """Every line of text, the y of its middle, and its style: ``bold`` (title), ``italic`` (footer) or none."""
        styles = {0: "bold", len(self.box.rows) + 1: "italic"}
        texts = _texts(self.box)
        return [(text, self.y + PADDING + (i + 0.5) * LINE, styles.get(i, "")) for i, text in enumerate(texts)]


@dataclass(frozen=True)
class PlacedArrow:
    """A smooth curve through points, level at each of them, with a head at the last."""

    points: tuple[Point, ...]
    dashed: bool

    @property
    def curves(self) -> list[tuple[Point, Point, Point]]:
        """Cubic Bézier curves from point to point: two control points and the end."""
        bends = pairwise(self.points)
        return [(((x + to_x) / 2, y), ((x + to_x) / 2, to_y), (to_x, to_y)) for (x, y), (to_x, to_y) in bends]

    @property
    def head(self) -> tuple[Point, Point, Point]:
        """The triangle at the last point."""
        x, y = self.points[-1]
        return (x - HEAD, y - HEAD / 2), (x, y), (x - HEAD, y + HEAD / 2)


@dataclass(frozen=True)
class Picture:
    """A diagram with places."""

    width: float
    height: float
    boxes: tuple[PlacedBox, ...]
    arrows: tuple[PlacedArrow, ...]


def arrange(diagram: Diagram) -> Picture:
    """Places the boxes of a diagram and routes its arrows past them."""
    numbers = {box.title: i for i, box in enumerate(diagram.boxes)}
    assert len(numbers) == len(diagram.boxes), "titles are unique"
    layers = _layers(len(numbers), [(numbers[arrow.source[0]], numbers[arrow.target[0]]) for arrow in diagram.arrows])
    column = [
        max(_width(b) for b, at in zip(diagram.boxes, layers, strict=True) if at == i) for i in range(max(layers) + 1)
    ]
    left = [MARGIN + sum(column[:i]) + CHANNEL * i for i in range(len(column))]

    chains = []  # an arrow's items: the box it leaves, one for every layer that it passes, the box it reaches
    for arrow in diagram.arrows:
        a, b = numbers[arrow.source[0]], numbers[arrow.target[0]]
        passed = range(layers[a] + 1, layers[b])
        chains.append([a, *range(len(layers), len(layers) + len(passed)), b])
        layers += passed
    middle = _heights(diagram, layers, chains)
    boxes = tuple(
        PlacedBox(box, left[at] + (column[at] - _width(box)) / 2, y - _height(box) / 2, _width(box), _height(box))
        for box, at, y in zip(diagram.boxes, layers, middle, strict=False)
    )
    arrows = []
    for arrow, (a, *between, b) in zip(diagram.arrows, chains, strict=True):
        points = [(boxes[a].x + boxes[a].width, middle[a] + _port(boxes[a].box, arrow.source[1]))]
        for item in between:
            x = left[layers[item]]
            points += [(x, middle[item]), (x + column[layers[item]], middle[item])]
        points.append((boxes[b].x, middle[b] + _port(boxes[b].box, arrow.target[1])))
        arrows.append(PlacedArrow(tuple(points), arrow.dashed))
    height = max([box.y + box.height for box in boxes] + [y for arrow in arrows for _, y in arrow.points]) + MARGIN
    return Picture(left[-1] + column[-1] + MARGIN, height, boxes, tuple(arrows))


def _layers(boxes: int, edges: list[tuple[int, int]]) -> list[int]:
    """Every box as far to the left as its arrows let it."""
    graph = igraph.Graph(boxes, edges, directed=True)
    layers = [0] * boxes
    for vertex in graph.topological_sorting():
        layers[vertex] = max((layers[before] + 1 for before in graph.predecessors(vertex)), default=0)
    return layers


def _heights(diagram: Diagram, layers: list[int], chains: list[list[int]]) -> list[float]:
    """The y of every item's middle: of the boxes, then of the arrows where they pass a layer."""
    steps = [step for chain in chains for step in pairwise(chain)]
    graph = igraph.Graph(len(layers), steps, directed=True)
    order = np.array([x for x, _ in graph.layout_sugiyama(layers=layers)])
    half = np.zeros(len(layers))
    half[: len(diagram.boxes)] = [_height(box) / 2 for box in diagram.boxes]

    joints: list[_Joint] = []
    for arrow, (*before, last) in zip(diagram.arrows, chains, strict=True):
        out = _port(diagram.boxes[before[0]], arrow.source[1])
        into = _port(diagram.boxes[last], arrow.target[1])
        joints += [
            (a, out if a == before[0] else 0.0, b, into if b == last else 0.0) for a, b in pairwise([*before, last])
        ]
    return _settled(order, np.array(layers), half, joints)


def _settled(order: np.ndarray, layers: np.ndarray, half: np.ndarray, joints: list[_Joint]) -> list[float]:
    """Draws every item towards those it is joined to, layer by layer, until little changes."""
    y = order * 3 * LINE
    stacks = [np.flatnonzero(layers == i)[np.argsort(order[layers == i])] for i in range(layers.max() + 1)]
    for _ in range(ROUNDS):
        for stack in stacks:
            wanted = y.copy()
            for item in stack:
                pulls = [y[b] + on_b - on_a for a, on_a, b, on_b in joints if a == item]
                pulls += [y[a] + on_a - on_b for a, on_a, b, on_b in joints if b == item]
                wanted[item] = np.mean(pulls) if pulls else y[item]
            gaps = half[stack[:-1]] + half[stack[1:]] + BETWEEN
            least = np.concatenate([[0.0], np.cumsum(gaps)])
            y[stack] = isotonic_regression(wanted[stack] - least).x + least
    return [float(value) for value in y - (y - half).min() + MARGIN]


def _port(box: Box, row: int | None) -> float:
    """How far below the box's middle an arrow at a row lies."""
    return 0.0 if row is None else PADDING + (row + 1.5) * LINE - _height(box) / 2


def _texts(box: Box) -> list[str]:
    return [box.title, *box.rows, *([box.footer] if box.footer else [])]


def _width(box: Box) -> float:
    return max(len(line) for line in _texts(box)) * ADVANCE + 2 * PADDING


def _height(box: Box) -> float:
    return len(_texts(box)) * LINE + 2 * PADDING
