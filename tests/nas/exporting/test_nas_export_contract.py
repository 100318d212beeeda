"""Every format for every registered space and every published architecture; a new one joins by its name.

The weights are drawn wide, batch norm statistics included: with those a network starts from, offsets of deformable
convolutions are zero and class scores constant, so that a wrong graph would go unnoticed.
"""

import json
import os
import runpy
import subprocess
import sys

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

import nas
import search_spaces
from experiments import published
from experiments.families import family_of
from nas.cli import export as export_command
from nas.exporting import onnx_files
from nas.exporting.networks import prepare
from search_spaces import Architecture
from search_spaces.fcos.choices import LINEAR

SIZES = {"backbone": "tiny", "num_classes": 3, "width": 8}
FLAGS = [part for name, value in SIZES.items() for part in (f"--{name.replace('_', '-')}", str(value))]
SPACES = search_spaces.names()
NAMES = published.names()
FAST = "space arch2"  # the one whose ONNX graph is quickly made; the others' are slow tests

SEEDS = {"fcos": 1, "video": 49, "masks": 52}  # at which every operation is in one of the architectures
CASES = [*(f"space {name}" for name in SPACES), *NAMES]


def options_of(name):
    return sum(len(choice.options) for choice in search_spaces.get(name).choices)


def network_of(name):
    """What spaces with the same kind of network have in common."""
    space = search_spaces.get(name)
    return space.build, len(space), name.endswith(LINEAR)


# a graph takes long to make: of the spaces with one kind of network that with the most options, and a published one;
# an FPN or a head searched alone has nothing that a whole decoder lacks, nor has FCOS with the standard FPN, which
# RetinaNet has too;
# six aggregations need a cell of four blocks beside the one of five
WHOLE = [name for name in SPACES if len(search_spaces.get(name).stages) > 1]
PARTS = {stage.name for name in WHOLE for stage in search_spaces.get(name).stages} | {"fpn_fcos", "deform_fpn_fcos"}
WITH_GRAPHS = [name for name in SPACES if name not in PARTS and family_of(search_spaces.get(name)).graphs]
BUILDERS = {network_of(name): name for name in sorted(WITH_GRAPHS, key=options_of)}
GRAPHS = [*(f"space {name}" for name in BUILDERS.values()), "htca_if"]
every_case = pytest.mark.parametrize("case", CASES)


def architecture_of(case):
    if case in NAMES:
        return published.load(case)
    name = case.removeprefix("space ")
    space = search_spaces.get(name)
    return space.sample(np.random.default_rng([SEEDS[space.proxy_task], *name.encode()]))


def wide(network, seed=0):
    """Fills a network with weights that show what it does, and statistics that keep its maps in bounds."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            if parameter.dim() > 1:
                parameter.normal_(0, (1 / parameter[0].numel()) ** 0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1, generator=generator)
    return network


@pytest.fixture
def export(tmp_path, capsys):
    """Runs nas-export on a case with its own weights; gives the network, the folder and what was printed."""

    def run(case, *formats):
        architecture = architecture_of(case)
        file = tmp_path / "in.json"
        file.write_text(architecture.to_json())
        network = wide(nas.build(architecture, backbone_weights="none", **SIZES)).eval()
        safetensors.torch.save_file(network.state_dict(), tmp_path / "in.safetensors")
        arguments = [case if case in NAMES else str(file), "--format", ",".join(formats), *FLAGS]
        arguments += ["--weights", str(tmp_path / "in.safetensors"), "--out", str(tmp_path / "out")]
        assert export_command.main(arguments) == 0, capsys.readouterr().err
        return network, tmp_path / "out", capsys.readouterr().out.splitlines()

    return run


def stem(case):
    return case if case in NAMES else architecture_of(case).key


def outputs(network, seed=1):
    """Tensors that a network makes of random images."""
    generator = torch.Generator().manual_seed(seed)
    if hasattr(network, "transform"):
        network.transform.min_size, network.transform.max_size = (96,), 128
        with torch.inference_mode():
            found = network([torch.rand(3, 80, 100, generator=generator), torch.rand(3, 96, 64, generator=generator)])
        return [value for one in found for value in one.values()]
    shape = (2, 3, 70, 90) if not hasattr(network, "following") else (2, 3, 3, 70, 90)
    with torch.inference_mode():
        return [network(torch.randn(shape, generator=generator))]


def test_every_space_and_every_published_name_is_here():
    assert len(CASES) == len(set(CASES)) == len(search_spaces.names()) + len(published.names())
    assert set(CASES) == {f"space {name}" for name in search_spaces.SPACES.names()} | set(published.names())


def test_every_operation_and_aggregation_is_in_one_of_the_graphs():
    every, drawn = set(), set()
    for name in SPACES:
        space, named = search_spaces.get(name), architecture_of(f"space {name}").canonical.named
        for choice in space.choices:
            if choice.kind in ("op", "head_op", "agg", "mask_op", "attention"):
                every |= {(space.proxy_task, choice.kind, option) for option in choice.options}
                if name in BUILDERS.values():
                    drawn.add((space.proxy_task, choice.kind, named[choice.name]))
    assert drawn == every


@every_case
def test_json_pictures_and_module(case, export):
    architecture, name = architecture_of(case), stem(case)
    network, out, printed = export(case, "json", "svg", "png", "torch")
    endings = ("json", "svg", "png", "safetensors", "py")
    assert printed[:5] == [str(out / f"{name}.{ending}") for ending in endings]
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{name}.{ending}" for ending in endings)
    assert Architecture.load(out / f"{name}.json") == architecture
    assert (out / f"{name}.svg").read_text().startswith("<svg ")
    with Image.open(out / f"{name}.png") as image:
        assert image.format == "PNG"

    loaded = runpy.run_path(str(out / f"{name}.py"))["load"]()
    assert not loaded.training
    expected = network.state_dict()
    state = loaded.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    for one, other in zip(outputs(loaded), outputs(network), strict=True):
        assert torch.equal(one, other)


IN_A_FRESH_PROCESS = """
import runpy, sys, torch
sys.path[:0] = {path!r}
import test_nas_export_contract as suite
torch.save(suite.outputs(runpy.run_path(sys.argv[1])["load"]()), sys.argv[2])
"""


@pytest.mark.parametrize("case", ["nas_fcos", "space video_cell"])
def test_a_fresh_process_gives_the_same_outputs_bit_for_bit(case, export, tmp_path):
    network, out, _ = export(case, "torch")
    code = IN_A_FRESH_PROCESS.format(path=[path for path in sys.path if path])
    command = [sys.executable, "-c", code, str(out / f"{stem(case)}.py"), str(tmp_path / "outputs.pt")]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "outputs.pt", weights_only=True)
    expected = outputs(network)
    assert sum(value.numel() for value in expected) > 0
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def graphs_of(case, network):
    return family_of(architecture_of(case).space).function("graphs")(network)


@pytest.mark.parametrize("case", [c if c == FAST else pytest.param(c, marks=pytest.mark.slow) for c in GRAPHS])
def test_onnx_agrees_with_torch_at_any_batch_and_size(case, export):
    network, out, printed = export(case, "onnx")
    graphs = graphs_of(case, network)
    files = [out / f"{stem(case)}{graph.suffix}.onnx" for graph in graphs]
    assert sorted(out.iterdir()) == sorted(files)
    assert printed[::3] == [str(file) for file in files]
    assert all("onnxruntime differs from torch by at most" in line for line in printed[2::3])
    for graph, file in zip(graphs, files, strict=True):
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version >= 19
        facts = {item.key: item.value for item in model.metadata_props}
        assert (facts["space"], json.loads(facts["choices"])) == (
            architecture_of(case).space.name,
            architecture_of(case).named,
        )
        assert [value.name for value in model.graph.input] == list(graph.inputs)
        assert [value.name for value in model.graph.output] == list(graph.outputs)
        content = file.read_bytes()
        for batch, height, width in ((1, 96, 128), (3, 150, 70), (2, 64, 200)):
            clip = torch.rand(2, batch, 3, height, width, generator=torch.Generator().manual_seed(batch))
            apart = onnx_files.difference(graph, content, clip)
            assert apart.relative <= 1e-3


@pytest.mark.parametrize("case", [case for case in CASES if architecture_of(case).space.proxy_task == "fcos"])
def test_a_detector_s_graph_detects_what_torchvision_s_detector_detects(case):
    network = wide(prepare(case, architecture_of(case), SIZES).network)
    network.transform.min_size, network.transform.max_size = (130,), 170
    images = torch.rand(2, 3, 130, 170, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network(list(images))
        boxes, scores, labels, *_ = graphs_of(case, network)[0](images)
    for i, one in enumerate(expected):
        count = len(one["scores"])
        assert count > 5
        assert (scores[i, count:] == 0).all()
        torch.testing.assert_close(scores[i, :count], one["scores"])
        # by box and class, since equal scores may come in any order
        mine = torch.cat([labels[i, :count, None].float(), boxes[i, :count]], dim=1)
        theirs = torch.cat([one["labels"][:, None].float(), one["boxes"]], dim=1)
        assert (theirs[:, None] - mine).abs().amax(dim=2).amin(dim=1).max() < 1e-2


@pytest.mark.parametrize("case", [case for case in CASES if architecture_of(case).space.proxy_task == "video"])
def test_a_segmentation_network_s_graphs_are_the_network_frame_by_frame(case):
    network = wide(prepare(case, architecture_of(case), SIZES).network)
    clip = torch.rand(2, 2, 3, 70, 90, generator=torch.Generator().manual_seed(0))
    graphs = graphs_of(case, network)
    with torch.inference_mode():
        found = [graph(*graph.arguments(clip))[0] for graph in graphs]
        frames = (clip - graphs[0].mean) / graphs[0].std
        expected = network(frames[0])[None] if len(graphs) == 1 else network(frames.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(torch.stack(found), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_onnx_of_a_cell_that_joins_what_came_with_the_frame_and_what_was_left():
    """Maps of one size from two inputs of the graph: an exporter is tempted to fix their size."""
    blocks = [("prev_dec", "C3"), ("prev_C5", "C5"), ("prev_dec", "prev_C5"), ("c1", "prev_dec"), ("c2", "c4")]
    named = {
        f"cell.{i}.{part}": option
        for i, (x1, x2) in enumerate(blocks, start=1)
        for part, option in (("x1", x1), ("x2", x2), ("op1", "skip"), ("op2", "sep3x3"), ("agg", "concat"))
    }
    exported = prepare("a", search_spaces.get("video_cell").from_named(named), SIZES)
    wide(exported.network)
    graph = onnx_files.graphs_of(exported)[1]
    model = onnx_files.export(graph, exported)
    for batch, height, width in ((1, 96, 128), (3, 150, 70)):
        assert onnx_files.difference(graph, model, torch.rand(2, batch, 3, height, width)).relative <= 1e-3
