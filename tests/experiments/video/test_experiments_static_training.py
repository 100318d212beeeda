"""Training of the static network against its update rule written out."""

import copy

import pytest
import torch
import torch.nn.functional as F
from video_parts import build, noise, static_recipe

from experiments.training import step
from experiments.video.static_training import StaticTraining, cross_entropy
from proxy_tasks.data.video.base import VOID
from proxy_tasks.images import normalise


def slow_cross_entropy(logits, labels):
    """The mean over the pixels that are not void."""
    b, y, x = (labels != VOID).nonzero(as_tuple=True)
    scores = logits[b, :, y, x]
    return (scores.exp().sum(1).log() - scores[torch.arange(len(b)), labels[b, y, x]]).mean()


def slow_shrunk(labels, size):
    """The label at the middle of each of the larger pixels."""
    ys, xs = (
        [int((i + 0.5) * have / want) for i in range(want)] for have, want in zip(labels.shape[1:], size, strict=True)
    )
    return labels[:, ys][:, :, xs]


def slow_loss(network, batch):
    images, labels = batch[0][:, 0], batch[1][:, 0].int()
    main, *auxiliary = network.training_outputs(normalise(images))
    loss = slow_cross_entropy(F.interpolate(main, labels.shape[-2:], mode="bilinear", align_corners=False), labels)
    assert len(auxiliary) == 3
    for logits in auxiliary:
        loss = loss + 0.3 * slow_cross_entropy(logits, slow_shrunk(labels, logits.shape[-2:]))
    return loss


def test_cross_entropy_leaves_void_out():
    logits = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 5, 6), dtype=torch.uint8)
    labels[0, :3] = VOID
    expected = F.cross_entropy(logits, labels.long(), ignore_index=VOID)
    assert cross_entropy(logits, labels).item() == pytest.approx(expected.item(), rel=1e-12)
    assert slow_cross_entropy(logits, labels.int()).item() == pytest.approx(expected.item(), rel=1e-12)
    logits.requires_grad_()
    nothing = cross_entropy(logits, torch.full_like(labels, VOID))
    nothing.backward()
    assert nothing.item() == 0
    assert (logits.grad == 0).all()


def test_two_steps_are_sgd_under_the_poly_schedule_with_auxiliary_losses():
    recipe = static_recipe(
        encoder_learning_rate=2e-4,
        decoder_learning_rate=3e-5,
        weight_decay=0.01,
        momentum=0.8,
        crop_height=64,
        crop_width=64,
    )
    network = build(auxiliary=True).train()
    before, slow = copy.deepcopy(network), copy.deepcopy(network)
    training = StaticTraining(network, noise(6), recipe, seed=0, iterations=10)
    speed = {}
    for number, batch in zip((0, 1), training.batches(0), strict=False):
        loss = step(training, number, batch)
        expected = slow_loss(slow, batch)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
        parameters = {
            name: value for name, value in slow.named_parameters() if not name.startswith("decoder.adapters.C2")
        }
        gradients = torch.autograd.grad(expected, list(parameters.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
                speed[name] = 0.8 * speed.get(name, 0) + gradient + 0.01 * value
                rate = 2e-4 if name.startswith("body.") else 3e-5
                value -= rate * (1 - number / 10) ** 0.9 * speed[name]
    moved = 0
    for name, start in before.named_parameters():
        moves = [module.get_parameter(name) - start for module in (network, slow)]
        moved += int(moves[1].abs().max() > 1e-5)
        torch.testing.assert_close(*moves, rtol=0.02, atol=1e-7)
    assert moved > 30


def test_the_rates_fall_to_almost_nothing_and_depend_on_the_step_alone():
    recipe, data = static_recipe(), noise(4)
    training = StaticTraining(build(auxiliary=True), data, recipe, seed=0, iterations=100)
    (batch,) = list(training.batches(99))
    for number in (99, 0, 50):
        step(training, number, batch)
        rates = [group["lr"] for group in training.optimizer.param_groups]
        assert rates == pytest.approx([0.05 * (1 - number / 100) ** 0.9, 0.01 * (1 - number / 100) ** 0.9])
    encoder, decoder = (group["params"] for group in training.optimizer.param_groups)
    assert {id(p) for p in encoder} == {id(p) for p in training.network.body.parameters()}
    assert {id(p) for p in decoder} == {id(p) for p in training.network.decoder.parameters()}


def test_the_epochs_count_annotated_frames():
    data = noise(7, lengths=[7], annotated=[False, True, True, True, True, True, False])
    recipe = static_recipe(epochs=4, batch_size=3)
    training = StaticTraining(build(auxiliary=True), data, recipe, seed=0)
    assert training.steps == 7  # 4 · 5 / 3, rounded up
    assert training.frames.tolist() == [[1], [2], [3], [4], [5]]
    assert len(list(training.batches(5))) == 2


def test_it_learns():
    data = noise(2)
    data._labels[:] = (data._images[:, 0] > 127).byte()
    data._images[:] = data._labels[:, None] * 200
    training = StaticTraining(build(auxiliary=True), data, static_recipe(), seed=0, iterations=12)
    losses = [step(training, number, batch).item() for number, batch in enumerate(training.batches(0))]
    assert losses[-1] < 0.8 * losses[0]
