"""What can be built: choices, the spaces they span, and the architectures that are points of a space.

This module knows no torch: it is all that a controller may see. Words: a *choice* is one decision with named options,
a *token* the index of the option taken, a *search space* an ordered tuple of choices, an *architecture* (genotype) one
token per choice.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from search_spaces.errors import InputError
from search_spaces.registry import SPACES, import_attribute

__all__ = ["ARCHITECTURE_FORMAT", "Architecture", "Choice", "SearchSpace"]

ARCHITECTURE_FORMAT = 1
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """One decision.

    Args:
        name: unique in its space, dotted from the whole to the part: ``"fpn.3.op1"``.
        kind: what is decided (``"op"``, ``"input"``, ...); an option means the same in all choices of a kind.
        options: the names of what can be taken, in token order.
    """

    name: str
    kind: str
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options:
            raise InputError(f"choice {self.name!r} has no options; a choice needs at least one")
        if len(set(self.options)) != len(self.options):
            raise InputError(f"choice {self.name!r} names an option twice: {', '.join(self.options)}")

    def token(self, option: str) -> int:
        """The index of ``option``; raises `InputError` where there is no such option."""
        if option not in self.options:
            raise InputError(
                f"choice {self.name!r} has no option {option!r}; its options are {', '.join(self.options)}"
            )
        return self.options.index(option)


@dataclass(frozen=True)
class SearchSpace:
    """An ordered tuple of choices and, unless it is tabular, the builder of the modules they stand for.

    Args:
        name: as in the registry.
        choices: all decisions, in the order a controller takes them.
        build: ``build(architecture, **sizes) -> nn.Module``; as a text ``"module:function"`` it is imported when the
            first module is built, so that those who only read choices need no torch.
        canonical: maps tokens to the tokens of one agreed spelling of the same network, so that two spellings share a
            key; the identity where a network has one spelling only.
        proxy_task: the name of the proxy task that scores this space's architectures.
        stages: the spaces that a progressive search of this one goes through, in order; a stage's task is made from
            the winner of the stage before. Without them there is one stage, over this space itself.
        join: makes one architecture of this space of one winner a stage; given where there are several stages.
    """

    name: str
    choices: tuple[Choice, ...]
    build: Callable[..., Any] | str | None = field(default=None, repr=False, compare=False)
    canonical: Callable[[Tokens], Tokens] | None = field(default=None, repr=False, compare=False)
    proxy_task: str | None = None
    stages: "tuple[SearchSpace, ...]" = field(default=(), repr=False, compare=False)
    join: "Callable[..., Architecture] | None" = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        object.__setattr__(self, "stages", tuple(self.stages) or (self,))
        if (len(self.stages) > 1) != (self.join is not None):
            raise InputError(
                f"search space {self.name!r}: 'join' is given where there are several stages, and only there"
            )
        names = [choice.name for choice in self.choices]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"search space {self.name!r} has two choices named {name!r}; names must be unique")
        if isinstance(self.build, str) and not re.fullmatch(r"[\w.]+:\w+", self.build):
            raise InputError(
                f"the builder of search space {self.name!r} must be a function or 'module:function', got {self.build!r}"
            )

    def __len__(self) -> int:
        """The number of choices, which is the length of a token sequence."""
        return len(self.choices)

    @property
    def cardinality(self) -> int:
        """The number of token sequences (spellings of one network counted apart)."""
        return math.prod(len(choice.options) for choice in self.choices)

    @property
    def builder(self) -> Callable[..., Any]:
        """The function that `build` is or names.

        Raises:
            InputError: the space is tabular, or names a function that cannot be imported.
        """
        if self.build is None:
            raise InputError(f"search space {self.name!r} has no builder")
        if not isinstance(self.build, str):
            return self.build
        what, own = f"the builder of search space {self.name!r}", self.build.startswith("search_spaces.")
        function: Callable[..., Any] = import_attribute(what, self.build, own)
        return function

    def validate(self, tokens: Sequence[int]) -> Tokens:
        """The tokens as a tuple of ints.

        Raises:
            InputError: wrong length, or a token that its choice has no option for; names the choice.
        """
        tokens = tuple(tokens)
        if len(tokens) != len(self):
            raise InputError(f"search space {self.name!r} takes {len(self)} tokens, got {len(tokens)}")
        for choice, token in zip(self.choices, tokens, strict=True):
            whole = type(token) is int or isinstance(token, np.integer)
            if not whole or not 0 <= token < len(choice.options):
                raise InputError(f"choice {choice.name!r} has {len(choice.options)} options, got token {token!r}")
        return tuple(int(token) for token in tokens)

    def architecture(self, tokens: Sequence[int]) -> "Architecture":
        """The architecture that ``tokens`` spell in this space."""
        return Architecture(self, tuple(tokens))

    def from_named(self, named: Mapping[str, str]) -> "Architecture":
        """The architecture with these options, given as ``{choice name: option name}``.

        Raises:
            InputError: a choice is missing or unknown, or an option is.
        """
        known = [choice.name for choice in self.choices]
        for name in named:
            if name not in known:
                raise InputError(f"search space {self.name!r} has no choice {name!r}")
        for name in known:
            if name not in named:
                raise InputError(f"search space {self.name!r} needs an option for choice {name!r}, none is given")
        return self.architecture([choice.token(named[choice.name]) for choice in self.choices])

    def joined(self, winners: "Sequence[Architecture]") -> "Architecture":
        """The architecture that the winners of this space's stages make, one a stage, in order."""
        return winners[0] if self.join is None else self.join(*winners)

    def sample(self, rng: np.random.Generator) -> "Architecture":
        """One architecture, every token drawn uniformly and independently."""
        return self.architecture([int(rng.integers(len(choice.options))) for choice in self.choices])

    def describe(self) -> str:
        """The space in words: its size and every choice with its options."""
        head = f"{self.name}: {len(self)} choices, {self.cardinality:.3g} token sequences"
        return "\n".join([head, *(f"  {c.name} ({c.kind}): {' | '.join(c.options)}" for c in self.choices)])


@dataclass(frozen=True)
class Architecture:
    """A genotype: one token per choice of a space.

    Args:
        space: this architecture is a point of it.
        tokens: one per choice.

    Raises:
        InputError: tokens that do not fit the space.
    """

    space: SearchSpace
    tokens: Tokens

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", self.space.validate(self.tokens))

    @classmethod
    def of(cls, space: str, tokens: Sequence[int] = ()) -> "Architecture":
        """The architecture that ``tokens`` spell in the registered space called ``space``; raises `InputError`."""
        found: SearchSpace = SPACES.get(space)
        return found.architecture(tokens)

    @property
    def named(self) -> dict[str, str]:
        """``{choice name: option name}``; stored files use it, so that reordering options breaks nothing."""
        return {c.name: c.options[t] for c, t in zip(self.space.choices, self.tokens, strict=True)}

    @property
    def canonical(self) -> "Architecture":
        """The agreed spelling of this network."""
        canonical = self.space.canonical
        return self if canonical is None else Architecture(self.space, canonical(self.tokens))

    @cached_property
    def key(self) -> str:
        """16 hex digits that two spellings of one network share."""
        text = json.dumps([self.space.name, sorted(self.canonical.named.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def build(self, **sizes: Any) -> Any:
        """The module this architecture stands for; raises `InputError` where its space has no builder."""
        return self.space.builder(self, **sizes)

    def to_json(self, **provenance: Any) -> str:
        """The architecture file's text: format version, space, options by name, and where it came from."""
        content = {"format": ARCHITECTURE_FORMAT, "space": self.space.name, "choices": self.named, **provenance}
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, place: str = "architecture") -> "Architecture":
        """Reads `to_json`'s text.

        Args:
            text: the JSON.
            place: the file's name, for messages.

        Raises:
            InputError: not JSON, a newer format, or names that the space lacks; the message begins with the place.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{place}: not JSON, line {error.lineno} column {error.colno}: {error.msg}") from error
        except RecursionError as error:
            raise InputError(f"{place}: not an architecture file: it is nested too deeply") from error
        if not isinstance(content, dict):
            raise InputError(f"{place}: an architecture file is a JSON object, got {type(content).__name__}")
        for name, kind in (("format", int), ("space", str), ("choices", dict)):
            if not isinstance(content.get(name), kind):
                raise InputError(f"{place}: key {name!r} must be a JSON {kind.__name__}, got {content.get(name)!r}")
        if content["format"] > ARCHITECTURE_FORMAT:
            raise InputError(
                f"{place}: format {content['format']} is newer than this version reads ({ARCHITECTURE_FORMAT})"
            )
        try:
            if ":" in content["space"]:  # the registry would import that module: a file must not run code
                raise InputError(f"a file names a registered search space, got {content['space']!r}")
            space: SearchSpace = SPACES.get(content["space"])
            return space.from_named(content["choices"])
        except InputError as error:
            raise InputError(f"{place}: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "Architecture":
        """Reads an architecture file; raises `InputError` with the file's name."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"cannot read the architecture file {path}: {reason}") from error
        return cls.from_json(text, str(path))
