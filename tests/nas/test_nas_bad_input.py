"""Hostile input through the commands: one sentence, the right status, nothing left that trips a second run."""

import errno
import json
import os
import pickle
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
import torch
import trees
from PIL import Image

import nas
from nas.cli import export as export_command
from nas.cli import search as search_command
from proxy_tasks import cache as caches
from search_spaces import Architecture, InputError

TINY = ["--set", "crop=128", "batch_size=8", "iterations=2", "width=16-32", "pretrain_iterations=2"]
FAST = ["--device", "cpu", "--space", "fcos_fpn", "--controller", "random", "--trials", "2"]


class Place:
    """A folder with data, a cache directory and a run that the commands are given."""

    def __init__(self, root, capsys):
        self.data, self.cache, self.run, self.capsys = root / "data", root / "cache", root / "run", capsys
        self.root = root

    def flags(self, *more):
        data = ["--data", str(self.data)] if self.data.exists() else []
        return [*FAST, *data, "--cache-dir", str(self.cache), "--out", str(self.run), *TINY, *more]

    def search(self, *more):
        """The status and the lines on standard error of a search with tiny settings."""
        return self.told(search_command.main, self.flags(*more))

    def told(self, main, arguments):
        self.capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return status, self.capsys.readouterr().err.splitlines()

    def refused(self, message, *more):
        """The search is refused with one line that has ``message``, and leaves neither a run nor half a cache."""
        status, lines = self.search(*more)
        assert status == 2, lines
        (line,) = lines
        assert re.search(rf"^nas-search: .*{message}", line), line
        assert not self.run.exists()
        assert self.litter() == []

    def runs(self, *more):
        """The search runs to its end; its rewards, after which the run's directory is free again."""
        status, lines = self.search(*more)
        assert status == 0, lines
        rewards = list(nas.load_run(self.run).trials.reward)
        shutil.rmtree(self.run)
        return rewards, lines

    def litter(self):
        """What a builder left in the cache directory beside whole entries and locks."""
        return list(self.cache.rglob("*.partial"))

    def xml(self, number):
        return self.data / "Annotations" / f"a{number:03d}.xml"

    def jpg(self, number):
        return self.data / "JPEGImages" / f"a{number:03d}.jpg"


@pytest.fixture
def place(tmp_path, capsys):
    return Place(tmp_path, capsys)


@pytest.fixture
def voc(place):
    trees.write_voc(place.data, n=6, n_test=2)
    return place


@pytest.fixture
def coco(place):
    trees.write_coco(place.data, n=6, n_test=2)
    return place


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def set_box(path, number, **sides):
    """Changes the sides of a Pascal VOC box."""
    text = path.read_text()
    for side, value in sides.items():
        text = re.sub(rf"<{side}>\d+</{side}>", f"<{side}>{value}</{side}>", text, count=number)
    path.write_text(text)


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# Data


def test_data_that_are_not_there(place):
    place.refused(r"there is no folder \S+/nowhere; ", "--data", place.root / "nowhere")
    (place.root / "file").write_text("")
    place.refused(r"\S+/file is not a folder; ", "--data", place.root / "file")
    place.refused(r"setting 'data' must be a path, got ''", "--data", "")


def test_data_of_no_known_layout(place):
    (place.data / "pictures").mkdir(parents=True)
    place.refused(r"data has no known dataset layout; looked for Pascal VOC \(.*\); or COCO \(annotations/instances_")


def test_data_of_two_layouts(voc):
    trees.write_coco(voc.data)
    voc.refused("data has more than one dataset layout, Pascal VOC and COCO; ")


VOC_FAULTS = {
    "broken XML": (
        lambda p: edit(p.xml(1), "</size>", "<size>"),
        r"a001.xml: broken XML, line \d+ column \d+: mismatch",
    ),
    "not an annotation": (lambda p: p.xml(1).write_text("<html/>"), r"a001.xml: the outermost element must be <annota"),
    "empty XML": (lambda p: p.xml(1).write_text(""), r"a001.xml: broken XML, line 1 column 1: no element found"),
    "missing image": (lambda p: p.jpg(2).unlink(), r"a002.xml: its image \S+/a002.jpg is missing"),
    "no image": (
        lambda p: p.jpg(2).write_text("hello"),
        r"a002.xml: its image \S+/a002.jpg cannot be read: cannot ident",
    ),
    "empty image": (lambda p: p.jpg(2).write_bytes(b""), r"a002.xml: its image \S+/a002.jpg cannot be read: "),
    "broken header": (
        lambda p: p.jpg(2).write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x04IHDR" + b"\0\0\0\x20" + b"\0" * 40),
        r"a002.xml: its image \S+/a002.jpg cannot be read: ",
    ),
    "annotation missing": (lambda p: p.xml(3).unlink(), r"trainval.txt, line 4: image 'a003' has no file in "),
    "box outside": (
        lambda p: set_box(p.xml(0), 1, xmax=200),
        r"a000.xml: object 1 \(.*xmax 200, .*\) lies outside its image of 96 x 64 pixels; .*--skip-bad-boxes",
    ),
    "box of no area": (
        lambda p: set_box(p.xml(0), 1, ymin=40, ymax=30),
        r"a000.xml: object 1 \(.*ymin 40, .*ymax 30\) has no area; .*--skip-bad-boxes",
    ),
    "box not a number": (
        lambda p: set_box(p.xml(0), 1, xmin="one"),
        r"a000.xml: object 1 needs a number in <xmin>, got 'o",
    ),
    "box is NaN": (lambda p: set_box(p.xml(0), 1, xmin="nan"), r"a000.xml: object 1 \(xmin nan, .*\) has no area"),
    "box is infinite": (
        lambda p: set_box(p.xml(0), 1, xmax="1e999"),
        r"a000.xml: object 1 \(.*xmax inf, .*\) lies outside",
    ),
    "other size": (
        lambda p: edit(p.xml(1), ">96<", ">69<"),
        r"a001.xml: the annotated size is 69 x 64 pixels, its image",
    ),
    "unknown class": (
        lambda p: (p.data / "classes.txt").write_text("disc\nwasher\nbolt\n"),
        r"a\d+.xml: object \d+ is a 'nut', a class that \S+/classes.txt lacks: disc, washer, bolt",
    ),
    "class listed twice": (
        lambda p: (p.data / "classes.txt").write_text("nut\nnut\n"),
        r"classes.txt: a class list names",
    ),
    "unnamed class": (
        lambda p: p.xml(0).write_text(re.sub("<name>.*</name>", "", p.xml(0).read_text())),
        "a000.xml: object 1 has no <name>",
    ),
    "no boxes at all": (
        lambda p: [xml.write_text(trees.voc_xml(xml.stem, 96, 64, [])) for xml in p.data.glob("Annotations/*.xml")],
        r"data: its train set has 6 images and not one box; it needs at least one",
    ),
}


@pytest.mark.parametrize("fault", VOC_FAULTS)
def test_bad_pascal_voc_data(voc, fault):
    damage, message = VOC_FAULTS[fault]
    damage(voc)
    voc.refused(message)


def annotations(place):
    return place.data / "annotations" / "instances_train2017.json"


COCO_FAULTS = {
    "broken JSON": (lambda c: None, r"instances_train2017.json: broken JSON, line 3 column 4: "),
    "missing image": (
        lambda c: c["images"][1].update(file_name="none.jpg"),
        r"instances_train2017.json: images\[1\]: its image \S+/none.jpg is missing",
    ),
    "impossible file name": (
        lambda c: c["images"][1].update(file_name="a\0b"),
        r"instances_train2017.json: images\[1\]: its image \S+ cannot be read: embedded null",
    ),
    "box outside": (
        lambda c: c["annotations"][0].update(bbox=[90, 10, 30, 10]),
        r"annotations\[0\].bbox \[90, 10, 30, 10\] lies outside its image of 96 x 64 pixels; .*--skip-bad-boxes",
    ),
    "box of no area": (
        lambda c: c["annotations"][0].update(bbox=[9, 10, 0, 10]),
        r"annotations\[0\].bbox \[9, 10, 0, 10\] has no area",
    ),
    "labels mixed": (
        lambda c: c["annotations"][1].update(category_id="5"),
        r"annotations\[1\]: key 'category_id' must be a whole number, got '5'",
    ),
    "unknown class": (
        lambda c: c["annotations"][1].update(category_id=4),
        r"annotations\[1\].category_id 4 is not the id of a category in the file",
    ),
    "class twice": (
        lambda c: c["categories"][0].update(name="disc"),
        r"instances_train2017.json: categories must name each class once, got \['disc', 'nut', 'disc'\]",
    ),
    "image of nowhere": (
        lambda c: c["annotations"][1].update(image_id=9),
        r"annotations\[1\].image_id 9 is not the id of an image in the file",
    ),
    "no list": (lambda c: c.update(images={}), r"instances_train2017.json: key 'images' must be a list, got {}"),
    "no annotations": (lambda c: c.pop("annotations"), r"key 'annotations' must be a list, which is missing"),
}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_bad_coco_data(coco, fault):
    damage, message = COCO_FAULTS[fault]
    if fault == "broken JSON":
        edit(annotations(coco), '  {\n   "id": 101', '  {;\n   "id": 101')
    else:
        change_json(annotations(coco), damage)
    coco.refused(message)


def test_one_bad_box_is_refused_or_skipped_with_a_warning(voc):
    set_box(voc.xml(0), 1, xmax=200)
    voc.refused("lies outside its image")
    _, lines = voc.runs("--skip-bad-boxes")
    (line,) = lines
    assert re.search(r"^nas-search: warning: \S+/data: dropped 1 bad boxes; the first: \S+a000.xml: object 1 ", line)


def test_a_truncated_image_is_found_while_decoding_and_the_mended_data_run(voc):
    calm, _ = voc.runs("--cache-dir", voc.root / "calm")
    whole = voc.jpg(3).read_bytes()
    voc.jpg(3).write_bytes(whole[: len(whole) // 2])
    voc.refused(r"the image \S+/a003.jpg cannot be decoded: image file is truncated")
    voc.jpg(3).write_bytes(whole)
    assert voc.runs() == (calm, [])


def test_mended_data_run_after_a_refusal(voc):
    text = voc.xml(1).read_text()
    voc.xml(1).write_text(text[: len(text) // 2])
    voc.refused("a001.xml: broken XML, line ")
    voc.xml(1).write_text(text)
    assert len(voc.runs()[0]) == 2


def test_images_without_boxes_are_valid(voc):
    for number in (1, 2):
        voc.xml(number).write_text(trees.voc_xml(f"a{number:03d}", 96, 64, []))
    assert len(voc.runs()[0]) == 2


def test_grey_palette_and_transparent_images_are_valid(voc):
    for number, mode in enumerate(("L", "P", "CMYK")):
        Image.open(voc.jpg(number)).convert(mode).convert("RGB" if mode == "P" else mode).save(voc.jpg(number))
    assert len(voc.runs()[0]) == 2


def test_one_image_is_too_few_and_some_must_have_boxes(place):
    trees.write_voc(place.data, n=1, n_test=1)
    place.refused(r"\S+/data: meta-train and meta-val need at least 2 images, the train set has 1")
    shutil.rmtree(place.data)
    trees.write_voc(place.data, n=2, n_test=1)  # the second of which has no box and is meta-val
    place.refused(r"\S+/data: no box of meta-val reaches a location at crop 128, so nothing can be scored; use larger")
    shutil.rmtree(place.data)
    trees.write_voc(place.data, n=6, n_test=1)
    assert len(place.runs()[0]) == 2


# Settings


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--space fcos_fpm", "there is no search space 'fcos_fpm'; known: .*did you mean 'fcos_fpn'"),
        ("--space os:system", "'os:system' is a builtin_function_or_method, not a search space"),
        ("--space no_such_module:SPACE", "the module 'no_such_module' cannot be imported: ModuleNotFoundError"),
        ("--import no_such_module", "the module 'no_such_module' cannot be imported: ModuleNotFoundError"),
        ("--import a-b", "setting 'imports' must be module names, as in mine,yours, got 'a-b'"),
        ("--controller os:system", "'os:system' is a builtin_function_or_method, not a controller class"),
        ("--cache-dir /proc/caches", r"the cache directory /proc/caches cannot be written \(.*\); give --cache-dir"),
        ("--controller evolve", "there is no controller 'evolve'; known: lstm-ppo, evolution, random"),
        ("--preset papr", "setting 'preset' must be one of demo, paper, got 'papr'"),
        ("--reward ap", "setting 'reward' must be one of loss, metric, got 'ap'"),
        ("--device gpu", "setting 'device' must be one of auto, cpu, cuda, got 'gpu'"),
        ("--backbone vgg", "there is no backbone 'vgg'; known: tiny, mobilenet_v2, "),
        ("--trials 0", "setting 'trials' must be a whole number of at least 1, or one a stage as in 30,15, got '0'"),
        ("--trials 2,2", r"trials gives 2 figures, but 'fcos_fpn' has 1 stage\(s\): fcos_fpn"),
        ("--workers -1", "setting 'workers' must be a whole number of at least 0, got -1"),
        ("--workers 1.5", "setting 'workers' must be a whole number of at least 0, got 1.5"),
        ("--seed 99999999999999999999", "seed must be a whole number of at least 0 and below 2"),
        ("--ray-address auto", "setting 'ray_address' is for worker processes, but 'workers' is 0; give --workers too"),
        ("--gpus-per-worker 1", "setting 'gpus_per_worker' is for worker processes, but 'workers' is 0"),
        ("--set crp=64", "the FCOS proxy task has no setting 'crp'; known: crop, batch_size, "),
        ("--set crop", "--set takes NAME=VALUE, got 'crop'"),
        ("--set crop=", "--set takes NAME=VALUE, got 'crop='"),
        ("--set crop=big", "setting 'crop' takes a value of type int, got 'big'"),
        ("--set crop=64.5", "setting 'crop' takes a value of type int, got 64.5"),
        ("--set crop=.inf", "setting 'crop' takes a value of type int, got inf"),
        ("--set crop=31", "setting 'crop' must be at least 32 pixels"),
        ("--set crop=[", r"value '\[', line 1: not YAML: "),
        ("--set width=16-24", "setting 'width': the head's width 24 must be a multiple of the FPN's 16"),
        ("--set learning_rate=.nan", "setting 'learning_rate' takes a value of type float, got nan"),
        (
            "--set pretrain_learning_rate=1e30",
            r"stage fcos_fpn cannot be prepared: the fine-tuning's loss is \w+ by step 2 of 2; lower",
        ),
        ("--backbone-weights none.pt", "there is no weights file /.*/none.pt; give default, none or a "),
        ("--config none.yaml", "cannot read the settings file none.yaml: No such file or directory"),
    ],
)
def test_bad_settings_on_the_command_line(voc, flags, message):
    voc.refused(message, *flags.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trials: 2\nworker: 1\n", r"c.yaml, line 2: there is no setting 'worker'; known: .*did you mean 'workers'"),
        ("trials: 2\nseed: -1\n", "c.yaml, line 2: setting 'seed' must be a whole number of at least 0, got -1"),
        ("seed: 1\n\nseed: 2\n", "c.yaml, line 3: setting 'seed' is given twice"),
        ("trials: 2\ntask: [64]\n", r"c.yaml, line 2: setting 'task' must be a mapping of names to values, got \[64\]"),
        ("trials: 2\n  task: {\n", "c.yaml, line 2: not YAML: mapping values are not allowed here"),
        ("- trials\n", "c.yaml: a settings file is a YAML mapping, got list"),
        ("", "c.yaml: a settings file is a YAML mapping, got NoneType"),
        ("task: {crp: 64}\n", "the FCOS proxy task has no setting 'crp'; known: crop, "),
        ("controller_options: {rate: 1}\n", "controller 'random' has no option 'rate'"),
        ("!!python/object/apply:os.system [exit]\n", "c.yaml, line 1: not YAML: could not determine a constructor"),
        ("1: 2\n", "c.yaml, line 1: there is no setting "),
    ],
)
def test_bad_settings_in_a_file(voc, text, message):
    (voc.root / "c.yaml").write_text(text)
    voc.refused(message, "--config", voc.root / "c.yaml")


def test_a_settings_file_of_bytes_or_a_folder(voc):
    (voc.root / "c.yaml").write_bytes(b"\xff\xfe\x00")
    voc.refused("cannot read the settings file .*c.yaml: 'utf-8' codec can't decode", "--config", voc.root / "c.yaml")
    voc.refused(r"cannot read the settings file \S+: Is a directory$", "--config", voc.root)


@pytest.mark.parametrize("main", [search_command.main, export_command.main])
def test_unknown_flags_are_wrong_usage(main, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["nas_fcos", "--frobnicate"])
    assert caught.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert re.search(r"^nas-\w+: error: unrecognized arguments: .*--frobnicate$", line)


# Weights


class Code:
    """Runs when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def weights_file(path, kind):
    if kind == "code":
        torch.save({"0.0.weight": Code(str(path.parent / "owned"))}, path)
    elif kind == "bare pickle":
        path.write_bytes(pickle.dumps(Code(str(path.parent / "owned"))))
    elif kind == "list":
        torch.save([torch.zeros(1)], path)
    elif kind == "other names":
        torch.save({"a": torch.zeros(2)}, path)
    elif kind == "other shapes":
        from proxy_tasks.backbones import make_backbone

        torch.save({name: torch.zeros(3) for name in make_backbone("tiny", "none").state_dict()}, path)
    else:
        path.write_bytes(b"\0" * 64)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (
            "w.pt",
            "code",
            "w.pt holds more than tensors and is not loaded, since unpickling it could run code; save its",
        ),
        ("w.pth", "bare pickle", "w.pth holds more than tensors and is not loaded, since unpickling it could run code"),
        ("w.pt", "list", r"w.pt holds no state dict \(names mapped to tensors\)"),
        ("w.pt", "other names", r"w.pt: \d+ of the backbone's \d+ tensors are missing, e.g. '"),
        ("w.pt", "other shapes", r"w.pt: '\S+' has shape \(3,\), expected \(16, 3, 3, 3\)"),
        ("w.safetensors", "bytes", "w.safetensors cannot be read: "),
    ],
)
def test_weights_that_are_not_trusted_or_do_not_fit(voc, name, kind, message):
    path = voc.root / name
    weights_file(path, kind)
    voc.refused(message, "--backbone-weights", path)
    assert not (voc.root / "owned").exists()


# Caches


def test_a_cache_directory_that_is_a_file(voc):
    file = voc.root / "file"
    file.write_text("")
    voc.refused(
        rf"the cache directory {file} cannot be written \(Not a directory\); give --cache-dir", "--cache-dir", file
    )
    assert file.read_text() == ""


DAMAGES = [("crops", "flip"), ("crops", "empty"), ("backbones", "cut"), ("features", "manifest")]


def test_a_damaged_cache_is_rebuilt_with_a_warning_and_gives_the_same_rewards(voc):
    calm, _ = voc.runs()
    for kind, damage in DAMAGES:
        (entry,) = (path for path in (voc.cache / kind).iterdir() if path.is_dir())
        array = next(iter(sorted(entry.glob("*.npy"))))
        content = bytearray(array.read_bytes())
        if damage == "flip":
            content[-1] ^= 1
            array.write_bytes(content)
        elif damage == "empty":
            array.write_bytes(b"")
        elif damage == "cut":
            array.write_bytes(content[: len(content) // 2])
        else:
            (entry / "manifest.json").write_text('{"meta": {}, ')
        rewards, lines = voc.runs()
        assert rewards == calm
        (line,) = lines
        assert re.search(rf"^nas-search: warning: the cache {entry} is damaged \(.*\) and is built anew$", line)
        assert voc.litter() == []
    assert voc.runs() == (calm, [])


def test_a_cache_entry_without_its_manifest_is_rebuilt(voc):
    calm, _ = voc.runs()
    for manifest in list(voc.cache.rglob("manifest.json")):
        manifest.unlink()
    rewards, lines = voc.runs()
    assert rewards == calm
    assert [bool(re.search(r"warning: the cache \S+ is damaged", line)) for line in lines] == [True] * 3


def test_what_a_killed_builder_left_is_swept_away(voc):
    calm, _ = voc.runs("--cache-dir", voc.root / "calm")
    program = (
        "import os, sys, proxy_tasks.cache as caches\n"
        "append = caches.ArrayWriter.append\n"
        "def dying(self, batch):\n"
        "    append(self, batch)\n"
        "    os.kill(os.getpid(), 9)\n"
        "caches.ArrayWriter.append = dying\n"
        "from nas.cli.search import main\n"
        "main(sys.argv[1:])\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, *map(str, voc.flags())], env=environment(), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(voc.litter()) == 1
    status, (line,) = voc.search()
    assert status == 2
    assert f"exists already; choose another --out, or go on with nas-search --resume {voc.run}" in line
    assert voc.told(search_command.main, ["--resume", voc.run]) == (0, [])
    assert list(nas.load_run(voc.run).trials.reward) == calm
    assert voc.litter() == []


@pytest.mark.parametrize("kind", ["crops", "backbones", "features"])
def test_a_disk_that_fills_up_while_a_cache_is_built(voc, monkeypatch, kind):
    def full(path, mode="r"):  # the kernel's own full disk in place of the arrays
        return open("/dev/full" if mode == "wb" and kind in Path(path).parts else path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(caches, "open", full, raising=False)
        voc.refused(
            r"the disk is full: the cache under \S+/cache could not be written; free some space or give --cache"
        )
    assert len(voc.runs()[0]) == 2


def test_a_disk_that_fills_up_between_two_stages_says_how_to_go_on(voc, monkeypatch):
    decoder = ("--space", "fcos_decoder")
    calm, _ = voc.runs(*decoder)
    shutil.rmtree(voc.cache)
    append, entries = caches.ArrayWriter.append, set()

    def full(self, batch):
        entries.add(Path(self._file.name).parent)
        if len(entries) > 3:  # the head's features
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(caches.ArrayWriter, "append", full)
        status, (line,) = voc.search(*decoder)
    assert status == 2
    assert line.endswith(f"free some space or give --cache-dir; then go on with nas-search --resume {voc.run}")
    assert voc.litter() == []
    assert voc.told(search_command.main, ["--resume", voc.run]) == (0, [])
    assert list(nas.load_run(voc.run).trials.reward) == calm


@pytest.mark.parametrize("file", ["run.yaml", "events"])
def test_a_disk_that_fills_up_during_the_run(voc, monkeypatch, file):
    from nas import searching, tensorboard

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if file == "run.yaml":
            patch.setattr(searching._Search, "_record_fingerprints", full)
        else:
            patch.setattr(tensorboard.SummaryWriter, "flush", full)
        status, (line,) = voc.search()
    assert status == 1
    assert f"the disk is full ({voc.run}); free some space, then go on with nas-search --resume {voc.run}" in line
    assert voc.told(search_command.main, ["--resume", voc.run]) == (0, [])
    assert len(nas.load_run(voc.run).trials) == 2


# Runs


@pytest.fixture
def finished(voc):
    assert voc.search() == (0, [])
    return voc


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
    ("--trials 3", r"has trials = \(2,\), but \(3,\) is asked for; --resume goes on with a run's own settings"),
    ("--seed 1", "has seed = 0, but 1 is asked for; "),
    ("--space fcos_head", "has space = 'fcos_fpn', but 'fcos_head' is asked for; "),
    ("--set crop=96", "has task = {.*'crop': 128.*}, but {'crop': 96} is asked for; "),
    ("--data elsewhere", "has data = '/.*', but '/.*/elsewhere' is asked for; "),
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
    "nothing": (shutil.rmtree, "run is not a run: it has no run.yaml"),
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
        r"trials.db: format 9 is newer than this version reads \(1\)",
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

GOOD = Architecture("fcos_fpn", (0,) * 35)
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
    assert (status, bool(re.search(r"cannot write arch.txt/\w+.json: File exists$", line))) == (2, True)
    assert sorted(path.name for path in place.root.iterdir()) == ["arch.txt"]


# Interruption


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


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
