"""The names of all options that stand for modules, without the modules.

Source: Wang et al., "NAS-FCOS: Fast Neural Architecture Search for Object Detection", CVPR 2020, table 1 and sec. 3.2;
H. Chen's thesis, tables 6.1 and 6.2 (video). `search_spaces.parts.operations`, `search_spaces.parts.aggregations` and
`search_spaces.video.aggregations` make what the names stand for.
"""

__all__ = [
    "AGGREGATIONS",
    "COMMUTATIVE",
    "FPN_OPERATIONS",
    "HEAD_OPERATIONS",
    "LINEAR_FPN_OPERATIONS",
    "MASK_OPERATIONS",
    "OPERATIONS",
    "VIDEO_AGGREGATIONS",
    "VIDEO_OPERATIONS",
]

FPN_OPERATIONS = ("sep3x3", "sep3x3_dil3", "sep5x5_dil6", "skip", "dconv3x3")
HEAD_OPERATIONS = (*FPN_OPERATIONS, "conv1x1", "conv3x3")
LINEAR_FPN_OPERATIONS = (*FPN_OPERATIONS, "linear3x3")
"""With the standard FPN's own 3×3 convolution, which has no norm and no ReLU; not of the paper."""
MASK_OPERATIONS = ("conv3x3", "conv1x1", "sep3x3", "sep3x3_dil3", "dconv3x3", "skip")
"""Those of mask heads, which `search_spaces.masks.head` makes: without a norm, with a bias."""
VIDEO_OPERATIONS = ("sep3x3", "gap", "sep3x3_dil3", "sep5x5_dil6", "skip", "dconv3x3")
OPERATIONS = (*HEAD_OPERATIONS, "conv3x3_dil3", "gap", "linear3x3")
"""All that `operations.make_operation` makes."""

AGGREGATIONS = ("sum", "concat")
"""Those of the FPN space; `aggregations.make_aggregation` also makes "concat_interleaved"."""
VIDEO_AGGREGATIONS = ("sum", "concat", "predictive", "bilinear", "conv3d", "attention")
"""Those of the dynamic cell, in the order of table 6.2."""
COMMUTATIVE = frozenset(("sum", "conv3d"))
"""Aggregations that compute the same with their maps, and their weights for each, exchanged."""
