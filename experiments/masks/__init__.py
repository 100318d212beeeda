"""Networks with mask heads: what the front door knows of them."""

from experiments.families import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="masks",
    spaces=("mask_head", "mask_head_single"),
    trials={"demo": {1: (24,)}},  # within eight minutes on two cores
    metric="COCO mask AP",
    measure="ap",
    backbone="efficientnet_lite0",
    references=("htc", "htca_if", "htca_c", "htca_d", "mask_rcnn", "centermask"),
    samples="proxy_tasks.data.images.samples:samples",
    graphs="experiments.masks.graphs:graphs",
    predictor="experiments.masks.predicting:load",
    diagram="search_spaces.masks.diagram:diagram",
    plotted=("ap", "ap50", "ap75", "box_ap"),
)
