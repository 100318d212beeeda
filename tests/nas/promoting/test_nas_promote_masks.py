"""A search of mask heads from its first trial to full training, prediction, report and export."""

import json

import numpy as np
import pytest
import trees
from PIL import Image
from promoting_parts import promotions, run, the

import nas
from experiments import published
from nas.cli import analyze as analyze_command
from nas.cli import export as export_command
from nas.cli import predict as predict_command
from nas.cli import promote as promote_command
from nas.cli import search as search_command

RECIPE = ("--recipe", "masks_small", "--iterations", "2", "--device", "cpu", "--backbone-weights", "none")
SIZES = ("--set", "min_size=64", "min_size_least=64", "max_size=96", "batch_size=2")
HEADS = ("htc", "htca_if", "htca_c", "htca_d")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A finished search on a COCO tree, confirmed, and its winner trained."""
    root = tmp_path_factory.mktemp("masks")
    data = trees.write_coco(root / "coco", n=8, n_test=3)
    task = ("crop=64", "iterations=2", "rois=2", "batch_size=8", "width=8", "pretrain_iterations=1", "mirrored=false")
    where = ("--data", data, "--out", root / "run", "--cache-dir", root / "cache", "--backbone", "tiny")
    run(search_command.main, "--space", "mask_head", *where, "--trials", "3", "--confirm", "1,2", "--set", *task)
    run(promote_command.main, root / "run", *RECIPE, *SIZES, "--top", "1", "--pictures", "1")
    return root


def test_every_trial_and_every_named_head_is_scored(found):
    contents = nas.load_run(found / "run").contents()
    assert [trial.status for trial in contents.trials] == ["done"] * 3
    confirmed = [score for score in contents.scores if score.purpose == "confirmation"]
    assert {score.contender.name for score in confirmed if score.contender.name} == set(HEADS)
    assert all({"ap", "loss", "loss_mask_3", "macs"} <= score.metrics.keys() for score in confirmed)


def test_the_winner_is_trained_beside_the_named_heads(found):
    ((architecture, _),) = nas.load_run(found / "run").best_with_trials(1)
    (figures,) = promotions(found / "run").values()
    assert (figures.recipe, figures.status) == ("masks_small", "done")
    assert {"ap", "ap50", "box_ap", "box_ap50", "params", "macs", "ms"} <= figures.metrics.keys()
    keys = {path.name.partition("-")[0] for path in (found / "run" / "promoted").glob("*-masks_small-*")}
    assert keys == {architecture.key, *(published.load(name).key for name in HEADS)}
    job = json.loads((the(found / "run" / "promoted", f"{architecture.key}-*") / "job.json").read_text())
    assert (job["recipe"]["backbone"], job["recipe"]["width"]) == ("tiny", "8")


def test_it_finds_masks_in_pictures(found, tmp_path, capsys):
    image = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(image)
    ((architecture, _),) = nas.load_run(found / "run").best_with_trials(1)
    place = the(found / "run" / "promoted", f"{architecture.key}-*")
    run(predict_command.main, place / "weights.safetensors", "--input", image, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "image.png").is_file()
    model = nas.load(place)
    for row in model.rows(1, model.predict(_read(image))):
        assert row["segmentation"]["size"] == [48, 64]


def _read(path):
    import torchvision

    return torchvision.io.read_image(str(path))


def test_report_and_exports(found, tmp_path, capsys):
    run(analyze_command.main, found / "run")
    assert "attention" in (found / "run" / "report" / "report.html").read_text()
    for form in ("json", "torch", "svg"):
        run(export_command.main, found / "run", "--rank", "1", "--format", form, "--out", tmp_path)
    assert len(list(tmp_path.iterdir())) >= 3


def test_data_without_masks_are_refused_before_anything_is_done(tmp_path, capsys):
    data, out = trees.write_voc(tmp_path / "voc"), tmp_path / "run"
    flags = ("--space", "mask_head", "--data", data, "--out", out, "--cache-dir", tmp_path / "cache")
    assert search_command.main([str(flag) for flag in flags]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "masks" in line
    assert not out.exists()
