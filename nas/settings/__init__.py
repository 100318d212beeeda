"""The settings of a search: one table gives the Python API, the command line and the YAML file names and defaults.

Nothing heavy is imported here: a wrong setting is refused, and ``nas-search --help`` answered, before torch is loaded.
"""

from nas.settings.config import read_config
from nas.settings.search import Execution, Searched, SearchSettings
from nas.settings.yaml_text import dump_yaml, load_yaml, read_literal, read_pair

__all__ = [
    "Execution",
    "SearchSettings",
    "Searched",
    "dump_yaml",
    "load_yaml",
    "read_config",
    "read_literal",
    "read_pair",
]
