"""Every module imports alone, arrows between rooms and wings point down, and nothing heavy is loaded early."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import families

ROOT = Path(__file__).parents[2]
ROOMS = ("nas", "experiments", "proxy_tasks", "controllers", "search_spaces")
BELOW = {
    "nas": {"experiments", "proxy_tasks", "controllers", "search_spaces"},
    "experiments": {"proxy_tasks", "search_spaces"},
    "proxy_tasks": {"search_spaces"},
    "controllers": {"search_spaces", "search_spaces.space", "search_spaces.errors", "search_spaces.registry"},
    "search_spaces": set(),
}
WINGS = families.names()
RAY = ("nas.searching.engines.", "nas.ray_workers.")  # the modules that may import Ray
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
LONGEST, MEDIAN = 300, 120  # lines of a file


def module_name(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in FILES}


def imported(file):
    """The names of all modules that a file imports, inside functions too; of a package's, the module that is meant."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                yield inside if inside in MODULES else node.module


def wing(name):
    """The family whose folder a module lies in, None for a room's shared part."""
    found = [part for part in name.split(".")[1:] if part in WINGS]
    return found[0] if found and not name.startswith("proxy_tasks.data") else None


@pytest.mark.parametrize("name", MODULES)
def test_arrows_point_down(name):
    room = name.partition(".")[0]
    for other in imported(MODULES[name]):
        top = other.partition(".")[0]
        if top in ROOMS and top != room:
            # a controller sees the space's description and nothing that is built from it
            assert (other if room == "controllers" else top) in BELOW[room], f"{name} imports {other}"
        if top in ROOMS:
            allowed = {None, wing(name)}
            assert wing(other) in allowed, f"{name} imports {other}: a family, or a shared part, imports another's"
        if top == "ray":
            assert name.startswith(RAY), f"{name} imports ray"


def test_no_file_is_long():
    files = [*FILES, *(ROOT / "tests").rglob("*.py")]
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {str(file): length for file, length in lengths.items() if length > LONGEST} == {}
    assert statistics.median(lengths[file] for file in FILES) <= MEDIAN


def loaded_at_once(file):
    """The project's modules that a module needs while it is imported: not those of functions or of type checks."""
    pending = [ast.parse(file.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None)
            yield from (n if n in MODULES else module for n in ([f"{module}.{n}" for n in names] if module else names))
        pending += ast.iter_child_nodes(node)


def test_no_modules_import_each_other_in_a_circle():
    needs = {name: {other for other in loaded_at_once(file) if other in MODULES} for name, file in MODULES.items()}
    done, path = set(), []

    def visit(name):
        assert name not in path, f"a circle: {' -> '.join([*path[path.index(name) :], name])}"
        if name in done:
            return
        path.append(name)
        for other in needs[name]:
            visit(other)
        path.pop()
        done.add(name)

    for name in MODULES:
        visit(name)


IMPORT_EACH_ALONE = """
import importlib, os, sys
sys.path.insert(0, os.getcwd())
for name in sys.argv[1:]:
    if (child := os.fork()) == 0:
        try:
            importlib.import_module(name)
            assert "ray" not in sys.modules or name.startswith(RAY), name + " imports ray"
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(f"{name} does not import alone")
"""


def test_every_module_imports_alone():
    """Each in a process in which no other module of the project is loaded, forked from one that has the libraries."""
    libraries = "torch, torchvision, pandas, yaml, safetensors.torch, pycocotools.mask, matplotlib.pyplot, scipy.stats"
    code = f"import {libraries}\n" + IMPORT_EACH_ALONE.replace("RAY", repr(RAY))
    done = subprocess.run([sys.executable, "-c", code, *MODULES], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LIGHT = [
    "nas", "nas.cli.search", "nas.cli.export", "controllers", "search_spaces",
    "experiments.families", "experiments.fcos", "experiments.video", "search_spaces.fcos.choices",
    "search_spaces.video.choices", "experiments.masks", "search_spaces.masks.choices",
]  # fmt: skip


@pytest.mark.parametrize("name", LIGHT)
def test_the_light_modules_load_nothing_heavy(name):
    code = f"import {name}, sys; print(*({{'torch', 'ray', 'pandas', 'torchvision'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
