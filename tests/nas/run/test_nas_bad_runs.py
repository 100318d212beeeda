"""Runs and architecture files that are not what they should be, and interruption."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pandas
import pytest
import trees
from places import Place, edit, environment, set_box

import nas
from nas.cli import export as export_command
from nas.cli import search as search_command
from search_spaces import Architecture, InputError

# Runs


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A place with a finished run, and a copy of it in a folder beside it."""
    root = tmp_path_factory.mktemp("place")
    trees.write_voc(root / "data", n=6, n_test=2)
    assert search_command.main(Place(root, None).flags()) == 0
    return root, shutil.copytree(root, root.with_name("copy"))


@pytest.fixture
def finished(searched, capsys):
    root, copy = searched
    shutil.rmtree(root)  # what the test before left of it
    return Place(shutil.copytree(copy, root), capsys)


def test_a_run_directory_that_exists(finished):
    (finished.root / "folder").mkdir()
    (finished.root / "file").write_text("")
    before = sorted(finished.root.rglob("*"))
    for out in ("run", "folder", "file"):
        status, (line,) = finished.search("--out", finished.root / out)
        assert status == 2
        assert re.search(rf"^nas-search: \S+/{out} exists already; choose another --out", line)
    status, (line,) = finished.search("--out", finished.root / "file" / "run")
    assert status == 2
    assert re.search(r"^nas-search: cannot make the run directory \S+/file/run: Not a directory$", line)
    assert sorted(finished.root.rglob("*")) == before


OTHER_SETTINGS = [
    ("--seed 1", "has seed = 0, but 1 is asked for; --resume changes where and how long a run is searched, not what; "),
    ("--space fcos_head", "has space = 'fcos_fpn', but 'fcos_head' is asked for; "),
    ("--set crop=96", "has task = {.*'crop': 128.*}, but {'crop': 96} is asked for; "),
    ("--controller lstm-ppo", "has controller = 'random', but 'lstm-ppo' is asked for; "),
]


def test_resume_with_other_settings(finished):
    before = (finished.run / "run.yaml").read_bytes()
    for flags, message in OTHER_SETTINGS:
        status, (line,) = finished.told(search_command.main, ["--resume", finished.run, *flags.split()])
        assert status == 2
        assert re.search(rf"^nas-search: the run {finished.run} {message}", line), line
    assert (finished.run / "run.yaml").read_bytes() == before
    assert finished.told(search_command.main, ["--resume", finished.run]) == (0, [])


RUN_FAULTS = {
    "nothing": (shutil.rmtree, "run is not a run: there is no such folder"),
    "empty folder": (lambda run: (shutil.rmtree(run), run.mkdir()), "run is not a run: it has no run.yaml"),
    "a file": (lambda run: (shutil.rmtree(run), run.write_text("")), "cannot read .*run/run.yaml: Not a directory$"),
    "not YAML": (lambda run: (run / "run.yaml").write_text("a: ["), "run.yaml, line 1: not YAML: "),
    "newer": (lambda run: edit(run / "run.yaml", "format: 1", "format: 9"), r"run.yaml: format 9 is newer than this"),
    "unknown setting": (
        lambda run: edit(run / "run.yaml", "  seed:", "  sead:"),
        "run.yaml: there is no setting 'sead'; known: ",
    ),
    "bad setting": (
        lambda run: edit(run / "run.yaml", "seed: 0", "seed: x"),
        "run.yaml: setting 'seed' must be a whole",
    ),
    "bad fingerprints": (
        lambda run: edit(run / "run.yaml", "fingerprints:\n", "fingerprints:\n  x: 3\n"),
        "run.yaml: key 'x' must be a mapping, got 3",
    ),
    "no store": (lambda run: (run / "trials.db").unlink(), "run is not a run: it has no trials.db"),
    "not a store": (
        lambda run: (run / "trials.db").write_text("hello" * 99),
        "trials.db is not a run store: file is not",
    ),
    "empty store": (lambda run: (run / "trials.db").write_text(""), "trials.db is not a run store: no such table"),
    "half a store": (
        lambda run: os.truncate(run / "trials.db", 8192),
        "trials.db (cannot be read|is not a run store): ",
    ),
    "newer store": (
        lambda run: change_store(run, "UPDATE meta SET value = 9"),
        r"trials.db: format 9 is newer than this version reads \(4\)",
    ),
    "odd store": (lambda run: change_store(run, "UPDATE meta SET value = 'x'"), "trials.db is not a run store: "),
}


def change_store(run, statement):
    db = sqlite3.connect(run / "trials.db")
    with db:
        db.execute(statement)
    db.close()


@pytest.mark.parametrize("fault", RUN_FAULTS)
def test_resume_and_export_of_something_that_is_no_run(finished, fault):
    damage, message = RUN_FAULTS[fault]
    damage(finished.run)
    status, (line,) = finished.told(search_command.main, ["--resume", finished.run])
    assert status == 2
    assert re.search(rf"^nas-search: .*{message}", line), line
    if finished.run.is_dir():
        status, (line,) = finished.told(export_command.main, [finished.run])
        assert status == 2
        assert re.search(rf"^nas-export: .*{message}", line), line


def test_resume_after_the_data_changed(finished):
    text = finished.xml(0).read_text()
    set_box(finished.xml(0), 1, xmin=1)
    status, (line,) = finished.told(search_command.main, ["--resume", finished.run])
    assert status == 2
    assert re.search(
        rf"^nas-search: the data of the run {finished.run} changed since it began: its fingerprint is \w+, was \w+;"
        " start a new run$",
        line,
    )
    finished.xml(0).write_text("<annotation>")
    status, (line,) = finished.told(search_command.main, ["--resume", finished.run])
    assert (status, "a000.xml: broken XML, line 1" in line) == (2, True)
    finished.xml(0).write_text(text)
    assert finished.told(search_command.main, ["--resume", finished.run]) == (0, [])


# Architectures

GOOD = Architecture.of("fcos_fpn", (0,) * 35)
FILE_FAULTS = {
    "bad JSON": (lambda text: text[:60], r"a.json: not JSON, line \d+ column \d+: "),
    "not an object": (lambda text: "[1]", "a.json: an architecture file is a JSON object, got list"),
    "unknown space": (
        lambda text: text.replace("fcos_fpn", "fcos_fpm"),
        "a.json: there is no search space 'fcos_fpm'; known: .*did you mean 'fcos_fpn'",
    ),
    "a module": (
        lambda text: text.replace("fcos_fpn", "this:that"),
        "a.json: a file names a registered search space, got 'this:that'",
    ),
    "unknown choice": (
        lambda text: text.replace("fpn.1.op1", "fpn.1.opp"),
        "a.json: search space 'fcos_fpn' has no choice 'fpn.1.opp'",
    ),
    "unknown option": (
        lambda text: text.replace('"fpn.1.op1": "', '"fpn.1.op1": "x'),
        "a.json: choice 'fpn.1.op1' has no option 'x.*'; its options are ",
    ),
    "missing choice": (
        lambda text: re.sub(r'\s*"fpn.1.op1": "\w+",', "", text),
        "a.json: search space 'fcos_fpn' needs an option for choice 'fpn.1.op1', none is given",
    ),
    "newer format": (
        lambda text: text.replace('"format": 1', '"format": 2'),
        r"a.json: format 2 is newer than this version reads \(1\)",
    ),
    "no format": (lambda text: "{}", "a.json: key 'format' must be a JSON int, got None"),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_bad_architecture_files(place, fault):
    change, message = FILE_FAULTS[fault]
    file = place.root / "a.json"
    file.write_text(GOOD.to_json())
    assert Architecture.load(file) == GOOD
    file.write_text(change(GOOD.to_json()))
    assert file.read_text() != GOOD.to_json()
    status, (line,) = place.told(export_command.main, [file, "--out", place.root / "out"])
    assert status == 2
    assert re.search(rf"^nas-export: .*{message}", line), line
    assert not (place.root / "out").exists()
    with pytest.raises(InputError, match=message):
        nas.build(file)


def test_export_of_what_is_not_there(place, monkeypatch):
    monkeypatch.chdir(place.root)
    for what, message in [
        (
            "nas_fcoss",
            r"'nas_fcoss' is neither a run's directory, nor an architecture file, nor a published .*nas_fcos,",
        ),
        ("runs/mine", r"'runs/mine' is neither a run's directory, nor an architecture file, nor a published"),
        ("none.json", "cannot read the architecture file none.json: No such file or directory$"),
        (".", "is not a run: it has no run.yaml"),
    ]:
        status, (line,) = place.told(export_command.main, [what])
        assert status == 2
        assert re.search(rf"^nas-export: .*{message}", line), line
    (place.root / "arch.txt").write_text("hello")
    status, (line,) = place.told(export_command.main, ["arch.txt"])
    assert (status, "arch.txt: not JSON, line 1 column 1" in line) == (2, True)
    status, (line,) = place.told(export_command.main, ["nas_fcos", "--out", "arch.txt"])
    assert (status, line) == (2, "nas-export: cannot write to the folder arch.txt: File exists")
    assert sorted(path.name for path in place.root.iterdir()) == ["arch.txt"]


# Interruption


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_says_how_to_resume_and_the_resumed_run_is_that_of_an_undisturbed_one(voc):
    many = ("--trials", "5", "--set", "iterations=10")
    assert voc.search(*many) == (0, [])
    calm = nas.load_run(voc.run).trials.drop(columns="seconds")
    voc.run.rename(voc.root / "calm")

    command = [sys.executable, "-m", "nas.cli.search", *map(str, voc.flags(*many))]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not settled(voc.run):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == f"nas-search: interrupted; go on with nas-search --resume {voc.run}\n"
    assert len(nas.load_run(voc.run).trials) < 5
    assert voc.told(search_command.main, ["--resume", voc.run]) == (0, [])
    pandas.testing.assert_frame_equal(nas.load_run(voc.run).trials.drop(columns="seconds"), calm)


def settled(run):
    try:
        return (nas.load_run(run).trials.status == "done").any()
    except InputError:  # it is just being made
        return False
