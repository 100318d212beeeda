"""The moving average of weights against one by hand, in every kind of training."""

import dataclasses

import pytest
import torch
from torch import nn
from video.video_parts import build, cell, noise, static_recipe, video_recipe

from experiments.averaging import WeightAverage
from experiments.training import step
from experiments.video.cell_training import VideoTraining
from experiments.video.static_training import StaticTraining


def mixed(decay, before, average, now):
    """The average after a step that ``before`` others went before."""
    decay = min(decay, (1 + before) / (10 + before))
    return now if average is None else {name: decay * average[name] + (1 - decay) * now[name] for name in now}


@pytest.mark.parametrize("decay", [0.2, 0.75])  # one is reached, the other is not
def test_the_average_is_that_of_a_slow_loop_and_starts_with_the_first_step(decay):
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average, expected = WeightAverage(network, decay), None
    for number in range(5):
        torch.manual_seed(number)
        for value in network.state_dict().values():
            value.copy_(torch.randn(value.shape) * 10)
        average.update()
        now = {name: value.clone() for name, value in network.state_dict().items()}
        expected = mixed(decay, number, expected, now)
        expected["1.num_batches_tracked"] = expected["1.num_batches_tracked"].long()
    for name, value in average.network.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_a_short_training_forgets_what_it_began_with():
    network = nn.Linear(1, 1, bias=False)
    average = WeightAverage(network, 0.999)
    for number in range(100):
        nn.init.constant_(network.weight, float(number >= 50))
        average.update()
    assert average.network.weight.item() > 0.99


def test_without_a_decay_the_network_is_its_own_average():
    network = nn.Linear(2, 2)
    average = WeightAverage(network, 0.0)
    average.update()
    assert average.network is network
    assert average.state_dict() == {}
    average.load_state_dict({})


def static(recipe):
    return StaticTraining(build(auxiliary=True), noise(8), recipe, seed=0, iterations=3)


def video(recipe):
    return VideoTraining(build(cell()), noise(8, lengths=[4, 4]), recipe, seed=0, iterations=3)


@pytest.mark.parametrize(
    ("begin", "recipe"), [(static, static_recipe(batch_size=2)), (video, video_recipe(batch_size=2, cell_epochs=0))]
)
def test_segmentation_is_measured_by_the_average_of_its_steps(begin, recipe):
    job = begin(dataclasses.replace(recipe, weight_average=0.5))
    expected = None
    for number, batch in enumerate(job.batches(0)):
        step(job, number, batch)
        now = {name: value.detach().clone() for name, value in job.network.named_parameters()}
        expected = mixed(0.5, number, expected, now)
    assert job.trained is not job.network
    for name, value in job.trained.named_parameters():
        torch.testing.assert_close(value, expected[name])
