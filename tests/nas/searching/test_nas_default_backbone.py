"""The backbone of a search that names none: ImageNet features for real data under demo, and kept by the run."""

import pytest
import trees
from places import FAST, TINY

import nas
from nas.cli import search as search_command
from nas.searching.plan import resolve, with_backbone
from nas.settings import SearchSettings

ADVICE = "pip install 'dense-nas[imagenet]'"


def decided(**settings):
    found, advice = with_backbone(resolve(SearchSettings(**{"space": "fcos_fpn", "device": "cpu", **settings})))
    return found.backbone, advice


@pytest.fixture
def without_package(monkeypatch):
    monkeypatch.setattr("proxy_tasks.backbones.imagenet.installed_file", lambda: None)


@pytest.mark.parametrize("space", ["fcos_decoder", "video_cell"])
def test_real_data_under_demo_have_imagenet_features(space):
    assert decided(space=space, data="photographs") == ("efficientnet_lite0", None)


@pytest.mark.parametrize(
    "settings",
    [
        {"data": None},
        {"preset": "paper"},
        {"backbone_weights": "none"},
        {"task": {"backbone": "resnet50"}},
        {"space": "video_cell", "static": "arch2.safetensors"},
        {"space": "fake_tasks:TOY"},
    ],
)
def test_otherwise_the_backbone_is_the_presets(settings):
    assert decided(**{"data": "photographs", **settings}) == (None, None)


def test_a_backbone_that_is_named_stays():
    assert decided(data="photographs", backbone="mobilenet_v2") == ("mobilenet_v2", None)


@pytest.mark.usefixtures("without_package")
def test_without_the_package_the_search_says_so():
    backbone, advice = decided(data="photographs")
    assert backbone is None
    assert advice.endswith(ADVICE)


def test_a_run_keeps_its_backbone_wherever_it_goes_on(tmp_path, monkeypatch, capsys):
    """With the package it began; without it, and in another cache, it goes on from the weights that it keeps."""
    trees.write_voc(tmp_path / "data", n=8)
    unnamed = FAST[: FAST.index("--backbone")]
    where = ["--data", tmp_path / "data", "--cache-dir", tmp_path / "one", "--out", tmp_path / "run"]
    assert search_command.main([*map(str, [*unnamed, *where, *TINY])]) == 0
    assert ADVICE not in capsys.readouterr().out
    assert nas.load_run(tmp_path / "run").settings.backbone == "efficientnet_lite0"
    monkeypatch.setattr("proxy_tasks.backbones.imagenet.installed_file", lambda: None)
    more = ["--resume", tmp_path / "run", "--trials", "3", "--cache-dir", tmp_path / "two"]
    assert search_command.main([*map(str, more)]) == 0
    run = nas.load_run(tmp_path / "run")
    assert (run.settings.backbone, len(run.trials)) == ("efficientnet_lite0", 3)


@pytest.mark.usefixtures("without_package")
def test_a_run_that_began_without_the_package_goes_on_as_it_began(tmp_path, monkeypatch, capsys):
    trees.write_voc(tmp_path / "data", n=8)
    unnamed = FAST[: FAST.index("--backbone")]
    where = ["--data", tmp_path / "data", "--cache-dir", tmp_path / "cache", "--out", tmp_path / "run"]
    assert search_command.main([*map(str, [*unnamed, *where, *TINY])]) == 0
    assert ADVICE in capsys.readouterr().out
    monkeypatch.undo()
    assert search_command.main(["--resume", str(tmp_path / "run"), "--trials", "3"]) == 0
    assert nas.load_run(tmp_path / "run").settings.backbone is None
