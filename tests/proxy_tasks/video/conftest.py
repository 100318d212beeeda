import pytest
from video_sets import prepared


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def task(cache_dir):
    return prepared(cache_dir)
