"""Spaces of blocks over a growing pool of feature maps: their choices and their one agreed spelling.

A block takes two maps of the pool, applies an operation to each and aggregates the two; the result joins the pool. Five
tokens spell it: two inputs, two operations, the aggregation.

One network has several spellings, because some things in a spelling do not matter. Take a pool of C3, C4, C5 and the
aggregation sum: ``sum(skip of C4, conv of C3)`` is the same block as ``sum(conv of C3, skip of C4)``; and two blocks b1
and b2 that do not take each other may change their numbers, as long as later blocks follow. Of all spellings of a
network the agreed one is the least: that whose tokens, read from left to right, come first in the order of tuples. So
the first block above is spelled with C3 (token 0) before C4 (token 1).
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
        name: the beginning of the choices' names: ``"fpn"`` makes ``"fpn.1.x1"``.
        result: the beginning of the results' names: ``"b"`` makes ``"b1"`` for the first block's.
        inputs: the names of the maps that are in the pool at the start.
        blocks: the number of blocks.
        operations: the options of every choice of an operation.
        aggs: the options of every choice of an aggregation.
    """
    choices = []
    for i in range(1, blocks + 1):
        pool = (*inputs, *(f"{result}{j}" for j in range(1, i)))
        choices += [Choice(f"{name}.{i}.{x}", "input", pool) for x in ("x1", "x2")]
        choices += [Choice(f"{name}.{i}.{op}", "op", operations) for op in ("op1", "op2")]
        choices.append(Choice(f"{name}.{i}.agg", "agg", aggs))
    return tuple(choices)


def least_spelling(tokens: Tokens, inputs: int, free: int, commutative: Collection[int]) -> Tokens:
    """The least spelling of a network of blocks, see the head of this module.

    The (input, operation) pairs of a commutative aggregation may be exchanged, and the first ``free`` blocks may be
    numbered in any order in which every block comes after those whose results it takes.

    Example: with three inputs, tokens 0 to 2, and one block whose aggregation commutes, ``(1, 0, 4, 2, 0)`` (operation
    4 of input 1, operation 2 of input 0) becomes ``(0, 1, 2, 4, 0)``.

    Args:
        tokens: any spelling of the network, five tokens for each block.
        inputs: the number of maps in the pool at the start.
        free: the number of blocks, counted from the first, that may be renumbered.
        commutative: the tokens of the aggregations that commute.
    """
    blocks = [tokens[i : i + 5] for i in range(0, len(tokens), 5)]
    needs = tuple(sorted({(x - inputs, i) for i in range(free) for x in blocks[i][:2] if x >= inputs}))
    return min(_relabelled(blocks, inputs, order, commutative) for order in _orders(free, needs))


@cache
def _orders(free: int, needs: tuple[tuple[int, int], ...]) -> tuple[Tokens, ...]:
    """All orders of the first blocks, counted from 0, in which a comes before b for every (a, b) of ``needs``."""
    return tuple(o for o in permutations(range(free)) if all(o.index(a) < o.index(b) for a, b in needs))


def _relabelled(blocks: list[Tokens], inputs: int, order: Tokens, commutative: Collection[int]) -> Tokens:
    """The spelling in which the first blocks stand in this order, every commutative block's pairs in their least."""
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
