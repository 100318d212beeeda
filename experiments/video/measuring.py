"""What a trained dynamic cell trades: mIoU against milliseconds and MACs, over keyframe intervals and scales."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from experiments.measuring import Axis, Measurement, Setting
from experiments.predicting import Predictor, Trained
from experiments.promotion import Column
from experiments.video.evaluation import cost, evaluate, keyframes
from experiments.video.predicting import SegmentationPredictor
from proxy_tasks.data.video import VideoDataset, open_video
from search_spaces import Architecture, InputError

__all__ = ["CELLS", "mean_costs"]

INTERVALS = (1, 2, 3, 5, 0)
SHARES = ("miou", "macc", "gacc", "fwiou", "tiou")
COSTS = ("params", "macs_first", "ms_first", "macs_following", "ms_following")


def mean_costs(costs: Mapping[str, float], data: VideoDataset, keyframe_interval: int) -> dict[str, float]:
    """``macs`` and ``ms`` of a frame, the mean over all frames of all clips, of which some are keyframes.

    Args:
        costs: see `cost`: of a keyframe ``macs_first`` and ``ms_first``, of any other ``macs_following`` and
            ``ms_following``.
        data: has the clips.
        keyframe_interval: see `evaluate`.
    """
    first = sum(keyframes(len(clip), keyframe_interval) for clip in data.clips) / len(data)
    return {name: first * costs[f"{name}_first"] + (1 - first) * costs[f"{name}_following"] for name in ("macs", "ms")}


def _interval(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _scale(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


class _Cells(Measurement):
    """Interval 1 is the static network frame by frame, 0 the static decoder on a clip's first frame alone."""

    settings: ClassVar = {
        "keyframe_interval": Setting("whole numbers of at least 0", _interval, lambda recipe: INTERVALS),
        "scale": Setting("numbers above 0", _scale, lambda recipe: (float(recipe["scale"]),)),
    }
    figures = (*SHARES, "macs", "ms", *COSTS)
    columns = (
        Column("mIoU", lambda row: f"{100 * row['miou']:.1f}"),
        Column("tIoU", lambda row: f"{100 * row['tiou']:.1f}"),
        Column("ms", lambda row: f"{row['ms']:.1f}"),
        Column("first / following", lambda row: f"{row['ms_first']:.1f} / {row['ms_following']:.1f}"),
        Column("GMACs", lambda row: f"{row['macs'] / 1e9:.3f}"),
    )
    costs = (Axis("ms", "milliseconds a frame"), Axis("macs", "GMACs a frame", 1e9))
    quality = Axis("miou", "mIoU, %", 0.01)
    lines = "scale"
    marks = "keyframe_interval"

    def refusal(self, architecture: Architecture) -> str | None:
        """A static network has no cell between keyframes."""
        if len(architecture.space):
            return None
        return "a static network, which sees every frame by itself, so that keyframe intervals make no sense for it"

    def open_data(self, path: str | None, trained: Trained) -> VideoDataset:
        """The test frames, in clips at least as long as the sequences of the training."""
        data = open_video(path, "test", sequence_length=trained.recipe.get("sequence_length"))
        if list(data.classes) != list(trained.classes):
            raise InputError(
                f"{data.root}: the test set's classes are {', '.join(data.classes)}, those of the trained network"
                f" {', '.join(trained.classes)}; give the data that it was trained on by --data"
            )
        return data

    def measured(
        self,
        predictor: Predictor,
        data: VideoDataset,
        point: Mapping[str, Any],
        known: Sequence[Mapping[str, Any]],
        progress: Callable[[int, int], None],
    ) -> dict[str, float]:
        """The costs of single frames are those of a row with the same scale, where there is one.

        So all intervals of a scale differ by their keyframes alone, and not by two timings of the same network.
        """
        assert isinstance(predictor, SegmentationPredictor), type(predictor).__name__
        network, device = predictor.player.network, predictor.player.device
        scale, interval = point["scale"], point["keyframe_interval"]
        found, _ = evaluate(network, data, scale, interval, device, (), progress)
        same = next((row for row in known if row["scale"] == scale), None)
        costs = {name: same[name] for name in COSTS} if same else cost(network, data, scale, device)
        return {name: found[name] for name in SHARES} | mean_costs(costs, data, interval) | costs


CELLS = _Cells()
