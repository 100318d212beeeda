"""Hostile input through the commands: a place with data, a cache and a run, and ways to break them."""

import json
import os
import re
import shutil
import sys

import torch

import nas
from nas.cli import search as search_command

TINY = ["--set", "crop=128", "batch_size=8", "iterations=2", "width=16-32", "pretrain_iterations=2"]
FAST = ["--device", "cpu", "--space", "fcos_fpn", "--controller", "random", "--trials", "2", "--backbone", "tiny"]
FAST += ["--confirm", "0"]


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

    def assert_refused(self, message, *more):
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


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def set_box(path, number, **sides):
    """Changes sides of the object with this number, from 1, in a Pascal VOC annotation, and of no other."""
    head, *objects = path.read_text().split("<object>")
    for side, value in sides.items():
        objects[number - 1], found = re.subn(rf"<{side}>\d+</{side}>", f"<{side}>{value}</{side}>", objects[number - 1])
        assert found == 1, side
    path.write_text("<object>".join([head, *objects]))


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def environment():
    """Of a subprocess whose rewards equal this process's bit for bit: they depend on the number of threads."""
    threads = str(torch.get_num_threads())
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": threads}
