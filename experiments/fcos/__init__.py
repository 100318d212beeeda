"""Detectors of the FCOS family: what the front door knows of them."""

from experiments.families import Family

__all__ = ["FAMILY"]

FAMILY = Family(
    name="fcos",
    spaces=(
        *("fcos_decoder", "fcos_fpn", "fcos_head", "fcos_decoder_c2", "fcos_fpn_c2", "fpn_fcos"),
        *("deform_fpn_fcos", "fpn_retinanet"),
        *("fcos_decoder_unconsumed", "fcos_fpn_unconsumed", "fcos_decoder_c2_unconsumed", "fcos_fpn_c2_unconsumed"),
        *("fcos_decoder_linear", "fcos_fpn_linear"),
    ),
    trials={  # FPN and head of a progressive search, trials of any other; "paper": NAS-FCOS, sec. 4.1
        "demo": {2: (50, 20), 1: (30,)},
        "paper": {2: (2800, 600), 1: (2000,)},
    },
    reward="loss",  # thesis eq. 7.2
    metric="COCO AP",
    backbone="efficientnet_lite0",
    measure="ap",
    references=("fpn_fcos", "nas_fcos"),
    samples="proxy_tasks.data.images.samples:samples",
    graphs="experiments.fcos.graphs:graphs",
    predictor="experiments.fcos.predicting:load",
    diagram="search_spaces.fcos.diagram:diagram",
    classifiers=("head.cls_logits.bias",),
    plotted=("ap", "ap50", "ap75"),
)
