"""The trade of a trained cell against a count frame by frame, on a network whose MACs are counted by hand."""

import numpy as np
import pytest
import torch
from test_experiments_evaluation import Body, Cell, Decoder, slow_figures
from video_parts import noise

from experiments.predicting import Trained
from experiments.video import evaluation
from experiments.video.evaluation import Player, keyframes, network_input
from experiments.video.measuring import CELLS
from experiments.video.predicting import SegmentationPredictor
from proxy_tasks.data.video import MovingShapes
from proxy_tasks.video.network import StaticSegmenter, VideoSegmenter, upsample
from search_spaces import InputError

CPU = torch.device("cpu")
LENGTHS = [7, 1, 3]
STATIC = {  # by hand, the positions in clips of these lengths on which the static decoder runs
    1: [[0, 1, 2, 3, 4, 5, 6], [0], [0, 1, 2]],
    2: [[0, 2, 4, 6], [0], [0, 2]],
    3: [[0, 3, 6], [0], [0]],
    5: [[0, 5], [0], [0]],
    0: [[0], [0], [0]],
}


@pytest.fixture
def data():
    return noise(sum(LENGTHS), lengths=LENGTHS, size=(64, 80))


@pytest.fixture
def predictor(data):
    torch.manual_seed(0)
    network = VideoSegmenter(StaticSegmenter(Body(), Decoder()), Cell()).eval()
    for parameter in network.parameters():
        parameter.data.mul_(3)
    return SegmentationPredictor(Player(network, 1.0, 3, CPU), list(data.classes), data.palette)


@pytest.fixture
def timed(monkeypatch):
    """Every timing is another number."""
    times = []

    def median(run, device):
        run()
        times.append(8.0 - 3 * len(times))
        return times[-1]

    monkeypatch.setattr(evaluation, "median_milliseconds", median)
    return times


def played(network, data, scale, interval):
    """Truth and prediction of every frame."""
    pairs = []
    for clip, static in zip(data.clips, STATIC[interval], strict=True):
        state = None
        for position, index in enumerate(clip):
            x = network_input(data.image(index), scale)
            with torch.no_grad():
                logits, state = network.first(x) if position in static else network.following(x, state)
            pairs.append((data.labels(index).numpy(), upsample(logits, (64, 80)).argmax(1)[0].numpy()))
    return pairs


@pytest.mark.parametrize("interval", STATIC)
def test_keyframes_are_counted_by_hand(interval):
    assert [keyframes(length, interval) for length in LENGTHS] == [len(static) for static in STATIC[interval]]


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("interval", STATIC)
def test_a_point_is_the_count_frame_by_frame(data, predictor, timed, interval, scale):
    calls = []
    point = {"keyframe_interval": interval, "scale": scale, "device": "cpu"}
    row = CELLS.measured(predictor, data, point, [], lambda *n: calls.append(n))
    assert row.keys() == set(CELLS.figures)
    assert calls == [(n, 11) for n in range(1, 12)]
    expected, _ = slow_figures(played(predictor.network, data, scale, interval), 4)
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9)

    cells = int(8 * scale) * int(10 * scale)
    body, classifier = 4 * 3 * 9, 4 * 4
    macs = {True: cells * (body + 5 * 4 * 4 * 9 + classifier), False: cells * (body + 8 * 4 + classifier)}
    of_frames = [
        macs[n in static] for n_frames, static in zip(LENGTHS, STATIC[interval], strict=True) for n in range(n_frames)
    ]
    assert (row["macs_first"], row["macs_following"]) == (macs[True], macs[False])
    assert row["macs"] == pytest.approx(np.mean(of_frames), rel=1e-12)
    of_frames = [8.0 if m == macs[True] else 5.0 for m in of_frames]
    assert (timed, row["ms_first"], row["ms_following"]) == ([8.0, 5.0], 8.0, 5.0)
    assert row["ms"] == pytest.approx(np.mean(of_frames), rel=1e-12)


def test_intervals_of_a_scale_share_one_timing(data, predictor, timed):
    rows = []
    for scale, interval in ((1.0, 1), (1.0, 0), (0.5, 1)):
        point = {"keyframe_interval": interval, "scale": scale, "device": "cpu"}
        rows.append(point | CELLS.measured(predictor, data, point, rows, lambda *n: None))
    assert [row["ms_first"] for row in rows] == [8.0, 8.0, 2.0]
    assert len(timed) == 4


def test_test_sets_of_other_classes():
    trained = Trained({"scale": 1.0, "sequence_length": 5}, ["ground", "disc"])
    with pytest.raises(
        InputError, match=r"classes are ground, .*, those of the trained network ground, disc; .* --data"
    ):
        CELLS.open_data(None, trained)
    right = Trained(trained.recipe, list(MovingShapes.classes))
    assert CELLS.open_data(None, right).sequence_length == 5
