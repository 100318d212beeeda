"""``nas-promote`` of detectors: the winners of a search beside the references, files, rows, bad input."""

import json

import pytest
import trees
from PIL import Image
from promoting_parts import promotions, rows, run, the

import nas
from nas.cli import promote as promote_command
from nas.cli import search as search_command

RECIPE = ("--recipe", "fcos_small", "--iterations", "2", "--device", "cpu", "--backbone-weights", "none")
SIZES = ("--set", "min_size=64", "min_size_least=64", "max_size=128", "batch_size=2")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A finished search on a Pascal VOC tree."""
    root = tmp_path_factory.mktemp("detectors")
    data = trees.write_voc(root / "voc", n=8, n_test=3)
    task = ("crop=64", "iterations=1", "batch_size=4", "width=16", "fpn_search_width=8", "pretrain_iterations=1")
    where = ("--data", data, "--out", root / "run", "--cache-dir", root / "cache", "--backbone", "tiny")
    run(search_command.main, "--space", "fcos_decoder", *where, "--trials", "2,2", "--confirm", "0", "--set", *task)
    return root


def test_winners_beside_the_references(found, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "130")
    capsys.readouterr()
    run(promote_command.main, found / "run", *RECIPE, *SIZES, "--top", "2", "--pictures", "2")
    out = capsys.readouterr().out
    assert "test: Pascal VOC, 3 images, 3 classes" in out
    table = rows(out)
    assert [row[0] for row in table][:2] == ["fpn_fcos", "nas_fcos"]
    assert [row[0].partition(",")[0] for row in table][2:] == ["detector 1", "detector 2"]
    ranked = nas.load_run(found / "run").best_with_trials(2)
    stored = promotions(found / "run")
    assert stored.keys() == {architecture.key for architecture, _ in ranked}
    for figures in stored.values():
        assert (figures.recipe, figures.status) == ("fcos_small", "done")
        assert {"ap", "ap50", "ap75", "aps", "apm", "apl", "params", "macs", "ms"} <= figures.metrics.keys()
    place = the(found / "run" / "promoted", f"{ranked[0][0].key}-fcos_small-*")
    job, result = (json.loads((place / f"{name}.json").read_text()) for name in ("job", "result"))
    assert (job["recipe"]["backbone"], job["recipe"]["width"]) == ("tiny", "16")
    assert result["classes"] == list(trees.CLASSES)
    assert isinstance(json.loads((place / "detections.json").read_text()), list)
    pictures = sorted((place / "pictures").iterdir())
    assert len(pictures) == 2
    with Image.open(pictures[0]) as picture:
        assert picture.size == (96, 64)


def test_a_published_detector_by_name(found, tmp_path, capsys):
    sizes = (*SIZES, "backbone=tiny", "width=16-32")
    run(promote_command.main, "nas_fcos", *RECIPE, *sizes, "--data", found / "voc", "--out", tmp_path)
    assert [row[0] for row in rows(capsys.readouterr().out)] == ["nas_fcos"]
    capsys.readouterr()
    arguments = [str(a) for a in ("nas_fcos", *RECIPE, *sizes, "--data", found / "voc", "--out", tmp_path)]
    assert promote_command.main(arguments) == 2
    assert "holds a training already" in capsys.readouterr().err
    run(promote_command.main, *arguments, "--resume")
    assert "training" not in capsys.readouterr().out


def test_bad_boxes_are_refused_or_left_out(found, tmp_path, capsys):
    """Backbone and width may be flags of their own."""
    data = trees.write_coco(tmp_path / "coco", n=3, n_test=2)
    path = data / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][2] = 0
    path.write_text(json.dumps(content))
    flags = ("--backbone", "tiny", "--width", "16", *SIZES, "--data", data, "--out", tmp_path / "out")
    arguments = [str(a) for a in ("fpn_fcos", *RECIPE, *flags)]
    assert promote_command.main(arguments) == 2
    assert "has no area; a box must lie in its image" in capsys.readouterr().err
    run(promote_command.main, *arguments, "--skip-bad-boxes")
    job = json.loads((the(tmp_path / "out", "*-fcos_small-*") / "job.json").read_text())
    assert (job["recipe"]["backbone"], job["recipe"]["width"]) == ("tiny", "16")


def test_sets_of_different_classes(tmp_path, capsys):
    data = trees.write_coco(tmp_path / "coco", n=3, n_test=2)
    path = data / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "other"
    path.write_text(json.dumps(content))
    flags = ("--backbone", "tiny", "--width", "16", *SIZES, "--data", data, "--out", tmp_path / "out")
    assert promote_command.main([str(a) for a in ("fpn_fcos", *RECIPE, *flags)]) == 2
    assert (
        "the train set's classes are ('disc', 'nut', 'washer'), the test set's ('disc', 'nut', 'other')"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("what", "recipe", "sentence"),
    [
        ("arch2", "fcos_small", "a detector recipe trains FCOS detectors, but arch2 is of the space 'arch2'"),
        ("nas_fcos", "camvid_static", "a static recipe trains arch2, but nas_fcos is of the space"),
    ],
)
def test_what_a_recipe_does_not_train(tmp_path, capsys, what, recipe, sentence):
    assert promote_command.main([what, "--recipe", recipe, "--out", str(tmp_path)]) == 2
    assert sentence in capsys.readouterr().err
