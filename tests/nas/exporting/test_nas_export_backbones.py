"""Networks on timm's backbones as graphs whose image sizes are free."""

import pytest
import torch

import nas
from nas.exporting.networks import prepare
from nas.exporting.onnx_files import difference, export, graphs_of
from proxy_tasks.backbones import make_backbone
from search_spaces import Architecture

UNEVEN = [(96, 128), (100, 77)]  # the second rounds up at every stride


def test_onnx_gives_what_torch_gives():
    sizes = {"backbone": "timm/test_convnext", "num_classes": 3, "width": 8}
    exported = prepare("static", Architecture.of("arch2", ()), sizes)
    (graph,) = graphs_of(exported)
    model = export(graph, exported)
    for size in UNEVEN:
        assert difference(graph, model, torch.rand(2, 1, 3, *size)).relative < 1e-4


def test_same_padding_leaves_image_sizes_free():
    backbone, free = make_backbone("efficientnet_lite0").eval(), torch.export.Dim.DYNAMIC
    images = torch.rand(2, 3, 140, 170)  # torch guards which maps are cut: at all of these sizes C2, C3 and C4
    program = torch.export.export(backbone, (images,), dynamic_shapes=({0: free, 2: free, 3: free},))
    for size in [(104, 77), (138, 80)]:
        images = torch.rand(2, 3, *size)
        with torch.inference_mode():
            expected, found = backbone(images), program.module()(images)
        for level, value in expected.items():
            torch.testing.assert_close(found[level], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm/test_resnet"])
def test_detectors_are_built_and_detect(name):
    detector = nas.build(
        "nas_fcos", backbone=name, backbone_weights="none", num_classes=3, width="32-64", min_size=96, max_size=128
    ).eval()
    with torch.inference_mode():
        (found,) = detector([torch.rand(3, 80, 100)])
    assert set(found) == {"boxes", "scores", "labels"}
