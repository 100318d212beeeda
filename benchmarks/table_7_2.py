"""Table 7.2 of H. Chen's thesis: parameters and FLOPs of NAS-FCOS and FPN-FCOS, published and counted here.

    python benchmarks/table_7_2.py

counts on the meta device at 1088x800 with 80 classes: parameters that are trained (frozen batch norm, stem and first
stage are not), multiply-accumulates, and FLOPs in the convention of the published figures (see ``complexity``).
"""

import torch

from experiments import published
from proxy_tasks.fcos.detector import build_detector
from search_spaces.parts.complexity import count

# architecture, width, backbone, published parameters in millions, published GFLOPs
ROWS = (
    ("nas_fcos", "128", "mobilenet_v2", 5.9, 39.3),
    ("nas_fcos", "128-256", "mobilenet_v2", 9.9, 95.6),
    ("nas_fcos", "256", "mobilenet_v2", 16.1, 121.8),
    ("nas_fcos", "128", "resnet50_v1", 27.8, 104.0),
    ("nas_fcos", "128-256", "resnet50_v1", 31.8, 160.4),
    ("nas_fcos", "256", "resnet50_v1", 38.4, 189.6),
    ("nas_fcos", "256", "resnet101_v1", 57.3, 254.0),
    ("nas_fcos", "128-256", "resnext101_64x4d", 89.4, 361.6),
    ("fpn_fcos", "256", "mobilenet_v2", 9.8, 105.4),
    ("fpn_fcos", "256", "resnet50_v1", 32.0, 169.9),
    ("fpn_fcos", "256", "resnet101_v1", 50.9, 234.3),
    ("fpn_fcos", "256", "resnext101_64x4d", 89.6, 371.2),
    ("fpn_retinanet", "256", "mobilenet_v2", 11.3, 133.4),
    ("fpn_retinanet", "256", "resnet50_v1", 33.6, 198.0),
    ("fpn_retinanet", "256", "resnet101_v1", 52.5, 262.4),
)


class _Counted(torch.nn.Module):
    """Backbone, FPN and head of a detector, without its image transform and post-processing."""

    def __init__(self, detector: torch.nn.Module):
        super().__init__()
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """(B, 3, H, W) to the head's outputs."""
        outputs: dict[str, torch.Tensor] = self.head(list(self.backbone(images).values()))
        return outputs


def main() -> None:
    print("| decoder | backbone | parameters, M | published | MACs, G | FLOPs, G | published |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, width, backbone, params, flops in ROWS:
        with torch.device("meta"):
            detector = build_detector(published.load(name), backbone, frozen=True, width=width)
            counted = count(_Counted(detector), torch.empty(1, 3, 800, 1088))
        print(
            f"| {name} @{width} | {backbone} | {counted.trainable_params / 1e6:.3f} | {params} "
            f"| {counted.macs / 1e9:.2f} | {counted.ptflops / 1e9:.2f} | {flops} |"
        )


if __name__ == "__main__":
    main()
