"""Every module imports alone, arrows between rooms point down, and nothing heavy is loaded before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("nas", "experiments", "proxy_tasks", "controllers", "search_spaces")
BELOW = {
    "nas": {"experiments", "proxy_tasks", "controllers", "search_spaces"},
    "experiments": {"proxy_tasks", "search_spaces"},
    "proxy_tasks": {"search_spaces"},
    "controllers": {"search_spaces", "search_spaces.space", "search_spaces.errors", "search_spaces.registry"},
    "search_spaces": set(),
}
RAY = {"nas/searching/engines/ray_tune.py", "nas/searching/engines/residence.py"}
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))


def module_name(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(file):
    """The names of all modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            yield node.module


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_arrows_point_down(file):
    room = file.relative_to(ROOT).parts[0]
    for name in imported(file):
        top = name.partition(".")[0]
        if top in ROOMS and top != room:
            # a controller sees the space's description and nothing that is built from it
            assert (name if room == "controllers" else top) in BELOW[room], f"{file} imports {name}"
        if top == "ray":
            assert str(file.relative_to(ROOT)) in RAY, f"{file} imports ray"


IMPORT_EACH_ALONE = (
    f"""
RAY = {[path.removesuffix(".py").replace("/", ".") for path in sorted(RAY)]}
"""
    + """
import importlib, os, sys
sys.path.insert(0, os.getcwd())
for name in sys.argv[1:]:
    if (child := os.fork()) == 0:
        try:
            importlib.import_module(name)
            assert "ray" not in sys.modules or name in RAY, f"{name} imports ray"
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(f"{name} does not import alone")
"""
)


def test_every_module_imports_alone():
    """Each in a process in which no other module of the project is loaded, forked from one that has torch."""
    code = "import torch, torchvision, pandas\n" + IMPORT_EACH_ALONE
    names = [module_name(file) for file in FILES]
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["nas", "nas.cli.search", "nas.cli.export", "controllers", "search_spaces"])
def test_the_light_modules_load_nothing_heavy(name):
    code = f"import {name}, sys; print(*({{'torch', 'ray', 'pandas', 'torchvision'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
