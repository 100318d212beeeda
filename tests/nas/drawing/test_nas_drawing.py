"""Drawings of every space: what they say of the architecture, and that nothing lies upon anything else."""

import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from PIL import Image

import search_spaces
from experiments import published
from experiments.families import FAMILIES
from nas.drawing import diagram_of, draw, write_png
from nas.drawing.layout import ADVANCE, FONT, arrange
from nas.drawing.svg import COLOURS
from search_spaces import Choice, SearchSpace
from search_spaces.fcos.choices import split

SIZES = {"C2": 8, "C3": 8, "C4": 8, "C5": 8}
every_space = pytest.mark.parametrize("name", search_spaces.names())
every_published = pytest.mark.parametrize("name", published.names())


def sampled(name, seed=0):
    return search_spaces.get(name).sample(np.random.default_rng(seed))


SVG = "{http://www.w3.org/2000/svg}"


def texts(svg, kinds=tuple(COLOURS)):
    """The lines of text in the boxes of these kinds."""
    boxes = [group for group in ET.fromstring(svg).iter(f"{SVG}g") if group.find(f"{SVG}rect") is not None]
    colours = [COLOURS[kind] for kind in kinds]
    wanted = [box for box in boxes if box.find(f"{SVG}rect").get("fill") in colours]
    return [text.text for box in wanted for text in box.iter(f"{SVG}text")]


def test_every_registered_space_has_a_family_with_a_diagram():
    families = [FAMILIES.get(name) for name in FAMILIES.names()]
    assert sorted(space for family in families for space in family.spaces) == sorted(search_spaces.names())
    assert all(family.function("diagram") for family in families)
    for family in families:
        assert {search_spaces.get(space).proxy_task for space in family.spaces} == {family.name}


@every_space
def test_every_operation_and_aggregation_is_named_as_often_as_it_is_chosen(name):
    architecture = sampled(name)
    shown = [re.sub(r"^\d\. | \((per level|shared)\)$", "", text) for text in texts(draw(architecture), ["block"])]
    chosen = [option for choice, option in architecture.named.items() if re.search(r"\.(op\d?|agg)$", choice)]
    for option in set(chosen):
        assert shown.count(option) == chosen.count(option), option


@every_space
def test_an_arrow_per_input_and_a_dashed_one_per_dangling_result_and_output(name):
    architecture = sampled(name, seed=1)
    diagram = diagram_of(architecture)
    named = architecture.named
    blocks = {arrow.target: arrow.source for arrow in diagram.arrows if re.fullmatch(r"[bc]\d", arrow.target[0])}
    titles = {box.title: box for box in diagram.boxes}
    for (block, row), (source, port) in blocks.items():
        key = {"b": "fpn", "c": "cell"}[block[0]] + f".{block[1]}.x{row + 1}"
        spoken = titles[source].rows[port] if port is not None else source
        assert named[key] == ("prev_" if source == "previous frame" else "") + spoken
    assert len(blocks) == sum(choice.endswith((".x1", ".x2")) for choice in named)

    dashed = [arrow.source[0] for arrow in diagram.arrows if arrow.dashed]
    if name.startswith("video_cell"):
        assert dashed == sorted(architecture.build(in_channels=SIZES, width=8).dangling)
    elif name.startswith(("fcos_fpn", "fcos_decoder")):
        fpn = split(architecture)[0] if name.startswith("fcos_decoder") else architecture
        dangling = fpn.build(in_channels=SIZES, num_classes=2, fpn_width=8, head_width=8).fpn.dangling
        assert sorted(dashed) == sorted(3 * dangling)
    else:
        assert dashed == []


def test_the_head_says_which_layers_share_their_weights():
    named = {f"head.{i}.op": "conv3x3" for i in range(1, 7)} | {"head.share": "2"}
    shown = texts(draw(search_spaces.get("fcos_head").from_named(named)))
    assert [text for text in shown if "level" in text] == ["1. conv3x3 (per level)", "2. conv3x3 (per level)"]
    assert sum(text.endswith("(shared)") for text in shown) == 4


def boxes_and_passages(picture):
    boxes = [(box.x, box.y, box.x + box.width, box.y + box.height) for box in picture.boxes]
    level = [pair for arrow in picture.arrows for pair in list(pairwise(arrow.points))[1::2]]
    return boxes, [(x, y, to_x, y) for (x, y), (to_x, _) in level]


def apart(a, b):
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@every_space
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_boxes_and_arrows_keep_apart_and_arrows_run_to_the_right(name, seed):
    picture = arrange(diagram_of(sampled(name, seed)))
    boxes, passages = boxes_and_passages(picture)
    assert all(apart(a, b) for a, b in combinations(boxes, 2))
    assert all(apart(box, passage) for box in boxes for passage in passages)
    for x, y, right, bottom in boxes:
        assert 0 <= x < right <= picture.width
        assert 0 <= y < bottom <= picture.height
    for arrow in picture.arrows:
        assert all(x < to_x for (x, _), (to_x, _) in pairwise(arrow.points))
        assert all(0 <= y <= picture.height for _, y in arrow.points)


@every_space
def test_inputs_stand_on_the_left_and_outputs_on_the_right(name):
    picture = arrange(diagram_of(sampled(name)))
    kinds = {kind: [box for box in picture.boxes if box.box.kind == kind] for kind in COLOURS}
    others = kinds["block"] + kinds["fixed"]
    assert max(box.x + box.width for box in kinds["input"]) < min(box.x for box in others)
    assert max(box.x for box in picture.boxes) == max(box.x for box in kinds["output"])


@every_published
def test_every_published_architecture_in_ink_of_the_page(name):
    svg = draw(published.load(name))
    root = ET.fromstring(svg)
    assert root.get("fill") == "currentColor"
    fills = {element.get("fill") for element in root.iter()} - {None}
    assert fills <= {"currentColor", "none", *COLOURS.values()}
    assert "url(" not in svg
    assert "href" not in svg
    assert root.get("aria-label").startswith(published.load(name).space.name)


@pytest.mark.parametrize(("weight", "style"), [("bold", "normal"), ("normal", "italic"), ("normal", "normal")])
def test_no_character_is_wider_than_the_layout_thinks(weight, style):
    text = "standard head, two towers: sep5x5_dil6 (per level) concat_interleaved"
    font = FontProperties(family="DejaVu Sans Mono", weight=weight, style=style)
    path = TextPath((0, 0), text, size=FONT, prop=font)
    assert path.get_extents().width <= len(text) * ADVANCE


def test_a_png_is_the_same_picture(tmp_path):
    architecture = published.load("nas_fcos_head")
    picture = arrange(diagram_of(architecture))
    write_png(architecture, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (int(2 * picture.width), int(2 * picture.height))
        pixels = np.asarray(image.convert("RGB"))
    assert tuple(pixels[0, 0]) == (255, 255, 255)
    for placed in picture.boxes:
        inside = pixels[int(2 * (placed.y + 4)), int(2 * (placed.x + placed.width / 2))] / 255
        colour = np.array([int(COLOURS[placed.box.kind][i : i + 2], 16) / 255 for i in (1, 3, 5)])
        np.testing.assert_allclose(inside, 1 - 0.2 * (1 - colour), atol=0.02)


def test_a_space_of_ones_own_is_a_table_and_its_names_are_escaped():
    space = SearchSpace("<b>mine</b>", (Choice("a&b", "op", ("<script>", "x")), Choice("c", "op", ("y", '"'))))
    svg = draw(space.architecture((0, 1)))
    assert texts(svg) == ["<b>mine</b>", "a&b: <script>", 'c: "']
    assert "<script>" not in svg
    assert ET.fromstring(svg).get("aria-label").startswith("<b>mine</b> ")
