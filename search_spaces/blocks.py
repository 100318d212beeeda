"""Spaces of blocks over a growing pool of feature maps: their choices and their one agreed spelling.

A block takes two maps of the pool, applies an operation to each and aggregates the two; the result joins the pool. Five
tokens spell it: two inputs, two operations, the aggregation.
"""

from collections.abc import Collection
from functools import cache
from itertools import permutations

from search_spaces.space import Choice

__all__ = ["block_choices", "least_spelling"]

Tokens = tuple[int, ...]


def block_choices(
    name: str, result: str, inputs: tuple[str, ...], blocks: int, operations: tuple[str, ...], aggs: tuple[str, ...]
) -> tuple[Choice, ...]:
    """The five choices of every block.

    Args:
        name: what the choices' names begin with: ``"fpn"`` makes ``"fpn.1.x1"``.
        result: what the blocks' results are called, before their number from 1.
        inputs: the pool at the start.
        blocks: how many.
        operations: options of the operations.
        aggs: options of the aggregations.
    """
    choices = []
    for i in range(1, blocks + 1):
        pool = (*inputs, *(f"{result}{j}" for j in range(1, i)))
        choices += [Choice(f"{name}.{i}.{x}", "input", pool) for x in ("x1", "x2")]
        choices += [Choice(f"{name}.{i}.{op}", "op", operations) for op in ("op1", "op2")]
        choices.append(Choice(f"{name}.{i}.agg", "agg", aggs))
    return tuple(choices)


def least_spelling(tokens: Tokens, inputs: int, free: int, commutative: Collection[int]) -> Tokens:
    """The least spelling of a network of blocks.

    Two freedoms: the (input, operation) pairs of a commutative aggregation may be exchanged, and the first blocks may
    be numbered in any order that takes inputs before they are used.

    Args:
        tokens: five per block.
        inputs: size of the pool at the start.
        free: how many of the blocks, from the first, may be renumbered.
        commutative: tokens of the aggregations that commute.
    """
    blocks = [tokens[i : i + 5] for i in range(0, len(tokens), 5)]
    needs = tuple(sorted({(x - inputs, i) for i in range(free) for x in blocks[i][:2] if x >= inputs}))
    return min(_relabelled(blocks, inputs, order, commutative) for order in _orders(free, needs))


@cache
def _orders(free: int, needs: tuple[tuple[int, int], ...]) -> tuple[Tokens, ...]:
    """All orders of the first blocks, counted from 0, in which a comes before b for every (a, b) of ``needs``."""
    return tuple(o for o in permutations(range(free)) if all(o.index(a) < o.index(b) for a, b in needs))


def _relabelled(blocks: list[Tokens], inputs: int, order: Tokens, commutative: Collection[int]) -> Tokens:
    renamed = list(range(inputs + len(blocks)))
    for new, old in enumerate(order):
        renamed[inputs + old] = inputs + new
    tokens: list[int] = []
    for old in (*order, *range(len(order), len(blocks))):
        x1, x2, op1, op2, agg = blocks[old]
        first, second = (renamed[x1], op1), (renamed[x2], op2)
        if agg in commutative and second < first:
            first, second = second, first
        tokens += (first[0], second[0], first[1], second[1], agg)
    return tuple(tokens)
