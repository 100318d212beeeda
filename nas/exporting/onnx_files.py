"""An architecture's network as ONNX files, each compared with torch by onnxruntime before it is written."""

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.families import family_of
from experiments.graphs import Graph
from nas.errors import SearchFailed
from nas.exporting.networks import Exported
from search_spaces import InputError
from search_spaces.files import write_whole

__all__ = [
    "OPSET",
    "TOLERANCE",
    "Difference",
    "ExportFailed",
    "difference",
    "export",
    "graphs_of",
    "session",
    "write_onnx",
]

OPSET = 20
"""The first with deformable convolution (19) and grid sampling of any rank (20)."""
TOLERANCE = 1e-3
"""The largest difference to torch, relative to an output's largest value, with which a file is written."""
_EXAMPLE = (2, 2, 3, 160, 192)  # every map has at least two rows: a dimension of one is taken for a fixed one


class ExportFailed(SearchFailed):
    """The exporter or the runtime cannot do this network."""


@dataclass(frozen=True)
class Difference:
    """How far onnxruntime's outputs are from torch's.

    Args:
        absolute: the largest difference.
        relative: the largest difference of an output, divided by its largest value.
    """

    absolute: float
    relative: float


def write_onnx(exported: Exported, folder: Path, clips: Sequence[Tensor]) -> list[tuple[Path, Difference]]:
    """Writes ``NAME.onnx``, of a network with a dynamic cell ``NAME.first.onnx`` and ``NAME.following.onnx``.

    Args:
        exported: the network.
        folder: where.
        clips: to compare on, float32 (2, N, 3, H, W) each, two consecutive frames from 0 to 1.

    Returns:
        per file, its largest difference to torch.

    Raises:
        ExportFailed: a graph cannot be exported, or differs by more than `TOLERANCE`; nothing is written.
        OSError: the folder cannot be written to.
    """
    files = []
    for graph in graphs_of(exported):
        content = export(graph, exported)
        found = [difference(graph, content, clip) for clip in clips]
        worst = Difference(max(one.absolute for one in found), max(one.relative for one in found))
        if not worst.relative <= TOLERANCE:
            raise ExportFailed(
                f"{exported.name}{graph.suffix}.onnx is not written: onnxruntime differs from torch by "
                f"{worst.relative:.1e} of an output's largest value, more than {TOLERANCE:.0e}"
            )
        files.append((folder / f"{exported.name}{graph.suffix}.onnx", content, worst))
    for path, content, _ in files:
        write_whole(path, content)
    return [(path, worst) for path, _, worst in files]


def graphs_of(exported: Exported) -> list[Graph]:
    """All graphs of a network; raises `InputError` where its family makes none."""
    family = family_of(exported.architecture.space)
    graphs = family.function("graphs")
    if graphs is None:
        raise InputError(f"no ONNX graph is known for networks of the family {family.name!r}")
    found: list[Graph] = graphs(exported.network)
    return found


def export(graph: Graph, exported: Exported) -> bytes:
    """A graph as an ONNX model, batch and image size free; raises `ExportFailed` where torch cannot export it."""
    from onnxscript import optimizer

    arguments = graph.arguments(torch.rand(_EXAMPLE, generator=torch.Generator().manual_seed(0)))
    dynamic = torch.export.Dim.DYNAMIC
    free = [{i: dynamic for i, size in enumerate(sizes) if isinstance(size, str)} for sizes in graph.inputs.values()]
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                arguments,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=tuple(free),
                opset_version=OPSET,
                dynamo=True,
                custom_translation_table=graph.translations(),
                optimize=False,  # its rewriting takes minutes where no weights are shared; runtimes rewrite anyway
                verbose=False,
            )
            assert program is not None
            optimizer.fold_constants(program.model)
            optimizer.remove_unused_nodes(program.model)
    except torch.onnx.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise ExportFailed(f"torch cannot export {exported.name} to ONNX: {reason}") from error
    _describe(program.model, graph, exported)
    content: bytes = program.model_proto.SerializeToString()
    return content


def difference(graph: Graph, model: bytes, clip: Tensor) -> Difference:
    """How far onnxruntime is from torch on the outputs that must agree, on one clip."""
    arguments = graph.arguments(clip)
    with torch.inference_mode():
        outputs = graph(*arguments)
    expected = dict(zip(graph.outputs, outputs, strict=True))
    inputs = {name: value.numpy() for name, value in zip(graph.inputs, arguments, strict=True)}
    found = session(model).run(list(graph.compared), inputs)
    absolute, relative = [], []
    for name, value in zip(graph.compared, found, strict=True):
        absolute.append(np.abs(expected[name].numpy() - value).max())
        relative.append(absolute[-1] / expected[name].abs().max().item())
    return Difference(float(max(absolute)), float(max(relative)))


def session(model: bytes) -> Any:
    """An onnxruntime session on the CPU, with as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _describe(model: Any, graph: Graph, exported: Exported) -> None:
    """Names the dimensions and says in the model where it comes from."""
    import onnx_ir

    named = [*zip(model.graph.inputs, graph.inputs.values(), strict=True)]
    named += zip(model.graph.outputs, graph.outputs.values(), strict=True)
    for value, sizes in named:
        own = [known if size is None else size for known, size in zip(value.shape, sizes, strict=True)]
        value.shape = onnx_ir.Shape(own)
    architecture = exported.architecture
    model.metadata_props.update(
        {"space": architecture.space.name, "choices": json.dumps(architecture.named), "weights": exported.origin}
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on its own working."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
