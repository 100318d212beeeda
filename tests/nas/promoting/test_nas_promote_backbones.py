"""Static networks and cells on encoders of any kind: trained, promoted and exported by the backbone's name."""

import json
import runpy

import numpy as np
import pytest
import safetensors.torch
import torch
import trees
from promoting_parts import SIZES, VIDEO, run, the

import search_spaces
from nas.cli import export as export_command
from nas.cli import promote as promote_command


@pytest.mark.parametrize("name", ["efficientnet_lite0", "timm/test_convnext"])
def test_a_static_network_then_its_cell_then_its_files(name, tmp_path):
    data = trees.write_camvid(tmp_path / "data", n=6, n_test=3, size=(48, 40))
    where = ["--data", data, "--device", "cpu", "--iterations", "1"]
    weights = "default" if name == "efficientnet_lite0" else "none"
    static = ["arch2", "--recipe", "camvid_static", *where, "--backbone-weights", weights, "--out", tmp_path / "static"]
    run(promote_command.main, *static, "--set", f"backbone={name}", "width=8", *SIZES)
    trained = the(tmp_path / "static", "arch2-camvid_static-*") / "weights.safetensors"
    assert json.loads((trained.parent / "job.json").read_text())["recipe"]["backbone"] == name

    (tmp_path / "cell.json").write_text(search_spaces.get("video_cell").sample(np.random.default_rng(0)).to_json())
    video = [tmp_path / "cell.json", *VIDEO, "--data", data, "--static", trained, "--out", tmp_path / "cells"]
    run(promote_command.main, *video)
    cell = the(tmp_path / "cells", "[!b]*-camvid_video-*/weights.safetensors")

    files = ["--weights", cell, "--format", "torch", "--out", tmp_path / "out"]
    run(export_command.main, tmp_path / "cell.json", *files)
    network = runpy.run_path(str(the(tmp_path / "out", "*.py")))["load"]()
    expected = safetensors.torch.load_file(cell)
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
