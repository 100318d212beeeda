"""The head space of NAS-FCOS: six operations in sequence and the layer from which on the levels share weights.

Source: Wang et al., NAS-FCOS, CVPR 2020, sec. 3.2; H. Chen's thesis, sec. 7.3.2.
"""

from search_spaces.options import HEAD_OPERATIONS
from search_spaces.space import Choice, SearchSpace

__all__ = ["FCOS_HEAD", "LAYERS", "head_canonical", "head_choices"]

LAYERS = 6
Tokens = tuple[int, ...]


def head_choices() -> tuple[Choice, ...]:
    """The six operations and the sharing index: layers before it (counted from 0) have weights per level."""
    operations = (Choice(f"head.{i}.op", "head_op", HEAD_OPERATIONS) for i in range(1, LAYERS + 1))
    return (*operations, Choice("head.share", "share", tuple(str(i) for i in range(LAYERS + 1))))


def head_canonical(tokens: Tokens) -> Tokens:
    """Skips moved to the end; the sharing index counts the layers that are not skips."""
    *operations, share = tokens
    skip = HEAD_OPERATIONS.index("skip")
    layers = [token for token in operations if token != skip]
    before = sum(token != skip for token in operations[:share])
    return (*layers, *[skip] * (LAYERS - len(layers)), before)


FCOS_HEAD = SearchSpace(
    "fcos_head", head_choices(), "search_spaces.fcos_builders:build_searched_head", head_canonical, proxy_task="fcos"
)
