"""``nas-promote --measure``: rows, files, a kill and going on, and what cannot be measured."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import trees
from places import edit, environment
from promoting_parts import VIDEO, rows, run, the

import nas
from experiments.video import measuring
from experiments.video.evaluation import evaluate
from nas.cli import promote as promote_command
from nas.measuring import measure
from nas.run.directory import lock_run
from proxy_tasks.data.video import open_video

FILES = {"measured.csv", "measured.png", "measured.svg"}


@pytest.fixture(scope="module")
def root(home, tmp_path_factory):
    """A run with a cell that was trained in full."""
    root = shutil.copytree(home / "run", tmp_path_factory.mktemp("measured") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.video.evaluation.median_milliseconds", lambda run, device: 12.34)
        run(promote_command.main, root, *VIDEO)
    return root


@pytest.fixture
def cell(root):
    """The folder of the trained cell."""
    key = nas.load_run(root).best()[0].key
    return the(root / "promoted", f"{key}-camvid_video-*")


@pytest.fixture
def flags(home, tmp_path):
    return ["--data", home / "data", "--device", "cpu", "--out", tmp_path / "out"]


@pytest.fixture
def evaluated(monkeypatch):
    """Interval and scale of every evaluation."""
    calls = []

    def watched(network, data, scale, interval, *rest):
        calls.append((interval, scale))
        return evaluate(network, data, scale, interval, *rest)

    monkeypatch.setattr(measuring, "evaluate", watched)
    return calls


def table(folder):
    with (folder / "measured.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_combination_is_a_row_a_point_and_a_line(root, cell, home, flags, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run(promote_command.main, cell, "--measure", "keyframe_interval=1,3,0", "scale=0.5,1", *flags)
    out = capsys.readouterr().out
    found = table(tmp_path / "out")
    assert [(row["scale"], row["keyframe_interval"], row["device"]) for row in found] == [
        (scale, interval, "cpu") for scale in ("0.5", "1.0") for interval in ("1", "3", "0")
    ]
    network, data = nas.load(cell, "cpu").network, open_video(str(home / "data"), "test")
    for row in found:
        scale, interval = float(row["scale"]), int(row["keyframe_interval"])
        figures, _ = evaluate(network, data, scale, interval, torch.device("cpu"), (), lambda *n: None)
        assert float(row["miou"]) == figures["miou"]
        assert float(row["ms"]) == pytest.approx(12.34)
    assert "…" not in out
    assert [row[0:3] for row in rows(out)] == [[row["keyframe_interval"], row["scale"], "cpu"] for row in found]
    assert [row[3] for row in rows(out)] == [f"{100 * float(row['miou']):.1f}" for row in found]
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES | {".lock"}
    drawing = (tmp_path / "out" / "measured.svg").read_text()
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", drawing)
    assert {"scale 0.5", "scale 1.0", "mIoU, %", "milliseconds a frame", "GMACs a frame"} <= set(texts)


def test_the_trained_settings_are_the_result_of_the_training(root, cell, home):
    """Without settings the scale is that of the training; the data are the run's."""
    run(promote_command.main, root, "--measure", "--device", "cpu")
    found = table(cell / "measured")
    assert [row["keyframe_interval"] for row in found] == ["1", "2", "3", "5", "0"]
    result = json.loads((cell / "result.json").read_text())
    (same,) = (row for row in found if row["keyframe_interval"] == "3")  # the recipe's
    for name in ("miou", "macc", "gacc", "fwiou", "tiou"):
        assert float(same[name]) == result["metrics"][name]
    for name in ("params", "macs_first", "macs_following"):
        assert float(same[name]) == result["cost"][name]


def test_a_killed_sweep_goes_on(cell, flags, tmp_path, evaluated):
    scales = [round(0.5 + n / 20, 2) for n in range(30)]
    command = [
        str(a) for a in (cell, "--measure", "keyframe_interval=2,0", f"scale={','.join(map(str, scales))}", *flags)
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "nas.cli.promote", *command], env=environment(), stdout=subprocess.DEVNULL
    )
    path = tmp_path / "out" / "measured.csv"
    while process.poll() is None and not (path.exists() and len(path.read_text().splitlines()) > 3):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = path.read_text()
    there = len(table(tmp_path / "out"))
    assert 3 <= there < 60
    assert promote_command.main(command) == 2  # without --resume
    assert path.read_text() == before
    run(promote_command.main, *command, "--resume")
    assert path.read_text().startswith(before)
    points = [(interval, scale) for scale in scales for interval in (2, 0)]
    assert evaluated == points[there:]
    assert [(int(row["keyframe_interval"]), float(row["scale"])) for row in table(tmp_path / "out")] == points
    evaluated.clear()
    run(promote_command.main, *command, "--resume")
    assert evaluated == []


def test_a_finished_sweep_takes_more_points(cell, flags, tmp_path, evaluated):
    run(promote_command.main, cell, "--measure", "keyframe_interval=1", *flags)
    run(promote_command.main, cell / "weights.safetensors", "--measure", "keyframe_interval=2,1", *flags, "--resume")
    assert evaluated == [(1, 1.0), (2, 1.0)]
    assert [row["keyframe_interval"] for row in table(tmp_path / "out")] == ["1", "2"]


def test_python(cell, home, tmp_path):
    found = measure(cell, ["keyframe_interval=2", "device=cpu"], data=str(home / "data"), out=tmp_path)
    assert [(row["keyframe_interval"], row["scale"]) for row in found] == [(2, 1.0)]
    assert found[0]["miou"] == float(table(tmp_path)[0]["miou"])


@pytest.fixture
def assert_refused(flags, tmp_path, capsys, monkeypatch):
    """Asserts that the command is refused by one sentence, and measures nothing."""
    monkeypatch.setattr(measuring, "evaluate", lambda *_: pytest.fail("it is measured"))

    def check(message, *arguments, more=flags):
        capsys.readouterr()
        assert promote_command.main([str(argument) for argument in (*arguments, *more)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.match(rf"nas-promote: .*{message}", line), line

    return check


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["interval=2"], "--measure has no setting 'interval'; known: keyframe_interval, scale, device"),
        (["keyframe_interval"], "--measure takes NAME=VALUE,VALUE,..., got 'keyframe_interval'"),
        (["keyframe_interval=1,-1"], "--measure keyframe_interval takes whole numbers of at least 0, .* got '-1'"),
        (["keyframe_interval=1.5"], "whole numbers of at least 0, with commas between several, got '1.5'"),
        (["scale=1,0"], "--measure scale takes numbers above 0, .* got '0'"),
        (["scale=-0.5"], "numbers above 0, .* got '-0.5'"),
        (["scale=nan"], "numbers above 0, .* got 'nan'"),
        (["scale=inf"], "numbers above 0, .* got 'inf'"),
        (["scale=0.5,"], "numbers above 0, .* got ''"),
        (["device=tpu"], "--measure device takes cpu or cuda, .* got 'tpu'"),
        (["device=cpu"], "--device cpu and --measure device=... both say where"),
    ],
)
def test_bad_settings(cell, assert_refused, settings, message):
    assert_refused(message, cell, "--measure", *settings)


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--recipe", "camvid_video"), ("--top", "2"), ("--set", "scale=1"), ("--backbone-weights", "none")],
)
def test_flags_of_trainings(cell, assert_refused, flag, value):
    assert_refused(f"{flag} is for a training, but --measure trains nothing", cell, "--measure", flag, value)


def test_what_holds_no_trained_cell(root, home, tmp_path, assert_refused):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "gone", root / "promoted"):
        assert_refused(
            f"{place} is neither a full training's folder, nor weights in one, nor a run", place, "--measure"
        )
    static = the(root / "promoted", "baseline-camvid_video-*")
    assert_refused(f"{static} holds a static network, .* keyframe intervals make no sense for it", static, "--measure")
    assert_refused("nothing is trained in full yet", home / "run", "--measure")


def test_a_detector_has_nothing_to_set(tmp_path, assert_refused):
    data = trees.write_voc(tmp_path / "voc", n=4, n_test=2)
    recipe = ("--recipe", "fcos_small", "--iterations", "1", "--device", "cpu", "--backbone-weights", "none")
    sizes = ("--set", "min_size=64", "min_size_least=64", "max_size=96", "batch_size=2", "backbone=tiny", "width=16")
    run(promote_command.main, "fpn_fcos", *recipe, *sizes, "--data", data, "--out", tmp_path / "promoted")
    place = the(tmp_path / "promoted", "*-fcos_small-*")
    assert_refused(f"{place} holds a network of the family 'fcos', which has nothing to set", place, "--measure")


def test_other_data(cell, tmp_path, assert_refused):
    flags = ["--device", "cpu", "--out", tmp_path / "out"]
    assert_refused("built-in: the test set's classes are ground, .* by --data", cell, "--measure", more=flags)
    assert_refused("there is no folder", cell, "--measure", "--data", tmp_path / "gone", more=flags)


def test_files_of_something_else(cell, home, flags, tmp_path, capsys, assert_refused, monkeypatch):
    monkeypatch.setattr(measuring, "evaluate", evaluate)
    run(promote_command.main, cell, "--measure", "keyframe_interval=1", *flags)
    path = tmp_path / "out" / "measured.csv"
    good = path.read_text()
    again = (cell, "--measure", "keyframe_interval=1,2", "--resume")
    assert_refused("measured.csv is there already; choose another --out, or go on", *again[:-1])
    row = table(tmp_path / "out")[0]
    for name in ("timed_on", "weights", "data"):
        edit(path, row[name], "another")
        assert_refused(
            f"measured.csv, line 2: {name} is 'another', but '{re.escape(row[name])}' is measured now", *again
        )
        path.write_text(good)
    edit(path, "tiou", "tIoU")
    assert_refused("measured.csv cannot be read: its columns must be keyframe_interval, scale, device, miou", *again)
    path.write_text(good.replace(row["miou"], "high"))
    assert_refused("measured.csv cannot be read: .*'high'", *again)
    path.write_text(good)
    with lock_run(tmp_path / "out"):
        assert_refused("is being written by process", *again)
    (tmp_path / "file").write_text("")
    elsewhere = [*flags[:-1], tmp_path / "file"]
    assert_refused(f"cannot write to the folder {tmp_path / 'file'}: ", *again, more=elsewhere)


def test_memory_that_runs_out_leaves_the_rows_before(cell, flags, tmp_path, capsys, monkeypatch):
    def exhausted(network, data, scale, *rest):
        if scale > 1:
            raise torch.OutOfMemoryError("tried to allocate 4 TiB")
        return evaluate(network, data, scale, *rest)

    monkeypatch.setattr(measuring, "evaluate", exhausted)
    command = [str(a) for a in (cell, "--measure", "keyframe_interval=2", "scale=1,64", *flags)]
    assert promote_command.main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nas-promote: out of memory at keyframe_interval 2, scale 64.0, device cpu; ")
    assert [row["scale"] for row in table(tmp_path / "out")] == ["1.0"]
