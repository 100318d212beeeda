"""Training detectors: the schedule, batches that are functions of their step, and what a resumed training ends with."""

import dataclasses

import pytest
import safetensors.torch
import torch
import trees

from experiments import published, training
from experiments.detection import jobs
from experiments.detection.loading import batches
from experiments.detection.training import DetectorTraining, rate_factor
from experiments.fcos.networks import NETWORKS
from experiments.fcos.recipe import DetectorRecipe
from experiments.promotion import JobOptions
from experiments.training import step
from proxy_tasks.data import Shapes, held_apart, open_dataset
from search_spaces import InputError

SMALL = DetectorRecipe(
    min_size=96, max_size=128, min_size_least=64, batch_size=2, base_batch_size=2, backbone="tiny", width="16"
)


def detector(recipe=SMALL):
    torch.manual_seed(0)
    return NETWORKS.build(published.load("fpn_fcos"), recipe, "none", 4)


def quiet(done, total, loss):
    """Progress that nobody sees."""


def test_the_published_schedule():
    recipe = DetectorRecipe(first_drop=0.66666667, second_drop=0.88888889)
    factors = {step: rate_factor(recipe, step, 90000) for step in (0, 250, 500, 59999, 60000, 79999, 80000, 89999)}
    expected = (1 / 3, 2 / 3, 1, 1, 0.1, 0.1, 0.01, 0.01)
    assert list(factors.values()) == pytest.approx(expected)


def test_a_larger_batch_raises_the_rate_and_takes_fewer_steps():
    recipe = dataclasses.replace(SMALL, batch_size=4, iterations=90, warmup_iterations=8, learning_rate=0.01)
    job = DetectorTraining(detector(), Shapes(4), recipe, 0)
    assert (job.steps, job.rate) == (45, 0.02)
    assert rate_factor(recipe, 3, 45) < 1
    assert rate_factor(recipe, 4, 45) == 1


@pytest.mark.parametrize("steps", [7, 40, 1500])
def test_one_cycle_is_torchs(steps):
    recipe = DetectorRecipe(schedule="one_cycle")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps)
    for number in range(steps):
        assert rate_factor(recipe, number, steps) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        if number + 1 < steps:
            theirs.step()


def test_batches_are_functions_of_their_step():
    data = Shapes(5, size=64)
    whole = list(batches(data, SMALL, 3, range(6), loaders=0))
    for later, first in zip(batches(data, SMALL, 3, range(4, 6), loaders=1), whole[4:], strict=True):
        assert later[0] == first[0]
        for one, other in zip(
            (*later[1], *(t["boxes"] for t in later[2])), (*first[1], *(t["boxes"] for t in first[2])), strict=True
        ):
            assert torch.equal(one, other)
    assert len({side for side, _, _ in whole}) > 1
    assert all(64 <= side <= 96 for side, _, _ in whole)
    other = next(iter(batches(data, SMALL, 4, range(1), loaders=0)))
    assert not torch.equal(other[1][0], whole[0][1][0])


def test_mirrored_boxes_stay_on_their_objects(tmp_path):
    data = open_dataset(str(trees.write_voc(tmp_path / "voc", size=(64, 48))), "train")
    always, never = (batches(data, dataclasses.replace(SMALL, flip=share), 0, range(3), 0) for share in (1.0, 0.0))
    count = 0
    for (_, images, targets), (_, plain, before) in zip(always, never, strict=True):
        for image, target, other, old in zip(images, targets, plain, before, strict=True):
            assert torch.equal(image.flip(-1), other)
            for box, old_box in zip(target["boxes"].int().tolist(), old["boxes"].int().tolist(), strict=True):
                patch, old_patch = (x[:, y1:y2, x1:x2] for x, (x1, y1, x2, y2) in ((image, box), (other, old_box)))
                assert torch.equal(patch.flip(-1), old_patch)
                count += 1
    assert count


@pytest.mark.parametrize(
    "changes",
    [{}, {"optimizer": "adamw", "schedule": "one_cycle", "weight_average": 0.9, "gradient_norm": 1.0, "interest": 0.5}],
)
def test_a_resumed_training_ends_with_the_same_weights(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    recipe, data = dataclasses.replace(SMALL, **changes), Shapes(4, size=64)

    def ended(folder, steps):
        folder.mkdir(exist_ok=True)
        job = DetectorTraining(detector(recipe), data, recipe, 0, iterations=6)
        if steps is not None:
            job.batches = lambda start: batches(data, recipe, 0, range(start, steps), 0)
        training.run(job, folder, quiet)
        return job.trained.state_dict()

    whole = ended(tmp_path / "whole", None)
    ended(tmp_path / "parts", 3)
    parts = ended(tmp_path / "parts", None)
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_it_learns():
    recipe = dataclasses.replace(SMALL, optimizer="adamw", learning_rate=3e-3, schedule="one_cycle", gradient_norm=10.0)
    job = DetectorTraining(detector(), Shapes(4, size=96), recipe, 0, iterations=30)
    losses = [float(step(job, number, batch)) for number, batch in enumerate(job.batches(0))]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"min_size_least": 900}, "must rise, from 32 pixels on, got 900, 800 and 1333"),
        ({"first_drop": 0.9}, "the first not above the second, got 0.9 and 0.88"),
        ({"flip": 1.5}, "'flip' must be a share from 0 to 1, got 1.5"),
        ({"optimizer": "lamb"}, "'optimizer' must be sgd or adamw, got 'lamb'"),
        ({"schedule": "linear"}, "'schedule' must be steps or one_cycle, got 'linear'"),
        ({"weight_average": 1.0}, "'weight_average' must be in [0, 1), got 1.0"),
        ({"backbone": "resnet5"}, "there is no backbone 'resnet5'"),
        ({"width": "wide"}, "width 'wide' must be a number"),
        ({"batch_size": 0}, "'batch_size' must be positive, got 0"),
    ],
)
def test_settings_out_of_range(changes, sentence):
    with pytest.raises(InputError, match=sentence.replace("[", r"\[").replace(")", r"\)")):
        DetectorRecipe(**changes)


def test_a_tenth_of_the_images_is_held_out():
    whole = Shapes(24, size=64)
    learned, held_out = held_apart(whole, 3)
    assert (len(learned), len(held_out)) == (22, 2)
    assert sorted([*learned.numbers, *held_out.numbers]) == list(range(24))
    assert torch.equal(held_out[1][0], whole[int(held_out.numbers[1])][0])
    assert held_out[1][1]["image_id"] == whole[int(held_out.numbers[1])][1]["image_id"]
    assert len({whole.fingerprint, learned.fingerprint, held_out.fingerprint}) == 3
    assert held_apart(whole, 3)[1].fingerprint == held_out.fingerprint != held_apart(whole, 4)[1].fingerprint
    assert (held_out.classes, held_out.category_ids) == (whole.classes, whole.category_ids)
    with pytest.raises(InputError, match="a tenth held out needs at least 2 images, the train set has 1"):
        held_apart(Shapes(1, size=64), 0)


def test_a_detectors_best_weights_are_the_result(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.detection.evaluation.median_milliseconds", lambda *_, **__: 1.0)
    monkeypatch.setattr(jobs, "opened", lambda options, subset, masks: Shapes(4, size=64, subset=subset))
    recipe, rates = dataclasses.replace(SMALL, validate_every=2, weight_average=0.5), iter([0.3, 0.2])
    evaluate, seen = jobs.evaluate, []

    def measured(network, data, *others):
        figures, *found = evaluate(network, data, *others)
        seen.append((len(data), {name: value.clone() for name, value in network.state_dict().items()}))
        return figures | {"ap": next(rates, 0.0)}, *found

    monkeypatch.setattr(jobs, "evaluate", measured)
    options = JobOptions(iterations=4, backbone_weights="none")
    jobs.train_detector(NETWORKS, tmp_path, published.load("fpn_fcos"), recipe, options, False, lambda *_: None)
    assert [images for images, _ in seen] == [1, 1, 4]
    weights = safetensors.torch.load_file(tmp_path / "weights.safetensors")
    for name, value in weights.items():
        assert torch.equal(value, seen[0][1][name]), name
    last = safetensors.torch.load_file(tmp_path / "last.safetensors")
    assert any(not torch.equal(value, weights[name]) for name, value in last.items())
