"""Training of cell and static network: the two phases, their rates, the loss against frame by frame."""

import copy

import pytest
import torch
import torch.nn.functional as F
from test_experiments_static_training import slow_cross_entropy
from video_parts import build, cell, noise, video_recipe

from experiments.training import step
from experiments.video.cell_training import VideoTraining
from proxy_tasks.images import normalise


def started(lengths=(3, 3, 2), **changes):
    """A training of two steps of the cell and three end to end."""
    recipe = video_recipe(**{"cell_epochs": 2, "batch_size": 2, **changes})
    data = noise(sum(lengths), lengths=list(lengths), size=(32, 32))
    data.sequence_length = recipe.sequence_length or data.sequence_length
    return VideoTraining(build(cell()), data, recipe, seed=0, iterations=3)


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(module, before):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def run(training, steps):
    batches = training.batches(0)
    for number in range(steps):
        step(training, number, next(batches))


def test_the_cell_learns_alone_and_then_both():
    training = started()
    assert (training.cell_steps, training.steps) == (2, 5)
    static, own = snapshot(training.network.static), snapshot(training.network.cell)
    run(training, 2)
    assert changed(training.network.static, static) == set()
    assert any(name.endswith("weight") for name in changed(training.network.cell, own))

    batches = training.batches(2)
    step(training, 2, next(batches))
    moved = changed(training.network.static, static)
    assert {
        "body.0.0.weight",
        "body.0.1.running_mean",
        "decoder.bottleneck.0.weight",
        "decoder.classifier.bias",
    } <= moved


def test_the_loss_is_that_of_frame_after_frame():
    training = started()
    images, labels = batch = next(training.batches(0))
    network = copy.deepcopy(training.network)
    network.static.eval()
    network.cell.train()
    loss = step(training, 0, batch).item()

    frames = [normalise(images[:, t]) for t in range(3)]
    _, state = network.first(frames[0])
    expected = 0.0
    for t in (1, 2):
        logits, state = network.following(frames[t], state)
        large = F.interpolate(logits, (32, 32), mode="bilinear", align_corners=False)
        expected += slow_cross_entropy(large, labels[:, t].int()).item()
    assert loss == pytest.approx(expected, rel=1e-4)


def learns(parameter):
    """Whether a step of SGD shows in its float32."""
    return parameter.grad is not None and parameter.grad.abs().max() > 1e-3


def largest_moves(training, number, batch):
    """By how much the largest change of a weight of the cell, and of the static network by its gradient."""
    network, twin = training.network, copy.deepcopy(training.network)
    step(training, number, batch)
    moves = [
        (new - old).abs().max() for new, old in zip(network.cell.parameters(), twin.cell.parameters(), strict=True)
    ]
    pairs = zip(network.static.parameters(), twin.static.parameters(), strict=True)
    ratios = [((new - old).abs().sum() / new.grad.abs().sum()).item() for new, old in pairs if learns(new)]
    return max(moves).item(), ratios


def test_the_rates_of_each_phase():
    training = started()
    first, second, third, *_ = training.batches(0)
    move, ratios = largest_moves(training, 0, first)
    assert move == pytest.approx(8e-3, rel=1e-3)  # Adam's first step moves a weight by its rate
    assert ratios == []
    step(training, 1, second)
    assert training.adam.param_groups[0]["lr"] == 8e-3
    training = started(cell_epochs=0, momentum=0.5)
    move, ratios = largest_moves(training, 0, first)
    assert move == pytest.approx(4e-3, rel=1e-3)
    assert len(ratios) > 50
    assert ratios == pytest.approx([5e-4] * len(ratios), rel=0.1)  # of float32 weights
    assert training.sgd.param_groups[0]["momentum"] == 0.5
    step(training, 1, third)
    assert training.adam.param_groups[0]["lr"] == 4e-3


def test_every_part_is_trained_by_one_optimiser():
    training = started()
    cell_part, static_part = (
        {id(p) for p in part.parameters()} for part in (training.network.cell, training.network.static)
    )
    assert {id(p) for p in training.adam.param_groups[0]["params"]} == cell_part
    assert {id(p) for p in training.sgd.param_groups[0]["params"]} == static_part
    assert len(training.adam.param_groups) == len(training.sgd.param_groups) == 1


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_training_goes_on_from_its_state_bit_by_bit(stop):
    calm = started()
    run(calm, 5)
    early = started()
    run(early, stop)
    state = copy.deepcopy(early.state_dict())
    late = started()
    late.load_state_dict(state)
    for number, batch in enumerate(late.batches(stop), start=stop):
        step(late, number, batch)
    assert changed(late.network, snapshot(calm.network)) == set()


def test_the_epochs_count_sequences():
    data = noise(8, lengths=[5, 3], size=(32, 32))  # 3 + 1 sequences
    training = VideoTraining(build(cell()), data, video_recipe(cell_epochs=3, epochs=5, batch_size=8), seed=0)
    assert (training.cell_steps, training.steps) == (2, 5)  # 12 / 8 and 20 / 8, each rounded up
    assert next(training.batches(4))[0].shape == (8, 3, 3, 32, 32)


@pytest.mark.parametrize("length", [2, 4, 5])
def test_sequences_of_another_length_train(length):
    """The loss is summed over all frames but the first, and its gradient reaches the cell through each of them."""
    training = started(sequence_length=length, lengths=[5, 5])
    images, labels = batch = next(training.batches(0))
    assert images.shape[:2] == labels.shape[:2] == (2, length)
    network = copy.deepcopy(training.network)
    network.static.eval()
    network.cell.train()
    own = snapshot(training.network.cell)
    loss = step(training, 0, batch).item()
    assert any(name.endswith("weight") for name in changed(training.network.cell, own))
    _, state = network.first(normalise(images[:, 0]))
    terms = []
    for t in range(1, length):
        logits, state = network.following(normalise(images[:, t]), state)
        large = F.interpolate(logits, (32, 32), mode="bilinear", align_corners=False)
        terms.append(slow_cross_entropy(large, labels[:, t].int()).item())
    assert len(terms) == length - 1
    assert loss == pytest.approx(sum(terms), rel=1e-4)
    run(training, 5)


def test_three_frames_are_the_default_bit_for_bit():
    losses = []
    for changes in ({}, {"sequence_length": 3}, {"sequence_length": 2}):
        training = started(lengths=[4, 4], **changes)
        losses.append([step(training, n, batch).item() for n, batch in enumerate(training.batches(0))])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
