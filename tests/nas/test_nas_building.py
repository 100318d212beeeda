import numpy as np
import pytest
import torch

import nas
import search_spaces
from experiments import published
from nas.building import find_architecture
from search_spaces import InputError


def test_an_architecture_goes_by_itself_its_file_its_run_or_a_published_name(tmp_path):
    architecture = search_spaces.get("fcos_decoder").sample(np.random.default_rng(0))
    file = tmp_path / "mine.json"
    file.write_text(architecture.to_json())
    assert find_architecture(architecture) is architecture
    assert find_architecture(file) == find_architecture(str(file)) == architecture
    toys = {"space": "fake_tasks:TOY", "controller": "random", "device": "cpu"}
    run = nas.search(**toys, trials=5, out=tmp_path / "run")
    assert find_architecture(run) == find_architecture(run.path) == find_architecture(str(run.path)) == run.best()[0]
    assert find_architecture("nas_fcos") == published.load("nas_fcos")


def test_a_folder_does_not_hide_a_published_name(tmp_path, monkeypatch):
    (tmp_path / "arch2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_architecture("arch2") == published.load("arch2")


def test_unknown_names_are_told():
    with pytest.raises(InputError, match=r"'nas_focs'.*nas_fcos"):
        nas.build("nas_focs")
    with pytest.raises(InputError, match=r"cannot read the architecture file none.json"):
        nas.build("none.json")


def test_a_published_name_builds_torchvisions_detector():
    detector = nas.build(
        "nas_fcos", backbone="tiny", num_classes=3, width="32-64", backbone_weights="none", min_size=64, max_size=64
    ).eval()
    with torch.inference_mode():
        (found,) = detector([torch.rand(3, 64, 64)])
    assert set(found) == {"boxes", "scores", "labels"}
