"""Suppression in an exported detector: ONNX's own and torch's against the one written out."""

import pytest
import torch
from torch import nn

from experiments.fcos.graphs import DetectorGraph, best_detections
from nas.exporting import onnx_files


def slow_suppression(boxes, scores, overlap, least, most):
    """Greedy suppression written out, for one image: [(score, place)], best first."""

    def iou(a, b):
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
        return width * height / (sum(areas) - width * height)

    classes = len(scores[0])
    rest = [(s, i, c) for i, row in enumerate(scores) for c, s in enumerate(row) if s > least]
    kept = []
    for score, i, c in sorted(rest, reverse=True):
        if all(c != d or iou(boxes[i], boxes[j]) <= overlap for _, j, d in kept):
            kept.append((score, i, c))
    return [(score, i * classes + c) for score, i, c in kept[:most]]


@pytest.mark.parametrize("most", [3, 40])
def test_onnx_s_suppression_and_torch_s_are_the_one_written_out(most):
    class Alone(nn.Module):
        def forward(self, boxes, scores):
            return best_detections(boxes, scores, 0.4, 0.3, most)

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 25, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + 5 + 10 * torch.rand(2, 25, 2, generator=generator)], dim=2)
    scores = torch.rand(2, 25, 3, generator=generator)
    expected = [slow_suppression(b.tolist(), s.tolist(), 0.4, 0.3, most) for b, s in zip(boxes, scores, strict=True)]
    assert all(0 < len(kept) <= most for kept in expected)
    program = torch.onnx.export(
        Alone().eval(),
        (boxes, scores),
        opset_version=20,
        custom_translation_table=DetectorGraph(nn.Identity()).translations(),
        verbose=False,
    )
    runtime = onnx_files.session(program.model_proto.SerializeToString())
    names = [value.name for value in runtime.get_inputs()]
    found = runtime.run(None, dict(zip(names, (boxes.numpy(), scores.numpy()), strict=True)))
    for best, places in (found, best_detections(boxes, scores, 0.4, 0.3, most)):
        for i, kept in enumerate(expected):
            padding = [(0.0, 0)] * (most - len(kept))
            expected_scores, expected_places = zip(*kept, *padding, strict=True)
            assert places[i].tolist() == list(expected_places)
            assert best[i].tolist() == pytest.approx(expected_scores)
