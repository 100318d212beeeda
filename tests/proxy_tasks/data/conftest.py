import json
import re
from pathlib import Path

import pytest
from trees import write_coco, write_voc


@pytest.fixture
def voc(tmp_path):
    return write_voc(tmp_path / "voc")


@pytest.fixture
def coco(tmp_path):
    return write_coco(tmp_path / "coco")


@pytest.fixture
def edit():
    """``edit(path, old, new)`` replaces a regular expression's first match in a text file."""

    def replace(path, old, new):
        text, count = re.subn(old, new, Path(path).read_text(), count=1)
        assert count == 1
        path.write_text(text)

    return replace


@pytest.fixture
def edit_coco(coco):
    """``edit_coco(change)`` lets ``change`` alter the training set's JSON content; gives the folder."""
    path = coco / "annotations" / "instances_train2017.json"

    def rewrite(change):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return coco

    return rewrite
