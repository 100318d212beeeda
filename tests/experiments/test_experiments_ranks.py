"""Several processes that train together do what one does: batch norm, losses, gradients, weights, checkpoints."""

import functools
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from processes import CONTEXT
from torch import nn
from video.video_parts import build, cell, noise, static_recipe, video_recipe

from experiments import published
from experiments.detection.training import DetectorTraining
from experiments.fcos.networks import NETWORKS
from experiments.fcos.recipe import DetectorRecipe
from experiments.full_training import train_in_full
from experiments.promotion import JobOptions
from experiments.training import read_checkpoint, run
from experiments.video.cell_training import VideoTraining
from experiments.video.static_training import StaticTraining
from proxy_tasks import ranks
from proxy_tasks.data import Shapes
from search_spaces import InputError

DETECTION = {"min_size": 96, "max_size": 128, "min_size_least": 64, "batch_size": 3, "base_batch_size": 3}


def one_of_them(work, folder, rank, processes):
    meeting = {"store": dist.FileStore(str(folder / "meeting"), processes)}
    dist.init_process_group("gloo", rank=rank, world_size=processes, **meeting)
    torch.save(work(), folder / f"{rank}.pt")
    dist.destroy_process_group()


def together(work, folder, processes=2):
    """What ``work()`` gives in each of so many processes, joined by gloo, by rank."""
    children = [CONTEXT.Process(target=one_of_them, args=(work, folder, rank, processes)) for rank in range(processes)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * processes
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(processes)]


def normalised(images):
    """Batch norm of this process's rows, what is learned from a loss of its outputs, and the running statistics."""
    norm = nn.BatchNorm2d(3, momentum=0.3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([-1.0, 0.0, 3.0]))
    own = images.clone().requires_grad_()
    with ranks.joined():
        for _ in range(2):
            out = norm(own[ranks.rows()])
        out.pow(3).mul(torch.arange(4.0)).sum().backward()
        found = own.grad, ranks.summed(norm.weight.grad), ranks.summed(norm.bias.grad)
        after = norm.eval()(images)
    return [out.detach(), *found, norm.running_mean, norm.running_var, after.detach()]


@pytest.mark.parametrize("processes", [2, 3])
def test_batch_norm_is_that_of_the_whole_batch(tmp_path, processes):
    images = torch.randn(5, 3, 2, 4, generator=torch.Generator().manual_seed(0)) * 3 + 100
    out, gradient, *others = normalised(images)  # in this process alone it is torch's
    for rank, (own_out, own_gradient, *same) in enumerate(
        together(functools.partial(normalised, images), tmp_path, processes)
    ):
        torch.testing.assert_close(own_out, out[rank::processes], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(own_gradient[rank::processes], gradient[rank::processes], rtol=1e-3, atol=1e-3)
        for mine, theirs in zip(same, others, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_alone_nothing_is_changed():
    images = torch.randn(2, 3, 4, 4)
    with ranks.joined():
        assert torch.equal(F.batch_norm(images, None, None, training=True), torch.nn.BatchNorm2d(3)(images))
        assert torch.equal(ranks.summed(images), images)
    assert (ranks.count(), ranks.is_first(), ranks.rows()) == (1, True, slice(None))


def detector(name, **changes):
    torch.manual_seed(0)
    recipe = DetectorRecipe(**{**DETECTION, **changes}, backbone="tiny", width="16")
    network = NETWORKS.build(published.load(name), recipe, "none", 4)
    return DetectorTraining(network, Shapes(4, size=64), recipe, 0, iterations=4)


CALM = {"batch_size": 5, "crop_height": 64, "crop_width": 64}
"""Maps of a few values a channel make batch norm, and so a training, hang on the last digit of every sum."""


def static():
    recipe = static_recipe(**CALM, flip=0.5, encoder_learning_rate=1e-3, decoder_learning_rate=1e-3)
    return StaticTraining(build(auxiliary=True), noise(5, size=(64, 64)), recipe, 0, iterations=4)


def dynamic():
    recipe = video_recipe(**CALM, cell_epochs=1, cell_learning_rate=1e-3, finetune_cell_learning_rate=1e-4)
    return VideoTraining(build(cell()), noise(12, size=(64, 64)), recipe, 0, iterations=2)


TRAININGS = {
    "fcos": functools.partial(detector, "fpn_fcos"),
    "fcos with all settings": functools.partial(
        detector, "nas_fcos", weight_average=0.9, gradient_norm=1.0, regression="centerness"
    ),
    "retinanet": functools.partial(detector, "fpn_retinanet"),
    "static": static,
    "cell": dynamic,
}


def test_a_batch_that_cannot_be_cut_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "count", lambda: 4)
    parts = {"data": "", "network": nn.Identity(), "begin": None, "finish": None}
    with pytest.raises(InputError, match="a batch of 3 cannot be cut over 4 workers"):
        train_in_full(
            tmp_path, published.load("fpn_fcos"), DetectorRecipe(batch_size=3), JobOptions(), False, print, **parts
        )
    assert list(tmp_path.iterdir()) == []


def trained(make, folder):
    """The losses of every step, and the weights at the end."""
    training, losses = make(), []
    update = training.update
    training.update = lambda number: (update(number), losses.append(number))
    own = folder / f"of-{ranks.count()}"
    own.mkdir(exist_ok=True)
    with mock.patch("experiments.training.LOG_EVERY", 1):
        run(training, own, lambda *_: None)
    assert len(losses) == training.steps
    network = getattr(training, "trained", training.network)
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_as_one(tmp_path, name):
    make = TRAININGS[name]
    whole = trained(make, tmp_path)
    start = getattr(make(), "trained", make().network).state_dict()
    first, second = together(functools.partial(trained, make, tmp_path), tmp_path)
    logs = [read_checkpoint(tmp_path / folder / "checkpoint.pt")["log"] for folder in ("of-1", "of-2")]
    assert [loss for _, loss in logs[1]] == pytest.approx([loss for _, loss in logs[0]], rel=1e-4)
    moved = 0
    for key, value in whole.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, rtol=1e-2, atol=2e-4, msg=lambda text, key=key: f"{key}: {text}")
        moved += not torch.equal(value, start[key])
    assert moved > 10
