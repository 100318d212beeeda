"""Tables 7 and 8 of R. Manzanedo's thesis: parameters and MACs of mask networks, published and counted here.

    python benchmarks/htca_counts.py

counts on the meta device with 80 classes and a semantic branch of 183 classes, those of COCO-stuff: all parameters and
those that are trained (a ResNet's frozen batch norm, stem and first stage are not), and multiply-accumulates of one
image with 1000 RoIs in every box stage and 100 in every mask stage (`proxy_tasks.masks.costs`). Published "FLOPs" are
multiply-accumulates too; their RoIs are not stated, nor, but for 896x896 in one caption, their images. EfficientDet-D3
needs the extra `masks`.
"""

import torch

from experiments import published
from proxy_tasks.masks.costs import complexity
from proxy_tasks.masks.network import build_mask_network

RESNET, EFFICIENTDET = ("resnet50", (800, 1280)), ("efficientdet_d3", (896, 896))
# architecture, backbone and padded image, published parameters in millions, published GFLOPs
ROWS = (
    ("mask_rcnn", *RESNET, 44.3, 198.0),
    ("mask_rcnn", *EFFICIENTDET, 14.4, 50.9),
    ("centermask", *RESNET, 44.3, 198.0),
    ("centermask", *EFFICIENTDET, 14.4, 50.9),
    ("htc", *RESNET, 80.0, 441.4),
    ("htc", *EFFICIENTDET, 66.6, 281.0),
    ("htca_if", *EFFICIENTDET, 66.6, 281.0),
    ("htca_c", *EFFICIENTDET, 66.6, 281.0),
    ("htca_d", *EFFICIENTDET, 66.6, 281.0),
)


def main() -> None:
    print("| head | backbone | image | parameters, M | trained, M | published | MACs, G | published |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, backbone, size, params, flops in ROWS:
        with torch.device("meta"):
            frozen = backbone.startswith("resnet")
            network = build_mask_network(published.load(name), backbone, "none", frozen, semantic_classes=183)
            counted = complexity(network, size)
        print(
            f"| {name} | {backbone} | {size[1]}x{size[0]} | {counted.params / 1e6:.3f} "
            f"| {counted.trainable_params / 1e6:.3f} | {params} | {counted.macs / 1e9:.2f} | {flops} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
