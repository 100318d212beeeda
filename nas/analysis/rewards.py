"""Rewards and metrics trial by trial, and reward against size and cost."""

import math

import pandas as pd

from nas.analysis.stage import StageTrials
from nas.analysis.tables import table
from nas.run.front import on_front
from nas.settings.targets import COSTS

__all__ = ["metrics", "pareto", "rewards"]

RUNNING = 50  # rewards that a running mean is of


def rewards(stage: StageTrials) -> pd.DataFrame:
    """The table ``rewards`` of one stage."""
    frame = stage.frame
    full = frame.reward[frame.full]
    done = frame.reward[stage.done]
    frame = frame.assign(
        stage=stage.name,
        running_mean=full.rolling(RUNNING, min_periods=1).mean().reindex(frame.index).ffill(),
        best_so_far=done.cummax().reindex(frame.index).ffill(),
    )
    return table("rewards", frame[frame.status != "running"])


def metrics(stage: StageTrials) -> pd.DataFrame:
    """The table ``metrics`` of one stage."""
    figures = pd.DataFrame(stage.metrics, index=stage.frame.index, dtype=float)
    stacked = pd.Series(figures.stack(future_stack=True), name="value")
    values = stacked.dropna().rename_axis(["row", "metric"]).reset_index()
    own = stage.frame.loc[values.row, ["trial", "number", "status"]].reset_index(drop=True)
    return table("metrics", pd.concat([own, values], axis=1).assign(stage=stage.name))


def pareto(stage: StageTrials) -> pd.DataFrame:
    """The table ``pareto`` of one stage; without rows where no done trial has a cost among its metrics."""
    frame = stage.frame.assign(stage=stage.name, told=stage.frame.reward, reward=stage.frame.own_reward)
    for cost in COSTS:
        frame[cost] = [figures.get(cost, math.nan) for figures in stage.metrics]
    frame = frame[stage.done & frame[list(COSTS)].notna().any(axis=1).to_numpy()]
    for cost in COSTS:
        frame = frame.assign(**{f"{cost}_front": on_front(frame.reward.to_numpy(), frame[cost].to_numpy())})
    return table("pareto", frame)
