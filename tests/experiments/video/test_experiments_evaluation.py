"""Measuring against loops over pixels, and costs counted by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from video_parts import balanced, build, cell, noise

from experiments.video import evaluation
from experiments.video.evaluation import cost, evaluate, network_input, predictions
from proxy_tasks.video.network import StaticSegmenter, VideoSegmenter, upsample

CPU = torch.device("cpu")


class Counting(VideoSegmenter):
    """Predicts, everywhere, how many frames ago the static decoder ran."""

    def __init__(self):
        nn.Module.__init__(self)

    def first(self, images):
        assert not self.training
        return self.scores(images, 0), (torch.tensor(0), images)

    def following(self, images, state):
        age, before = state
        assert before.shape == images.shape
        assert not torch.equal(before, images)
        return self.scores(images, int(age) + 1), (age + 1, images)

    def scores(self, images, number):
        logits = torch.zeros(1, 8, *(-(-side // 8) for side in images.shape[-2:]))
        logits[:, number] = 1
        return logits


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(0, [0, 1, 2, 3, 4, 0, 1, 0]), (1, [0] * 8), (2, [0, 1, 0, 1, 0, 0, 1, 0]), (3, [0, 1, 2, 0, 1, 0, 1, 0])],
)
def test_the_static_decoder_runs_on_keyframes_and_at_the_start_of_every_clip(interval, expected):
    data = noise(8, lengths=[5, 2, 1])
    found = list(predictions(Counting().train(), data, 1.0, interval, CPU))
    assert [index for index, _ in found] == list(range(8))
    for (_, labels), number in zip(found, expected, strict=True):
        assert labels.dtype == torch.uint8
        assert labels.shape == (40, 48)
        assert (labels == number).all()


def test_all_frames_as_keyframes_are_the_static_network():
    data = noise(4)
    network = balanced(build(cell()), data)
    alone = list(predictions(network.static, data, 1.0, 0, CPU))
    assert len(alone[3][1].unique()) > 1
    carried = list(predictions(network, data, 1.0, 1, CPU))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(alone, carried, strict=True))
    following = list(predictions(network, data, 1.0, 0, CPU))
    assert torch.equal(following[0][1], alone[0][1])
    assert not torch.equal(following[3][1], alone[3][1])


@pytest.mark.parametrize(("scale", "size"), [(1.0, (40, 48)), (0.5, (20, 24)), (1.3, (52, 62))])
def test_the_network_works_at_the_scale_and_answers_at_the_frames_own_size(scale, size):
    data = noise(1)
    network = balanced(build(), data)
    x = network_input(data.image(0), scale)
    assert x.shape == (1, 3, *size)
    ((_, found),) = predictions(network, data, scale, 0, CPU)
    with torch.no_grad():
        expected = upsample(network(x), (40, 48)).argmax(1)[0]
    assert torch.equal(found, expected.byte())


def slow_figures(pairs, classes):
    """mIoU, mean accuracy, global accuracy and frequency-weighted IoU, from sets of pixels."""
    truth, found = (np.concatenate([np.ravel(pair[part]) for pair in pairs]) for part in (0, 1))
    truth, found = truth[truth != 255], found[truth != 255]
    iou, accuracy, weight = [], [], []
    for c in range(classes):
        either = ((truth == c) | (found == c)).sum()
        both, here = ((truth == c) & (found == c)).sum(), (truth == c).sum()
        iou.append(both / either if either else math.nan)
        accuracy.append(both / here if here else math.nan)
        weight.append(here / len(truth))
    return {
        "miou": np.nanmean(iou),
        "macc": np.nanmean(accuracy),
        "gacc": (truth == found).mean(),
        "fwiou": np.nansum(np.multiply(iou, weight)),
    }, iou


def near_another_class(labels, y, x):
    """Whether a pixel of another class is within three pixels."""
    for dy, dx in np.ndindex(7, 7):
        v, u = y + dy - 3, x + dx - 3
        reached = (dy - 3) ** 2 + (dx - 3) ** 2 <= 9 and 0 <= v < len(labels) and 0 <= u < len(labels[0])
        if reached and labels[v, u] not in (255, labels[y, x]):
            return True
    return False


def test_the_figures_are_those_of_a_slow_loop():
    data = noise(5, size=(33, 40), lengths=[3, 2], annotated=[True, False, True, True, True])
    network = balanced(build(cell()), data)
    data.classes = (*data.classes, "whale")  # which occurs nowhere
    data._labels[:, 4:20, 5:30] = 2  # not only noise, so that some pixels are far from every border
    data._labels[data._labels == 3] = 1
    calls = []
    figures, kept = evaluate(network, data, 1.0, 2, CPU, {1, 4}, lambda *n: calls.append(n))
    assert calls == [(n, 5) for n in range(1, 6)]

    found = dict(predictions(network, data, 1.0, 2, CPU))
    assert kept.keys() == {1, 4}
    assert all(torch.equal(kept[index], found[index]) for index in kept)
    pairs = [(data.labels(i).numpy(), found[i].numpy()) for i in (0, 2, 3, 4)]
    expected, iou = slow_figures(pairs, 5)
    band = [(truth.copy(), guess) for truth, guess in pairs]
    for (masked, _), (truth, _) in zip(band, pairs, strict=True):
        for y, x in np.ndindex(*truth.shape):
            if not near_another_class(truth, y, x):
                masked[y, x] = 255
    assert sum((masked != truth).sum() for (masked, _), (truth, _) in zip(band, pairs, strict=True)) > 500
    expected["tiou"] = slow_figures(band, 5)[0]["miou"]
    names = ["iou road", "iou sky", "iou car", "iou tree", "iou whale"]
    expected |= {name: value for name, value in zip(names, iou, strict=True) if not math.isnan(value)}
    assert "iou whale" not in expected
    assert figures == pytest.approx(expected, rel=1e-9)


class Body(nn.Module):
    """Two maps of one convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=8, padding=1, bias=False)

    def forward(self, images):
        x = self.conv(images)
        return dict.fromkeys(("C2", "C3", "C4", "C5"), x)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs, self.classifier = (
            nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(5))),
            nn.Conv2d(4, 4, 1),
        )

    def forward(self, features):
        dec = self.convs(features["C5"])
        return {"dec": dec, "logits": self.classifier(dec)}


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 1)

    def forward(self, current, previous):
        return self.conv(torch.cat([current["C5"], previous["dec"]], dim=1))


def test_costs_by_hand(monkeypatch):
    timed = []

    def median(run, device):
        run()
        timed.append(device)
        return float(len(timed))

    monkeypatch.setattr(evaluation, "median_milliseconds", median)
    data = noise(1, lengths=[1], size=(64, 80))
    static = StaticSegmenter(Body(), Decoder())
    pixels = 4 * 5  # at half the size, and an eighth of that
    body, decoder, classifier, own = 4 * 3 * 9, 5 * 4 * 4 * 9, 4 * 4, 8 * 4
    biases = 5 * 4 + 4
    figures = cost(static, data, 0.5, CPU)
    assert figures == {
        "params": body + decoder + classifier + biases,
        "macs_first": pixels * (body + decoder + classifier),
        "macs_following": pixels * (body + decoder + classifier),
        "ms_first": 1.0,
        "ms_following": 1.0,
    }
    assert cost(VideoSegmenter(static, Cell()), data, 0.5, CPU) == {
        "params": body + decoder + classifier + biases + own + 4,
        "macs_first": pixels * (body + decoder + classifier),
        "macs_following": pixels * (body + own + classifier),
        "ms_first": 2.0,
        "ms_following": 3.0,
    }
    assert timed == [CPU] * 3
