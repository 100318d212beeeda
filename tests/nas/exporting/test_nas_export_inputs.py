"""What nas-export does with a run's weights and with bad input: one sentence each, and nothing written."""

import json
import os
import re
import runpy

import pytest
import safetensors.torch
import torch
from fake_tasks import ToyTask

import nas
import proxy_tasks
from experiments.families import FAMILIES
from nas import exporting
from nas.cli import export as export_command
from nas.exporting import onnx_files, writers
from nas.exporting.networks import prepare
from nas.run.store import RunStore
from search_spaces import Architecture

SMALL = ["--backbone", "tiny", "--num-classes", "2", "--width", "8"]
SIZES = {"backbone": "tiny", "num_classes": 2, "width": 8}


def told(capsys, *arguments):
    """The exit status and the lines on standard error."""
    status = export_command.main([str(argument) for argument in arguments])
    return status, capsys.readouterr().err.splitlines()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run of a real space, its trials scored by a toy."""
    monkeypatch.setitem(proxy_tasks.PROXY_TASKS._entries, "fcos", ToyTask)
    return nas.search("fcos_head", controller="random", trials=6, out=tmp_path / "run", device="cpu", confirm=0)


def trained(run, suffix="", **job):
    """What a full training of the run's best leaves, with five classes; gives its weights."""
    (best,) = run.best()
    folder = run.path / "promoted" / (best.key + suffix)
    folder.mkdir(parents=True)
    network = nas.build(best, backbone="tiny", backbone_weights="none", num_classes=5, width=8)
    safetensors.torch.save_file(network.state_dict(), folder / "weights.safetensors")
    if job:
        (folder / "job.json").write_text(json.dumps({"format": 1, **job}))
    return network.state_dict()


def test_a_run_s_network_gets_the_weights_and_sizes_of_its_full_training(run, capsys):
    state = trained(run, "-mine", recipe={"backbone": "tiny", "width": 8, "epochs": 3})
    assert export_command.main([str(run.path), "--format", "torch"]) == 0
    weights, module, origin = capsys.readouterr().out.splitlines()
    (best,) = run.best()
    assert weights == str(run.path / "exported" / f"{best.key}.safetensors")
    assert origin.startswith(f"  weights: of {run.path / 'promoted' / best.key}-mine")
    loaded = runpy.run_path(module)["load"]().state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_an_untrained_network_says_so_and_is_the_same_each_time(run, tmp_path, capsys):
    states = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        torch.manual_seed(len(states))
        assert export_command.main([str(run.path), "--format", "torch", *SMALL, "--out", str(folder)]) == 0
        assert "  weights: untrained, drawn from the seed 0" in capsys.readouterr().out.splitlines()
        (file,) = folder.glob("*.safetensors")
        states.append(file.read_bytes())
        assert "are untrained, drawn from the seed 0." in file.with_suffix(".py").read_text()
    assert states[0] == states[1]


def test_a_module_of_ones_own_is_imported_by_the_file(run, tmp_path, capsys):
    (best,) = run.best()
    exported = prepare("a", best, SIZES, None, "fake_tasks:TOY", ("fake_tasks", "math"))
    from nas.exporting.torch_files import write_torch

    text = write_torch(exported, tmp_path)[1].read_text()
    assert text.index("import fake_tasks  #") < text.index("import math  #")
    assert "search_spaces.get('fake_tasks:TOY')" in text


def test_several_trainings_must_be_told_apart(run, capsys):
    trained(run)
    trained(run, "-again")
    status, (line,) = told(capsys, run.path, "--format", "torch")
    assert status == 2
    assert "trained in full more than once" in line
    assert re.search(r"choose by the weights: .*/weights.safetensors or .*-again/weights.safetensors$", line)
    assert told(capsys, run.path, "--format", "json,svg") == (0, [])  # which need no weights


def test_a_training_that_the_run_and_its_folder_name_is_one(run, capsys, monkeypatch):
    trained(run, recipe={"backbone": "tiny", "width": 8})
    (best,) = run.best()
    monkeypatch.chdir(run.path.parent)  # the run is given by a relative path, the store has an absolute one
    store = RunStore(run.path / "trials.db")
    place = run.path / "promoted" / best.key
    store.record_promotion(best.key, "0" * 16, "mine", status="done", metrics={}, place=place)
    store.close()
    assert told(capsys, run.path.name, "--format", "torch") == (0, [])


FAULTS = {
    "format": (["--format", "json,pdf"], "there is no export format 'pdf'; known: json, torch, onnx, svg, png$"),
    "rank": (["--rank", "2"], "--rank chooses among a run's trials, but 'nas_fcos_head' is not a run$"),
    "classes": (["--num-classes", "0"], "--num-classes must be a whole number of at least 1, got '0'$"),
    "backbone": (["--backbone", "resnet5"], "there is no backbone 'resnet5'; known: tiny, "),
    "width": (["--width", "1x2"], "width '1x2' must be a number, or FPN width and head width as in '128-256'$"),
    "weights": (["--weights", "none.safetensors"], "there is no weights file none.safetensors"),
    "data": (["--data", "nowhere"], "there is no folder nowhere"),
    "weights of json": (["--format", "json,svg", "--weights", "w"], "--weights is for --format torch or onnx, not for"),
    "classes of png": (
        ["--format", "png", "--num-classes", "2"],
        "--num-classes is for --format torch or onnx, not for",
    ),
    "data of torch": (["--format", "torch", "--data", "voc"], "--data is for --format onnx, not for torch$"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_arguments(fault, capsys, tmp_path):
    arguments, message = FAULTS[fault]
    formats = [] if "--format" in arguments else ["--format", "torch,onnx"]
    status, (line,) = told(capsys, "nas_fcos_head", *formats, *arguments, "--out", tmp_path / "out")
    assert status == 2
    assert line.startswith("nas-export: ")

    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_name_the_tensor_and_both_shapes(tmp_path, capsys):
    architecture = Architecture.of("fpn_fcos", ())
    state = prepare("a", architecture, SIZES).network.state_dict()
    file = tmp_path / "a.safetensors"
    name = "backbone.fpn.fpn.inner_blocks.0.0.bias"
    for change, message in (
        ({name: torch.zeros(3)}, f"'{name}' has shape (3,), this network needs (8,)"),
        ({name: None}, f"the weights of '{name}' are missing"),
    ):
        changed = {key: value for key, value in (state | change).items() if value is not None}
        safetensors.torch.save_file(changed, file)
        arguments = ("--format", "torch", *SMALL, "--weights", file, "--out", tmp_path / "out")
        status, (line,) = told(capsys, "fpn_fcos", *arguments)
        assert (status, str(file) in line, message in line) == (2, True, True), line
        assert not (tmp_path / "out").exists()


def test_a_segmentation_network_has_one_width(capsys, tmp_path):
    status, (line,) = told(capsys, "arch2", "--format", "torch", "--width", "32-64", "--out", tmp_path / "out")
    assert (status, line) == (
        2,
        "nas-export: the width of a segmentation network is one number of at least 1, got '32-64'",
    )


def test_a_space_without_networks_has_pictures_only(tmp_path, capsys):
    toys = nas.search("fake_tasks:TOY", controller="random", trials=3, out=tmp_path / "toys", device="cpu")
    status, (line,) = told(capsys, toys.path, "--format", "torch")
    assert (status, line) == (
        2,
        "nas-export: nothing builds the networks of search space 'toy', so there is none to export",
    )
    assert told(capsys, toys.path, "--format", "json,svg,png") == (0, [])


def test_onnx_that_is_not_installed(monkeypatch, capsys):
    find = exporting.importlib.util.find_spec
    monkeypatch.setattr(
        exporting.importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name)
    )
    status, (line,) = told(capsys, "fpn_fcos", "--format", "onnx")
    needs = "writing ONNX needs onnx and onnxruntime and onnxscript"
    assert (status, line) == (2, f'nas-export: {needs}: pip install "dense-nas[onnx]"')


@pytest.mark.parametrize("name", ["json", "torch", "svg", "png"])
def test_a_folder_that_cannot_be_written_to(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    arguments = ("fpn_fcos", "--format", name, *(SMALL if name == "torch" else ()), "--out")
    status, (line,) = told(capsys, *arguments, tmp_path / "file")
    assert (status, "cannot write" in line, "File exists" in line) == (2, True, True), line

    def full(*where, **how):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(writers, "WRITERS", {name: writers.Writer(full)})
    status, (line,) = told(capsys, *arguments, tmp_path / "out")
    assert (status, line) == (
        1,
        f"nas-export: the disk is full ({tmp_path / 'out'}); free some space, then export again",
    )


def test_a_graph_that_differs_is_not_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(onnx_files, "export", lambda graph, exported: b"")
    monkeypatch.setattr(onnx_files, "difference", lambda *of: onnx_files.Difference(0.1, 2e-3))
    status, (line,) = told(capsys, "arch2", "--format", "onnx", *SMALL, "--out", tmp_path)
    assert status == 1
    assert line.startswith("nas-export: arch2.onnx is not written: onnxruntime differs from torch by 2.0e-03 of")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", ["fcos", "video"])
def test_what_is_compared_on(task):
    clips, words = FAMILIES.get(task).function("samples")(None, 3)
    assert words.startswith("3 clips of " if task == "video" else "3 images of shapes")
    for clip in clips:
        assert clip.shape[:3] == (2, 2, 3)
        assert clip.dtype == torch.float32
        assert 0 <= clip.min() < clip.max() <= 1
        assert torch.equal(clip[:, 1], clip[:, 0].flip(-1))
        assert torch.equal(clip[0], clip[1]) == (task == "fcos")


def test_weights_trained_in_full_somewhere_else_are_found_by_the_store(run, tmp_path, capsys):
    state = trained(run, "-mine", recipe={"backbone": "tiny", "width": 8})
    (best,) = run.best()
    elsewhere = (run.path / "promoted" / f"{best.key}-mine").rename(tmp_path / "elsewhere")
    store = RunStore(run.path / "trials.db")
    store.record_promotion(best.key, "0" * 16, "mine", status="done", metrics={}, place=elsewhere)
    store.close()
    assert export_command.main([str(run.path), "--format", "torch"]) == 0
    _, module, origin = capsys.readouterr().out.splitlines()
    assert origin == f"  weights: of {elsewhere / 'weights.safetensors'}"
    loaded = runpy.run_path(module)["load"]().state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_trained_weights_that_are_gone_are_not_drawn_from_a_seed(run, tmp_path, capsys):
    (best,) = run.best()
    store = RunStore(run.path / "trials.db")
    store.record_promotion(best.key, "0" * 16, "mine", status="done", metrics={}, place=tmp_path / "gone")
    store.close()
    status, (line,) = told(capsys, run.path, "--format", "torch", *SMALL)
    assert status == 2
    assert line.endswith(f"was trained in full in {tmp_path / 'gone'}, where its weights.safetensors is gone")
    assert not (run.path / "exported").exists()
    assert told(capsys, run.path, "--format", "json,json") == (0, [])


def test_a_file_that_is_a_folder_is_told(tmp_path, capsys):
    (tmp_path / "fpn_fcos.json").mkdir()
    status, (line,) = told(capsys, "fpn_fcos", "--out", tmp_path)
    assert (status, line) == (2, f"nas-export: cannot read or write {tmp_path / 'fpn_fcos.json'}: Is a directory")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "job.json cannot be read: JSONDecodeError"),
        ("[]", "job.json cannot be read: TypeError"),
        ('{"format": 99}', "job.json: format 99 is newer than this version reads (1)"),
        ('{"format": 1, "recipe": 3}', "job.json: key 'recipe' must be a JSON object, got 3"),
    ],
)
def test_a_damaged_job_beside_the_weights_is_told(run, capsys, text, told):
    trained(run, "-mine", recipe={})
    (best,) = run.best()
    (run.path / "promoted" / f"{best.key}-mine" / "job.json").write_text(text)
    assert export_command.main([str(run.path), "--format", "torch"]) == 2
    assert told in capsys.readouterr().err


def test_the_formats_of_the_help_are_those_that_are_written():
    assert tuple(writers.WRITERS) == export_command.FORMATS
