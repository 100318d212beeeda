"""Bad settings, weights and caches: one sentence, status 2, nothing left that trips a second run."""

import errno
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from places import environment

import nas
from nas.cli import export as export_command
from nas.cli import search as search_command
from proxy_tasks import arrays as caches

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
        ("--backbone vgg", "there is no backbone 'vgg'; known: tiny, efficientnet_lite0, mobilenet_v2, "),
        ("--trials 0", "setting 'trials' must be a whole number of at least 1, or one a stage as in 30,15, got '0'"),
        ("--trials 2,2", r"trials gives 2 figures, but 'fcos_fpn' has 1 stage\(s\): fcos_fpn"),
        ("--workers -1", "setting 'workers' must be a whole number of at least 0, got -1"),
        ("--workers 1.5", "setting 'workers' must be a whole number of at least 0, got 1.5"),
        ("--seed 99999999999999999999", "seed must be a whole number of at least 0 and below 2"),
        ("--ray-address auto", "setting 'ray_address' is for worker processes, and there are none; give --workers too"),
        ("--gpus-per-worker 1", "setting 'gpus_per_worker' is for worker processes, and there are none"),
        ("--set crp=64", "the FCOS proxy task has no setting 'crp'; known: crop, interest, mirrored, batch_size, "),
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
    voc.assert_refused(message, *flags.split())


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
    voc.assert_refused(message, "--config", voc.root / "c.yaml")


def test_a_settings_file_of_bytes_or_a_folder(voc):
    (voc.root / "c.yaml").write_bytes(b"\xff\xfe\x00")
    voc.assert_refused(
        "cannot read the settings file .*c.yaml: 'utf-8' codec can't decode", "--config", voc.root / "c.yaml"
    )
    voc.assert_refused(r"cannot read the settings file \S+: Is a directory$", "--config", voc.root)


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
    voc.assert_refused(message, "--backbone-weights", path)
    assert not (voc.root / "owned").exists()


# Caches


def test_a_cache_directory_that_is_a_file(voc):
    file = voc.root / "file"
    file.write_text("")
    voc.assert_refused(
        rf"the cache directory {file} cannot be written \(Not a directory\); give --cache-dir", "--cache-dir", file
    )
    assert file.read_text() == ""


DAMAGES = [("crops", "flip"), ("crops", "empty"), ("backbones", "cut"), ("features", "manifest")]


def test_a_damaged_cache_is_rebuilt_with_a_warning_and_gives_the_same_rewards(voc):
    calm, _ = voc.runs()
    for kind, damage in DAMAGES:
        entries = [path for path in (voc.cache / kind).iterdir() if path.is_dir()]
        (entry,) = (path for path in entries if kind != "features" or (path / "C3.npy").exists())  # not that of C2
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
    assert [bool(re.search(r"warning: the cache \S+ is damaged", line)) for line in lines] == [True] * 4


def test_what_a_killed_builder_left_is_swept_away(voc):
    calm, _ = voc.runs("--cache-dir", voc.root / "calm")
    program = (
        "import os, sys, proxy_tasks.arrays as caches\n"
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
        voc.assert_refused(
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
    from nas.searching import curves as tensorboard
    from nas.searching.shared import Shared

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if file == "run.yaml":
            patch.setattr(Shared, "_record_fingerprints", full)
        else:
            patch.setattr(tensorboard.SummaryWriter, "flush", full)
        status, (line,) = voc.search()
    assert status == 1
    assert f"the disk is full ({voc.run}); free some space, then go on with nas-search --resume {voc.run}" in line
    assert voc.told(search_command.main, ["--resume", voc.run]) == (0, [])
    assert len(nas.load_run(voc.run).trials) == 2
