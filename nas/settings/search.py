"""The settings of a search, in two halves: what is searched, and where and how long."""

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from typing import Any

from experiments.families import FAMILIES
from nas.settings.kinds import (
    CONFIRM,
    FLAG,
    GPUS,
    HOURS,
    MAPPING,
    MODULES,
    OFF,
    PATH,
    RUNS,
    SECONDS,
    STARTS,
    TARGETS,
    TEXT,
    TRIALS,
    WEIGHTS,
    Kind,
    one_of,
    whole,
)
from nas.settings.targets import COSTS
from search_spaces.errors import InputError
from search_spaces.registry import SPACES, import_user_module
from search_spaces.space import SearchSpace

__all__ = ["Execution", "SearchSettings", "Searched", "checked", "setting_field"]


def _about(kind: Kind, help: str, metavar: str = "", flag: str | None = "") -> dict[str, Any]:
    """A field's metadata; ``flag`` is its flag where that is not ``--name``, None where it has none.

    The flag of a truth value takes no argument and gives the other value than the default. A field whose flag may stand
    alone has the value that it then gives under ``"alone"``.
    """
    return {"kind": kind, "help": help, "metavar": metavar, "flag": flag}


def _setting(default: Any, kind: Kind, help: str, metavar: str = "") -> Any:
    return field(default=default, metadata=_about(kind, help, metavar))


CONFIRMED = (5, 3)  # candidates and seeds where the user gives none; then there may be fewer candidates
_FAMILIES = [FAMILIES.get(name) for name in FAMILIES.names()]
_METRICS = "; ".join(f"{family.name}: {family.metric}" for family in _FAMILIES)


@dataclass(frozen=True)
class Searched:
    """What is searched: all that the scores depend on. A run keeps it to its end.

    Each field's help text is in its metadata.
    """

    space: str = _setting("fcos_decoder", TEXT, "search space, by name or as MODULE:ATTRIBUTE", "SPACE")
    data: str | None = _setting(None, PATH, "data set (layout recognised); the built-in shapes without it", "PATH")
    controller: str = _setting("lstm-ppo", TEXT, "lstm-ppo, evolution, random, optuna:NAME or MODULE:CLASS", "NAME")
    controller_options: dict[str, Any] = field(
        default_factory=dict, metadata=_about(MAPPING, "options of the controller", flag=None)
    )
    start_from: tuple[Any, ...] = _setting(
        (),
        STARTS,
        "propose these architectures first: published names, architecture files, runs (the five best of each)",
        "NAME|FILE|RUN[,...]",
    )
    reward: str | None = _setting(
        None,
        one_of("loss", "metric"),
        f"negative loss, or the metric of the family ({_METRICS}); without it the family's own",
        "loss|metric",
    )
    early_stopping: bool = field(
        default=True,
        metadata=_about(
            FLAG, "train every trial to its end, however it compares on the way", flag="--no-early-stopping"
        ),
    )
    preset: str | None = _setting(
        None,
        one_of("demo", "paper"),
        "size of the proxy task; without it paper on CUDA with --data, else demo",
        "demo|paper",
    )
    seed: int = _setting(0, whole(0), "of the controller, the data's split and the training", "N")
    backbone: str | None = _setting(None, TEXT, "backbone, or timm/NAME; by preset and data without it", "NAME")
    backbone_weights: str = _setting("default", WEIGHTS, "pretrained weights", "default|none|FILE")
    target: dict[str, float] = field(
        default_factory=dict,
        metadata=_about(
            TARGETS,
            "what an architecture may cost: params, macs or latency_ms (of the whole network on this device, batch 1),"
            " e.g. macs=0.1G; what costs more is told as a worse reward",
            "COST=VALUE",
            flag="--target",
        ),
    )
    reuse: tuple[str, ...] = _setting(
        (), RUNS, "take over the scores of these runs, as far as all that they depend on is the same", "RUN[,...]"
    )
    static: str | None = _setting(
        None,
        PATH,
        "weights of the trained static network (video spaces), from nas-promote arch2; trained on the fly without it",
        "FILE",
    )
    skip_bad_boxes: bool = _setting(False, FLAG, "leave out boxes that lie outside their image or have no area")
    imports: tuple[str, ...] = field(
        default=(), metadata=_about(MODULES, "modules that register your own parts", "MODULE[,...]", flag="--import")
    )
    task: dict[str, Any] = field(
        default_factory=dict,
        metadata=_about(MAPPING, "sizes of the proxy task, e.g. crop=192", "NAME=VALUE", flag="--set"),
    )


@dataclass(frozen=True)
class Execution:
    """Where a search runs and how long: each time it is resumed, it may be told anew.

    Each field's help text is in its metadata.
    """

    trials: tuple[int, ...] | None = _setting(None, TRIALS, "trials per stage, or one figure a stage", "N[,M]")
    confirm: tuple[int, int] | None = _setting(
        None,
        CONFIRM,
        "at the end train the K best of all stages and the references from S seeds that no trial had, and choose by"
        " their means; 0: do not; without it 5,3, and less, down to 2,2, where that would take more than a fifth of"
        " the search's time",
        "K,S",
    )
    confirm_by: str | None = _setting(
        None,
        one_of("loss", "metric"),
        "what that choice goes by; without it the metric, whatever the reward",
        "loss|metric",
    )
    hours: float | None = _setting(
        None, HOURS, "begin no trial later than so many hours after the start, or after --resume; no limit without", "H"
    )
    trial_timeout: float | None = _setting(
        None,
        SECONDS,
        "end a trial that takes longer, as failed; without it 20 times the median of the trials that are done, at least"
        " 600, once there are five",
        "SECONDS",
    )
    pareto: str | None = field(
        default=None,
        metadata=_about(
            one_of(*COSTS), "show the front of reward against a cost at the end: macs, params or latency_ms", "COST"
        )
        | {"alone": "macs"},
    )
    workers: int | None = _setting(
        None,
        whole(0),
        "worker processes; 0 runs trials in this process; without it one a core on a CPU, at most 8",
        "N",
    )
    gpus_per_worker: float | None = _setting(
        None, GPUS, "GPUs of each worker, also a fraction; shared evenly without it", "F"
    )
    ray_address: str | None = _setting(None, TEXT, "join this Ray cluster", "A")
    device: str = _setting("auto", one_of("auto", "cpu", "cuda"), "where candidates are trained", "auto|cpu|cuda")
    out: str | None = _setting(None, PATH, "the run's directory; runs/SPACE-DATE-TIME without it", "RUN")
    cache_dir: str | None = _setting(None, PATH, "feature caches; ~/.cache/nas-search without it", "DIR")


@dataclass(frozen=True)
class SearchSettings(Execution, Searched):
    """Everything that a search is told: both halves under flat names.

    Raises:
        InputError: a value that is not what its setting may be.
    """

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, checked(item, getattr(self, item.name)))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "SearchSettings":
        """The settings with these values and the defaults for all others; an unknown name raises `InputError`."""
        for name in values:
            setting_field(name)
        return cls(**values)

    def changed(self, **values: Any) -> "SearchSettings":
        """A copy with these values instead."""
        return replace(self, **values)

    @property
    def confirmation(self) -> tuple[int, int] | None:
        """How many candidates are confirmed, from how many seeds; None where none is."""
        return None if self.confirm == OFF else self.confirm or CONFIRMED

    def import_modules(self) -> None:
        """Imports the user's own modules, that of the space too; raises `InputError` where one cannot be."""
        module, _, attribute = self.space.rpartition(":")
        for name in (*self.imports, *([module] if attribute and module else [])):
            import_user_module(name)

    def search_space(self) -> SearchSpace:
        """The space that is searched; the user's own modules, which may register it, are imported first.

        Raises:
            InputError: a module cannot be imported, or there is no such space.
        """
        self.import_modules()
        space = SPACES.get(self.space)
        if not isinstance(space, SearchSpace):
            raise InputError(f"{self.space!r} is a {type(space).__name__}, not a search space")
        return space

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as ``run.yaml`` stores them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


def checked(item: "Field[Any]", value: Any) -> Any:
    """``value`` as the setting keeps it; raises `InputError` where it is not what the setting may be."""
    kind: Kind = item.metadata["kind"]
    if value is None and (item.default is None or item.default is MISSING):
        return {} if item.default is MISSING else None
    try:
        return kind.parse(value)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"setting {item.name!r} must be {kind.expected}, got {value!r}") from error


def setting_field(name: str) -> "Field[Any]":
    """The field of a setting; an unknown name raises `InputError`."""
    known = {item.name: item for item in fields(SearchSettings)}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"there is no setting {name!r}; known: {', '.join(known)}{hint}")
    return known[name]
