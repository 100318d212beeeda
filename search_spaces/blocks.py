"""Spaces of blocks over a growing pool of feature maps: their choices and their one agreed spelling.

A block takes two maps of the pool, applies an operation to each and aggregates the two; the result joins the pool. Five
tokens spell it: two inputs, two operations, the aggregation.

One network has several spellings, because some things in a spelling do not matter. Take a pool of C3, C4, C5 and the
aggregation sum: ``sum(skip of C4, conv of C3)`` is the same block as ``sum(conv of C3, skip of C4)``; and two blocks b1
and b2 that do not take each other may change their numbers, as long as later blocks follow. Of all spellings of a
network the agreed one is the least: that whose tokens, read from left to right, come first in the order of tuples. So
the first block above is spelled with C3 (token 0) before C4 (token 1).
"""

from collections.abc import Collection, Mapping

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
    least: list[int] = []
    # The new names of the maps so far, one dict for each order of blocks that spells them least: from block to block
    # the orders that go on with more than the least are left behind.
    ways = [{name: name for name in range(inputs)}]
    for number in range(len(blocks)):
        ahead = range(free) if number < free else [number]
        steps = [
            (_spelled(blocks[old], names, commutative), old, names)
            for names in ways
            for old in ahead
            if inputs + old not in names and blocks[old][0] in names and blocks[old][1] in names
        ]
        block = min(spelled for spelled, _, _ in steps)
        ways = [names | {inputs + old: inputs + number} for spelled, old, names in steps if spelled == block]
        least += block
    return tuple(least)


def _spelled(block: Tokens, names: Mapping[int, int], commutative: Collection[int]) -> Tokens:
    """A block whose inputs are called by these names, its pairs in their least order if it commutes."""
    x1, x2, op1, op2, agg = block
    x1, x2 = names[x1], names[x2]
    if agg in commutative and (x2, op2) < (x1, op1):
        x1, x2, op1, op2 = x2, x1, op2, op1
    return x1, x2, op1, op2, agg
