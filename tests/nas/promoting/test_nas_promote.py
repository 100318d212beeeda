"""``nas-promote`` from end to end: static network, search on it, the best cells trained in full."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import trees
from PIL import Image
from places import environment
from promoting_parts import SEARCH, TINY, VIDEO, promotions, rows, run, the
from rich.console import Console

import nas
from experiments.video import jobs
from experiments.video.promotion import CELLS
from nas.cli import promote as promote_command
from nas.cli import search as search_command
from nas.promoting import comparison
from proxy_tasks.task import Diverged
from proxy_tasks.video.network import build_segmenter
from proxy_tasks.weights import load_weights, state_hash
from search_spaces import Architecture
from search_spaces.video.choices import VIDEO_CELL, VIDEO_CELL_4


def test_the_best_cells_beside_the_baseline(cells, home, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    run(promote_command.main, cells, *VIDEO, "--top", "2", "--pictures", "2")
    out = capsys.readouterr().out
    assert "test: CamVid, 4 frames in 1 clip, 11 classes" in out
    assert re.search(r"on the test frames, timed on .+, \d+ thread", out)
    ranked = nas.load_run(cells).ranked()["video_cell"]
    table = rows(out)
    assert [row[0] for row in table] == ["baseline", *(f"cell {n}, trial {r.number}" for n, r in enumerate(ranked, 1))]
    assert all(re.fullmatch(r"\d+\.\d", value) for row in table for value in row[1:5])
    assert all(row[-1] == "12.3 / 12.3" for row in table)
    assert out.rstrip().endswith(f"Everything is in {cells / 'promoted'}.")

    stored = promotions(cells)
    assert stored.keys() == {item.key for item in ranked}
    for row, item in zip(table[1:], ranked, strict=True):
        figures = stored[item.key]
        assert (figures.recipe, figures.status) == ("camvid_video", "done")
        assert row[1] == f"{100 * figures.metrics['miou']:.1f}"
        assert row[4] == f"{100 * figures.metrics['tiou']:.1f}"
        assert row[5] == f"{figures.metrics['params'] / 1e6:.3f} M"
        assert figures.metrics["ms_following"] == 12.34
        assert os.path.isfile(os.path.join(figures.place, "weights.safetensors"))

    drawn = the(cells / "promoted", "strips-camvid_video-*")
    strips = sorted(path.name for path in drawn.iterdir())
    assert strips == ["Seq05VD_f00000.png", "Seq05VD_f00090.png", "legend.png"]
    with Image.open(drawn / strips[0]) as sheet:
        assert sheet.width >= 5 * 48
        assert sheet.height >= 40
    for place in (cells / "promoted").glob("[!s]*-camvid_video-*"):
        for name in strips[:2]:
            with Image.open(place / "pictures" / name) as picture:
                assert picture.size == (48, 40)
                colours = {tuple(colour) for colour in np.unique(np.array(picture).reshape(-1, 3), axis=0)}
            assert colours <= set(map(tuple, jobs.open_video(home / "data", "test").palette))


def test_resume_does_nothing_twice(cells, capsys):
    run(promote_command.main, cells, *VIDEO)
    first = capsys.readouterr().out
    before = {path: path.read_bytes() for path in (cells / "promoted").rglob("*") if path.is_file()}
    assert promote_command.main([str(cells), *VIDEO]) == 2
    assert "holds a training already; choose another --out, or go on with it by --resume" in capsys.readouterr().err
    run(promote_command.main, cells, *VIDEO, "--resume")
    second = capsys.readouterr().out
    assert rows(second) == rows(first)
    assert "training" in first
    assert "training" not in second
    assert {path: path.read_bytes() for path in (cells / "promoted").rglob("*") if path.is_file()} == before
    run(promote_command.main, cells, *VIDEO, "--resume", "--top", "2")
    assert len(rows(capsys.readouterr().out)) > len(rows(first))
    assert {path: path.read_bytes() for path in before} == before
    assert len(promotions(cells)) == 2


def test_a_run_without_static_weights_brings_its_own(home, tmp_path, capsys):
    where = ["--data", home / "data", "--cache-dir", home / "cache", "--out", tmp_path / "run"]
    run(search_command.main, *SEARCH, "pretrain_iterations=2", *where)
    run(promote_command.main, tmp_path / "run", *VIDEO)
    kept = nas.load_run(tmp_path / "run").record.fingerprints["video_cell"]["static"]
    network = build_segmenter(Architecture.of("arch2", ()), "tiny", "none", 11, 16)
    load_weights(network, the(tmp_path / "run" / "promoted", "baseline-camvid_video-*") / "weights.safetensors")
    assert state_hash(network) == kept

    shutil.rmtree(tmp_path / "run" / "kept")  # as runs of an earlier version are
    record = nas.load_run(tmp_path / "run").path / "run.yaml"
    record.write_text(record.read_text().replace(kept, "f" * 16))
    capsys.readouterr()
    assert promote_command.main([str(tmp_path / "run"), *VIDEO, "--out", str(tmp_path / "other")]) == 2
    assert f"no longer to be had: the one found now has the hash {kept}, that one had ffff" in capsys.readouterr().err


def test_a_diverged_cell_is_a_row_and_the_others_are_trained(cells, capsys, monkeypatch):
    first, second = nas.load_run(cells).ranked()["video_cell"]
    train = jobs.train_video

    def diverging(place, architecture, *rest):
        if architecture.key == first.key:
            raise Diverged("the training loss is nan at step 10 of 20")
        return train(place, architecture, *rest)

    monkeypatch.setattr(jobs, "train_video", diverging)
    assert promote_command.main([str(cells), *VIDEO, "--top", "2", "--pictures", "1"]) == 1
    told = capsys.readouterr()
    assert told.err == (
        f"nas-promote: cell 1, trial {first.number}: the training loss is nan at step 10 of 20; lower the recipe's"
        " learning rates by --set\n"
    )
    assert "cell 2" in told.out
    assert {key: row.status for key, row in promotions(cells).items()} == {first.key: "diverged", second.key: "done"}
    assert promotions(cells)[first.key].metrics == {}
    assert len(nas.load_run(cells).trials) == 2
    monkeypatch.setattr(jobs, "train_video", train)
    run(promote_command.main, cells, *VIDEO, "--top", "2", "--pictures", "1", "--resume")
    assert {row.status for row in promotions(cells).values()} == {"done"}


def test_a_loss_that_is_not_finite_is_status_1(home, tmp_path, capsys):
    arguments = ["arch2", "--recipe", "camvid_static", "--data", home / "data", *TINY, "encoder_learning_rate=1e30"]
    status = promote_command.main([str(a) for a in (*arguments, "--iterations", "12", "--out", tmp_path / "out")])
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 1
    assert re.fullmatch(
        r"nas-promote: arch2: the training loss is \w+ at step 10 of 12; lower the recipe's .* --set", line
    )


def test_a_cell_of_a_file(home, tmp_path, capsys):
    path = tmp_path / "cell.json"
    path.write_text(VIDEO_CELL.sample(np.random.default_rng(0)).to_json())
    static = the(home / "static", "arch2-camvid_static-*") / "weights.safetensors"
    sizes = [*VIDEO, "backbone=tiny", "width=16", "--out", tmp_path / "out"]
    run(promote_command.main, path, *sizes, "--data", home / "data", "--static", static)
    assert [row[0] for row in rows(capsys.readouterr().out)][:2] == ["baseline", "cell 1"]
    # the built-in data have other classes
    assert promote_command.main([str(a) for a in (path, *sizes, "--static", static)]) == 2
    assert re.search(r"weights.safetensors: 'decoder.classifier.weight' has shape", capsys.readouterr().err)


def test_cityscapes(tmp_path):
    data = trees.write_cityscapes(tmp_path / "data", n=2, n_test=2, size=(64, 40))
    static = ["--recipe", "cityscapes_static", "--data", data, "--iterations", "1", "--out", tmp_path / "out", *TINY]
    run(promote_command.main, "arch2", *static, "--pictures", "2", "--loaders", "1")
    place = the(tmp_path / "out", "arch2-cityscapes_static-*")
    names = ["frankfurt_000000_000019.png", "frankfurt_000001_000019.png"]
    assert sorted(os.listdir(place / "pictures")) == names
    path = tmp_path / "cell.json"
    path.write_text(VIDEO_CELL_4.sample(np.random.default_rng(0)).to_json())
    video = ["--recipe", "cityscapes_video", "--data", data, "--iterations", "1", "--out", tmp_path / "out", *TINY]
    weights = ["--static", place / "weights.safetensors"]
    run(promote_command.main, path, *video, "cell_epochs=1", *weights, "--pictures", "5")
    assert sorted(os.listdir(the(tmp_path / "out", "strips-*"))) == [*names, "legend.png"]


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_saves_says_how_to_go_on_and_gives_130(home, tmp_path, capsys):
    flags = ["--recipe", "camvid_static", "--data", home / "data", *TINY, "--iterations", "100000", "--loaders", "1"]
    arguments = [str(a) for a in ("arch2", *flags, "--out", tmp_path / "out")]
    command = [sys.executable, "-m", "nas.cli.promote", *arguments]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob("*/job.json")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    place = the(tmp_path / "out", "arch2-camvid_static-*")
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=60)
    assert errors == "nas-promote: interrupted; go on with the same command and --resume\n"
    assert process.returncode == 130
    assert (place / "checkpoint.pt").exists()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_figure_of_the_table_is_ever_cut(width):
    metrics = {"miou": 1.0, "macc": 0.771, "gacc": 0.908, "tiou": 0.414}
    cost = {"params": 3389123, "macs_first": 123.45e9, "macs_following": 23.45e9, "ms_first": 1234.5, "ms_following": 9}
    shared = {"metrics": metrics, "cost": cost}
    results = [
        {"name": "baseline", "device": "one", **shared},
        {"name": "cell 1, trial 1234", "device": "two", **shared},
    ]
    page = io.StringIO()
    Console(width=width, file=page).print(comparison(results, CELLS))
    text = page.getvalue()
    assert "…" not in text
    figures = ["100.0", "77.1", "90.8", "41.4", "3.389 M", "123.45", "23.45", "1234.5", "9.0", "one; two", "1234"]
    assert [figure for figure in figures if figure not in text] == []
