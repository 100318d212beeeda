"""YAML as settings are written in it, in files and on the command line."""

import re
from typing import Any

import yaml

from search_spaces.errors import InputError

__all__ = ["Loader", "dump_yaml", "load_yaml", "read_literal", "read_pair"]


class Loader(yaml.SafeLoader):
    """YAML with the floats of version 1.2: ``8e-4`` is a number, as everywhere else."""


class _Dumper(yaml.SafeDumper):
    """Quotes a text that `Loader` would take for a number: a fingerprint may look like one."""


for _yaml in (Loader, _Dumper):
    _yaml.yaml_implicit_resolvers = {k: list(v) for k, v in _yaml.yaml_implicit_resolvers.items()}
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def dump_yaml(content: Any) -> str:
    """``content`` as YAML that `load_yaml` reads back equal."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def load_yaml(text: str, place: str) -> Any:
    """Parses ``text``; raises `InputError` with the place and the line where it is not YAML."""
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{place}{line}: not YAML: {problem}") from error


def read_literal(text: str) -> Any:
    """A value from the command line, as YAML would have it: ``16`` is a number, ``true`` a boolean."""
    return load_yaml(text, f"value {text!r}")


def read_pair(flag: str, text: str) -> tuple[str, Any]:
    """``NAME=VALUE`` on the command line as a name and a value; ``flag`` is for the message."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InputError(f"{flag} takes NAME=VALUE, got {text!r}")
    return name, read_literal(value)
