"""How the values of a run store are written: figures as JSON, a controller's parts as torch writes files."""

import io
import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from nas.run.rows import Contender, PromotionRow, ScoreRow, TrialRow

__all__ = ["figures_text", "number", "packed", "promotion_row", "score_row", "trial_row", "unpacked"]


def figures_text(figures: Mapping[str, float]) -> str:
    """Figures by name as JSON, which has neither NaN nor infinities: they become null."""
    return json.dumps({name: value if math.isfinite(value) else None for name, value in figures.items()})


def number(value: float | None) -> float:
    """A stored figure; null is NaN."""
    return math.nan if value is None else value


def trial_row(row: tuple[Any, ...]) -> TrialRow:
    """A row of ``trials``, its columns in the order of `TrialRow`."""
    trial, stage, status, choices, key, reward, reason, metrics, log_prob, proposal, attempts, transient, *times = row
    # Thousands of rows name the same few choices and options: one string of each is enough.
    named = {sys.intern(name): sys.intern(option) for name, option in json.loads(choices).items()}
    told = (key, reward, reason, _figures(metrics), log_prob, proposal, attempts, bool(transient))
    return TrialRow(trial, stage, status, named, *told, *times)


def promotion_row(row: tuple[Any, ...]) -> PromotionRow:
    """A row of ``promotions``, its columns in the order of `PromotionRow`."""
    key, job, recipe, status, metrics, place, reason, finished = row
    return PromotionRow(key, job, recipe, status, _figures(metrics), place, reason, finished)


def score_row(row: tuple[Any, ...]) -> ScoreRow:
    """A row of ``scores``, its columns those of `ScoreRow` with those of `Contender` in the place of its own."""
    number, purpose, name, key, space, choices, trials, seed, status, reward, reason, metrics, *rest = row
    contender = Contender(name, key, space, json.loads(choices), tuple(json.loads(trials)))
    return ScoreRow(number, purpose, contender, seed, status, reward, reason, _figures(metrics), *rest)


def _figures(text: str) -> dict[str, float]:
    return {name: number(value) for name, value in json.loads(text).items()}


def packed(parts: Mapping[str, Any]) -> dict[str, bytes | None]:
    """The parts of a controller's state as ``torch.save`` writes them; None stays None."""
    import torch

    def blob(state: Any) -> bytes:
        buffer = io.BytesIO()
        # not in the newer format, a ZIP archive: a kilobyte and 30 microseconds more a part, several times a trial
        torch.save(state, buffer, _use_new_zipfile_serialization=False)
        return buffer.getvalue()

    return {name: None if state is None else blob(state) for name, state in parts.items()}


def unpacked(blob: bytes) -> Any:
    """One part of a controller's state: data alone, never code."""
    import torch

    return torch.load(io.BytesIO(blob), weights_only=True)
