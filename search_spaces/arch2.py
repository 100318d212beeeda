"""arch2, the static segmentation network of the video work, as a space of one point.

Its decoder was found by search and published as it stands: nothing is left to choose. `search_spaces.arch2_modules` has
the decoder and its sources.
"""

from search_spaces.space import SearchSpace

__all__ = ["ARCH2"]

ARCH2 = SearchSpace("arch2", (), "search_spaces.arch2_modules:build_arch2", proxy_task="video")
