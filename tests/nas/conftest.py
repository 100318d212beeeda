import pytest
import trees
from places import Place


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
