"""The drawing of the rooms and the two ways through the files name what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`", PAGE)


@pytest.mark.parametrize("name", FILES)
def test_every_file_and_folder_named_is_there(name):
    assert (ROOT / name).exists()


def test_every_room_and_wing_is_drawn():
    drawing = PAGE[PAGE.index("    nas/  ") : PAGE.index("`ray` is imported")]
    assert len(FILES) > 20
    for room in ("nas", "experiments", "proxy_tasks", "search_spaces", "controllers"):
        assert f"{room}/" in drawing
    for room in ("experiments", "proxy_tasks", "search_spaces"):
        part = drawing[drawing.index(f"{room}/") :]
        for wing in (path.name for path in (ROOT / room).iterdir() if path.name in ("fcos", "video", "masks")):
            assert f"{wing}/" in part, f"{room}/{wing}"
