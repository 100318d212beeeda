"""The settings of a search: one table gives the Python API, the command line and the YAML file names and defaults.

Nothing heavy is imported here: a wrong setting is refused, and ``nas-search --help`` answered, before torch is loaded.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from search_spaces.errors import InputError
from search_spaces.registry import SPACES, import_user_module
from search_spaces.space import SearchSpace

__all__ = ["SearchSettings", "dump_yaml", "load_yaml", "read_config", "read_literal", "read_pair"]


class _Loader(yaml.SafeLoader):
    """YAML with the floats of version 1.2: ``8e-4`` is a number, as everywhere else."""


class _Dumper(yaml.SafeDumper):
    """Quotes a text that `_Loader` would take for a number: a fingerprint may look like one."""


for _yaml in (_Loader, _Dumper):
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
        return yaml.load(text, Loader=_Loader)
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


class _Kind(NamedTuple):
    """What a setting may be: in words, and as a function that returns the value or raises ValueError."""

    expected: str
    parse: Callable[[Any], Any]
    is_text: bool = False


def _text_value(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def _path_value(value: Any) -> str:
    return str(Path(_text_value(value)).expanduser().resolve())


def _weights_value(value: Any) -> str:
    return value if value in ("default", "none") else _path_value(value)


def _trials_value(value: Any) -> tuple[int, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, str):
        items = [int(item) for item in value.split(",")]
    if not items:
        raise ValueError
    return tuple(_whole(1).parse(item) for item in items)


def _modules_value(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(name, str) and all(part.isidentifier() for part in name.split(".")) for name in names):
        raise ValueError
    return tuple(names)


def _gpus_value(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError
    if value > 1 and value != int(value):
        raise ValueError
    return float(value)


def _mapping_value(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError
    return dict(value)


def _flag_value(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _whole(minimum: int) -> _Kind:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError
        return value

    return _Kind(f"a whole number of at least {minimum}", parse)


def _one_of(*options: str) -> _Kind:
    def parse(value: Any) -> str:
        if value not in options:
            raise ValueError
        return str(value)

    return _Kind("one of " + ", ".join(options), parse, is_text=True)


_TEXT = _Kind("a text", _text_value, is_text=True)
_PATH = _Kind("a path", _path_value, is_text=True)
_WEIGHTS = _Kind("default, none or a file", _weights_value, is_text=True)
_TRIALS = _Kind("a whole number of at least 1, or one a stage as in 30,15", _trials_value, is_text=True)
_MODULES = _Kind("module names, as in mine,yours", _modules_value, is_text=True)
_GPUS = _Kind("a number of GPUs: 0, a fraction below 1 or a whole number", _gpus_value)
_MAPPING = _Kind("a mapping of names to values", _mapping_value)
_FLAG = _Kind("true or false", _flag_value)


def _about(kind: _Kind, help: str, metavar: str = "", flag: str | None = "") -> dict[str, Any]:
    """A field's metadata; ``flag`` is its flag where that is not ``--name``, None where it has none.

    The flag of a truth value takes no argument and gives the other value than the default.
    """
    return {"kind": kind, "help": help, "metavar": metavar, "flag": flag}


def _setting(default: Any, kind: _Kind, help: str, metavar: str = "") -> Any:
    return field(default=default, metadata=_about(kind, help, metavar))


@dataclass(frozen=True)
class SearchSettings:
    """Everything that a search is told; each field's help text is in its metadata.

    Raises:
        InputError: a value that is not what its setting may be.
    """

    space: str = _setting("fcos_decoder", _TEXT, "search space, by name or as MODULE:ATTRIBUTE", "SPACE")
    data: str | None = _setting(None, _PATH, "data set (layout recognised); the built-in shapes without it", "PATH")
    trials: tuple[int, ...] | None = _setting(None, _TRIALS, "trials per stage, or one figure a stage", "N[,M]")
    workers: int = _setting(0, _whole(0), "worker processes (Ray Tune); 0 runs trials in this process", "N")
    gpus_per_worker: float | None = _setting(
        None, _GPUS, "GPUs of each worker, also a fraction; shared evenly without it", "F"
    )
    ray_address: str | None = _setting(None, _TEXT, "join this Ray cluster", "A")
    controller: str = _setting("lstm-ppo", _TEXT, "lstm-ppo, evolution, random or MODULE:CLASS", "NAME")
    controller_options: dict[str, Any] = field(
        default_factory=dict, metadata=_about(_MAPPING, "options of the controller", flag=None)
    )
    reward: str | None = _setting(
        None,
        _one_of("loss", "metric"),
        "negative loss, or the metric (COCO AP; video: the geometric mean of mIoU, fwIoU and mean accuracy); without it"
        " the metric for video, else loss",
        "loss|metric",
    )
    early_stopping: bool = field(
        default=True,
        metadata=_about(
            _FLAG, "train every trial to its end, however it compares on the way", flag="--no-early-stopping"
        ),
    )
    preset: str | None = _setting(
        None,
        _one_of("demo", "paper"),
        "size of the proxy task; without it paper on CUDA with --data, else demo",
        "demo|paper",
    )
    device: str = _setting("auto", _one_of("auto", "cpu", "cuda"), "where candidates are trained", "auto|cpu|cuda")
    seed: int = _setting(0, _whole(0), "of the controller, the data's split and the training", "N")
    out: str | None = _setting(None, _PATH, "the run's directory; runs/SPACE-DATE-TIME without it", "RUN")
    cache_dir: str | None = _setting(None, _PATH, "feature caches; ~/.cache/nas-search without it", "DIR")
    backbone: str | None = _setting(None, _TEXT, "backbone, by name; by preset without it", "NAME")
    backbone_weights: str = _setting("default", _WEIGHTS, "pretrained weights", "default|none|FILE")
    static: str | None = _setting(
        None,
        _PATH,
        "weights of the trained static network (video spaces), from nas-promote arch2; trained on the fly without it",
        "FILE",
    )
    skip_bad_boxes: bool = _setting(False, _FLAG, "leave out boxes that lie outside their image or have no area")
    imports: tuple[str, ...] = field(
        default=(), metadata=_about(_MODULES, "modules that register your own parts", "MODULE[,...]", flag="--import")
    )
    task: dict[str, Any] = field(
        default_factory=dict,
        metadata=_about(_MAPPING, "sizes of the proxy task, e.g. crop=192", "NAME=VALUE", flag="--set"),
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, _checked(item, getattr(self, item.name)))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "SearchSettings":
        """The settings with these values and the defaults for all others; an unknown name raises `InputError`."""
        for name in values:
            _field(name)
        return cls(**values)

    def changed(self, **values: Any) -> "SearchSettings":
        """A copy with these values instead."""
        return replace(self, **values)

    def search_space(self) -> SearchSpace:
        """The space that is searched; the user's own modules, which may register it, are imported first.

        Raises:
            InputError: a module cannot be imported, or there is no such space.
        """
        for name in self.imports:
            import_user_module(name)
        space = SPACES.get(self.space)
        if not isinstance(space, SearchSpace):
            raise InputError(f"{self.space!r} is a {type(space).__name__}, not a search space")
        return space

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``run.yaml`` stores them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def _checked(item: "Field[Any]", value: Any) -> Any:
    kind: _Kind = item.metadata["kind"]
    if value is None and (item.default is None or item.default is MISSING):
        return {} if item.default is MISSING else None
    try:
        return kind.parse(value)
    except ValueError as error:
        raise InputError(f"setting {item.name!r} must be {kind.expected}, got {value!r}") from error


def _field(name: str) -> "Field[Any]":
    known = {item.name: item for item in fields(SearchSettings)}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"there is no setting {name!r}; known: {', '.join(known)}{hint}")
    return known[name]


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file, checked one by one.

    Raises:
        InputError: the file cannot be read or is not a YAML mapping, or a key is unknown, given twice or has a wrong
            value; the message begins with the file and the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the settings file {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    values = load_yaml(text, str(path))
    if not isinstance(values, dict):
        raise InputError(f"{path}: a settings file is a YAML mapping, got {type(values).__name__}")
    seen: set[str] = set()
    for name, line in _keys(text):
        try:
            if name in seen:
                raise InputError(f"setting {name!r} is given twice")
            seen.add(name)
            _checked(_field(name), values[name])
        except InputError as error:
            raise InputError(f"{path}, line {line}: {error}") from error
    return values


def _keys(text: str) -> Iterable[tuple[str, int]]:
    """The top-level keys of a YAML mapping with their lines, counted from 1."""
    node = yaml.compose(text, Loader=_Loader)
    assert isinstance(node, yaml.MappingNode)
    return [(str(key.value), key.start_mark.line + 1) for key, _ in node.value]
