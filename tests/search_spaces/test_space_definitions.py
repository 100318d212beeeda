"""What a space is can be known without torch; its modules are imported when the first one is built."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import search_spaces
from search_spaces import Architecture, Choice, InputError, SearchSpace

ROOT = Path(__file__).parents[2]
CHOICES = (Choice("op", "op", ("a", "b")),)

EVERYTHING_BUT_MODULES = """
import sys
import numpy as np
import search_spaces
from experiments import published
from search_spaces import Architecture
from search_spaces.fcos.choices import join, split

rng = np.random.default_rng(0)
for name in search_spaces.names():
    space = search_spaces.get(name)
    architecture = space.sample(rng)
    back = Architecture.from_json(architecture.to_json())
    assert back.key == architecture.canonical.key, name
    print(space.describe())
for name in published.names():
    published.load(name)
decoder = search_spaces.get("fcos_decoder").sample(rng)
assert join(*split(decoder)) == decoder
heavy = {"torch", "torchvision"} & set(sys.modules)
assert not heavy, heavy
"""


def test_choices_keys_and_files_of_every_space_need_no_torch():
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING_BUT_MODULES], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    for name in search_spaces.names():
        assert f"{name}: {len(search_spaces.get(name))} choices" in done.stdout


@pytest.fixture
def builders(tmp_path, monkeypatch):
    """A module of the user's in the working directory, not yet imported."""
    (tmp_path / "my_builders.py").write_text(
        "def build(architecture, **sizes):\n    return architecture.named, sizes\n"
    )
    (tmp_path / "my_broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("my_builders", "my_broken"):
        sys.modules.pop(name, None)


def test_a_builder_given_as_a_text_is_imported_when_something_is_built(builders):
    architecture = SearchSpace("mine", CHOICES, "my_builders:build").architecture([1])
    assert "my_builders" not in sys.modules
    assert architecture.build(width=3) == ({"op": "b"}, {"width": 3})


def test_a_builder_given_as_a_function_is_called_as_it_is():
    space = SearchSpace("mine", CHOICES, lambda architecture, **sizes: (architecture.tokens, sizes))
    assert space.architecture([0]).build(width=3) == ((0,), {"width": 3})


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("my_builders:none", "the builder of search space 'mine' cannot be had: module 'my_builders' has no 'none'"),
        ("my_missing:build", "the module 'my_missing' cannot be imported: ModuleNotFoundError: No module named"),
        ("my_broken:build", "the module 'my_broken' cannot be imported: ZeroDivisionError: division by zero"),
        (None, "search space 'mine' has no builder"),
    ],
)
def test_what_cannot_be_built_is_told(builders, build, message):
    architecture = SearchSpace("mine", CHOICES, build).architecture([0])
    with pytest.raises(InputError, match=message):
        architecture.build(width=3)


@pytest.mark.parametrize("build", ["", "build", "my_builders:", ":build", "my_builders:a.b", "my builders:build"])
def test_a_text_that_names_no_function_is_refused_at_once(build):
    with pytest.raises(InputError, match=rf"must be a function or 'module:function', got '{build}'"):
        SearchSpace("mine", CHOICES, build)


def test_an_error_in_a_module_of_our_own_stays_what_it_is(monkeypatch):
    """A command tells an operator that torchvision lacks as a wheel that does not fit, not as bad input."""
    monkeypatch.setitem(sys.modules, "search_spaces.fcos.decoder", None)
    architecture = search_spaces.get("fcos_fpn").sample(np.random.default_rng(0))
    with pytest.raises(ModuleNotFoundError, match=r"search_spaces\.fcos\.decoder"):
        architecture.build()
    assert Architecture.from_json(architecture.to_json()) == architecture
