"""Which blocks of an FPN give the pyramid: the text's rule and that of the authors' code."""

import numpy as np
import pytest
import torch

import search_spaces
from search_spaces.fcos.choices import fpn_outputs
from search_spaces.space import Architecture

SPACES = ["fcos_fpn", "fcos_fpn_unconsumed", "fcos_fpn_c2_unconsumed"]


def wired(space, *pairs):
    """An FPN of skips and sums with these inputs, a pair a block."""
    named = {}
    for i, (x1, x2) in enumerate(pairs, start=1):
        named |= {f"fpn.{i}.x1": x1, f"fpn.{i}.x2": x2, f"fpn.{i}.op1": "sep3x3", f"fpn.{i}.op2": "skip"}
        named[f"fpn.{i}.agg"] = "sum"
    return search_spaces.get(space).from_named(named)


C34 = ("C3", "C4")


def test_by_the_text_the_last_three_blocks_are_the_outputs_and_what_is_not_taken_of_the_others_is_added():
    fpn = wired("fcos_fpn", C34, C34, C34, ("b1", "C5"), ("b2", "b4"), ("b5", "C3"), ("b6", "C3"))
    assert fpn_outputs(fpn) == (("b7", "b6", "b5"), ["b3"])


def test_by_the_code_they_are_the_last_three_that_no_block_takes():
    pairs = [C34, C34, C34, ("b1", "C5"), ("b2", "b4"), ("b5", "C3"), C34]
    assert fpn_outputs(wired("fcos_fpn_unconsumed", *pairs)) == (("b7", "b6", "b3"), [])
    assert fpn_outputs(wired("fcos_fpn_unconsumed", *[C34] * 7)) == (("b7", "b6", "b5"), ["b1", "b2", "b3", "b4"])


def test_where_fewer_are_free_the_last_of_the_rest_join_them():
    chain = [C34, *((f"b{i}", "C3") for i in range(1, 7))]
    assert fpn_outputs(wired("fcos_fpn_unconsumed", *chain)) == (("b7", "b6", "b5"), [])


def test_the_published_network_is_the_same_by_both_rules():
    published = Architecture.load("experiments/published/nas_fcos_fpn.json")
    other = search_spaces.get("fcos_fpn_c2_unconsumed").architecture(published.tokens)
    assert fpn_outputs(published) == fpn_outputs(other) == (("b7", "b6", "b5"), ["b3"])


@pytest.mark.parametrize("space", SPACES)
def test_the_agreed_spelling_computes_the_same(space):
    """Weights are those of the blocks that correspond, so outputs are equal; skips and sums alone need none."""
    rng = np.random.default_rng(0)
    found = search_spaces.get(space)
    skip, channels = found.choices[2].options.index("skip"), {"C2": 4, "C3": 4, "C4": 4, "C5": 4}
    features = {level: torch.rand(1, 4, 32 >> i, 32 >> i) for i, level in enumerate(channels)}
    for _ in range(40):
        tokens = list(found.sample(rng).tokens)
        for i in range(7):
            tokens[5 * i + 2 : 5 * i + 5] = skip, skip, 0
        fpn = found.architecture(tokens)
        outputs = []
        for spelling in (fpn, fpn.canonical):
            torch.manual_seed(0)
            built = spelling.build(in_channels=channels, num_classes=1, fpn_width=4, head_width=4).eval()
            outputs.append(built.fpn(features))
        for level in ("P3", "P4", "P5"):
            assert torch.allclose(outputs[0][level], outputs[1][level], atol=1e-5)
