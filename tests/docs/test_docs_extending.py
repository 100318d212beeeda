"""The examples of docs/extending.md, taken from the page and run as its commands run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import nas

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLES = dict(
    zip(
        ("uniform_head", "hill_climbing", "yolo", "denoise"),
        re.findall(r"```python\n(.*?)```", PAGE, re.S),
        strict=True,
    )
)
SMALL = ("crop=64", "batch_size=8", "iterations=2", "width=16-32", "pretrain_iterations=2")


def search(folder: Path, *flags: str, sizes: tuple[str, ...] = SMALL) -> subprocess.CompletedProcess:
    """The page's command, as a user types it in the folder that holds the example."""
    for name, text in EXAMPLES.items():
        (folder / f"{name}.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "nas.cli.search",
        *flags,
        "--cache-dir",
        "cache",
        "--out",
        "run",
        "--device",
        "cpu",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if "denoise" not in flags:  # the family's own test confirms
        command += ["--confirm", "0"]
    return subprocess.run(
        [*command, "--set", *sizes],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_page_names_the_commands_that_are_run_here():
    for command in ("--import uniform_head --space uniform_head", "--import hill_climbing", "--import yolo --data"):
        assert command in PAGE


@pytest.mark.parametrize("workers", [0, 1])
def test_a_space(tmp_path, workers):
    done = search(
        tmp_path, "--import", "uniform_head", "--space", "uniform_head", "--trials", "3", "--workers", str(workers)
    )
    assert done.returncode == 0, done.stderr
    trials = nas.load_run(tmp_path / "run").trials
    assert set(trials["status"]) <= {"done", "duplicate"}
    assert {"depth", "op"} <= set(trials.columns)


def test_a_controller(tmp_path):
    flags = ("--import", "hill_climbing", "--controller", "hill-climbing", "--space", "fcos_head", "--trials", "3")
    done = search(tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert len(nas.load_run(tmp_path / "run").trials) == 3


def write_yolo(root: Path) -> Path:
    (root / "images" / "train").mkdir(parents=True)
    (root / "labels" / "train").mkdir(parents=True)
    (root / "classes.txt").write_text("disc\nnut\n")
    for index in range(6):
        Image.new("RGB", (96, 64), (40 * index, 80, 120)).save(root / "images" / "train" / f"{index}.jpg")
        (root / "labels" / "train" / f"{index}.txt").write_text("0 0.5 0.5 0.25 0.5\n1 0.2 0.3 0.2 0.2\n")
    return root


def test_a_dataset(tmp_path):
    write_yolo(tmp_path / "set")
    flags = ("--import", "yolo", "--data", "set", "--space", "fcos_head", "--controller", "random", "--trials", "2")
    done = search(tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    assert "YOLO, 6 images, 2 classes, 12 boxes" in done.stdout + done.stderr
    assert len(nas.load_run(tmp_path / "run").trials) == 2


def test_a_dataset_with_a_broken_line(tmp_path):
    labels = write_yolo(tmp_path / "set") / "labels" / "train" / "3.txt"
    labels.write_text("0 0.5 0.5 0.25 0.5\nnonsense\n")
    done = search(tmp_path, "--import", "yolo", "--data", "set", "--space", "fcos_head", "--trials", "2")
    assert done.returncode == 2
    assert re.search(r"3\.txt, line 2: a line has a class and four numbers, got 'nonsense'", done.stderr)
    assert not (tmp_path / "run").exists()


def test_a_family(tmp_path):
    done = search(tmp_path, "--import", "denoise", "--space", "denoiser", sizes=("steps=3",))
    assert done.returncode == 0, done.stderr
    assert len(nas.load_run(tmp_path / "run").trials) == 6  # the family's own number
    assert list(nas.load_run(tmp_path / "run").references.name) == ["untouched"]
    assert re.search(r"The winner is (above|below) untouched by \d", done.stdout)
    (tmp_path / "mine.yaml").write_text("kind: denoise\n")
    command = [sys.executable, "-m", "nas.cli.promote", "run", "--recipe", "mine.yaml", "--top", "2", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command += ["--iterations", "5"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"denoiser 2, trial \d", done.stdout)
    assert "on unseen signals" in done.stdout
    found = nas.load_run(tmp_path / "run").contents().promotions
    assert [row.status for row in found] == ["done", "done"]
    assert all(0 < row.metrics["error"] < 10 for row in found)
