"""Training networks with mask heads: batches, what a resumed training ends with, figures, results, pictures."""

import json

import pytest
import torch
import trees
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from experiments import published, recipes, training
from experiments.detection import jobs
from experiments.detection.evaluation import evaluate, results_file
from experiments.detection.loading import batches
from experiments.detection.pictures import drawn
from experiments.detection.training import DetectorTraining
from experiments.masks.networks import NETWORKS
from experiments.masks.recipe import MaskRecipe
from experiments.promotion import JobOptions
from experiments.training import step
from proxy_tasks.average_precision import coco_figures, run_lengths
from proxy_tasks.data import Shapes, open_dataset
from proxy_tasks.masks.efficientdet import NAME
from search_spaces import InputError

SMALL = MaskRecipe(
    **{"min_size": 64, "max_size": 96, "min_size_least": 48, "batch_size": 2, "base_batch_size": 2},
    **{"optimizer": "adamw", "learning_rate": 3e-3, "schedule": "one_cycle", "gradient_norm": 10.0},
    **{"backbone": "tiny", "width": "8", "anchors": 0.25},
)


def network(name="htca_d"):
    torch.manual_seed(0)
    made = NETWORKS.build(published.load(name), SMALL, "none", 4)
    made.rpn.keep(20)
    made.roi_heads.sampler.batch_size_per_image = 16
    return made


def quiet(*_):
    """Progress that nobody sees."""


def test_masks_are_mirrored_with_their_boxes():
    data = Shapes(4, size=64)
    batch = next(batches(data, SMALL, 0, range(1), 0))
    for target in batch[2]:
        for box, mask in zip(target["boxes"].long(), target["masks"], strict=True):
            rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
            assert box.tolist() == [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
    drawn_flips = {
        bool(torch.equal(image, data[index][0].flip(-1)))
        for number in range(6)
        for image in next(batches(data, SMALL, 0, range(number, number + 1), 0))[1]
        for index in range(4)
    }
    assert drawn_flips == {True, False}


@pytest.mark.parametrize("name", ["htca_d", "mask_rcnn"])
def test_a_resumed_training_ends_with_the_same_weights(tmp_path, monkeypatch, name):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    data = Shapes(4, size=64)

    def ended(folder, steps):
        folder.mkdir(exist_ok=True)
        job = DetectorTraining(network(name), data, SMALL, 0, iterations=4)
        if steps is not None:
            job.batches = lambda start: batches(data, SMALL, 0, range(start, steps), 0)
        torch.manual_seed(len(folder.name) + (steps or 0))  # RoIs hang on the step, not on what was drawn before
        training.run(job, folder, quiet)
        return job.trained.state_dict()

    whole = ended(tmp_path / "whole", None)
    ended(tmp_path / "parts", 2)
    for key, value in ended(tmp_path / "parts", None).items():
        assert torch.equal(value, whole[key]), key


def test_it_learns():
    job = DetectorTraining(network(), Shapes(4, size=64), SMALL, 0, iterations=24)
    losses = [float(step(job, number, batch)) for number, batch in enumerate(job.batches(0))]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])


def perfect(data):
    """What is to be found in the images, as a network would say it."""
    for image, target in data:
        wanted = target["iscrowd"] == 0
        found = {"boxes": target["boxes"][wanted], "labels": target["labels"][wanted]}
        found["scores"] = torch.linspace(0.9, 0.5, int(wanted.sum()))
        yield image, found | {"masks": target["masks"][wanted][:, None].float()}


class Finder(torch.nn.Module):
    """Finds what it is told, with masks one pixel too far to the left."""

    def __init__(self, data):
        super().__init__()
        self.found = [found for _, found in perfect(data)]

    def forward(self, images):
        found = dict(self.found.pop(0))
        found["masks"] = found["masks"].roll(-1, dims=-1)
        return [found]


def test_figures_and_results_are_those_of_pycocotools_on_the_files(tmp_path):
    folder = trees.write_coco(tmp_path / "coco", n=2, n_test=5)
    data = open_dataset(folder, "test", masks=True)
    figures, found, image_ids = evaluate(Finder(data), data, torch.device("cpu"), quiet, masks=True)
    theirs = COCO(str(folder / "annotations" / "instances_val2017.json"))
    (tmp_path / "results.json").write_text(json.dumps(results_file(found, image_ids, data.category_ids)))
    for kind, prefix in (("segm", ""), ("bbox", "box_")):
        evaluation = COCOeval(theirs, theirs.loadRes(str(tmp_path / "results.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert figures[f"{prefix}ap"] == pytest.approx(evaluation.stats[0])
        assert figures[f"{prefix}ap75"] == pytest.approx(evaluation.stats[2])
    assert figures["box_ap"] > figures["ap"] > 0


def test_what_is_to_be_found_has_an_average_precision_of_one():
    data = Shapes(6, size=64)
    found = [{**one, "segmentations": run_lengths(one["masks"][:, 0])} for _, one in perfect(data)]
    truth = [{**target, "segmentations": run_lengths(target["masks"])} for _, target in data]
    assert coco_figures(found, truth, 4, masks=True)["ap"] == pytest.approx(1)
    worse = [{**one, "segmentations": run_lengths(torch.zeros(len(one["boxes"]), 64, 64))} for one in found]
    assert coco_figures(worse, truth, 4, masks=True)["ap"] == 0


def test_the_size_of_a_mask_is_not_that_of_its_box():
    """A false alarm along a diagonal has few pixels in a large box: it is a small one."""
    object_, diagonal = torch.zeros(64, 64), torch.eye(64)
    object_[:20, :20] = 1
    boxes = torch.tensor([[0.0, 0, 64, 64], [0, 0, 20, 20]])
    found = {"boxes": boxes, "scores": torch.tensor([0.9, 0.8]), "labels": torch.tensor([0, 0])}
    found["segmentations"] = run_lengths(torch.stack([diagonal, object_]))
    truth = {"boxes": boxes[1:], "labels": torch.tensor([0]), "segmentations": run_lengths(object_[None])}
    truth |= {"iscrowd": torch.tensor([0]), "difficult": torch.tensor([0]), "area": torch.tensor([400.0])}
    figures = coco_figures([found], [truth], 1, masks=True)
    assert (figures["ap"], figures["aps"]) == (pytest.approx(0.5), pytest.approx(0.5))


def test_masks_are_drawn():
    data = Shapes(3, size=64)
    image, found = next(perfect(data))
    found["segmentations"] = run_lengths(found["masks"][:, 0])
    picture, inside = drawn(image, found, data.classes), found["masks"][0, 0] > 0
    assert (picture != image).any(dim=0)[inside].float().mean() > 0.9
    assert torch.equal(drawn(image, {name: value[:0] for name, value in found.items()}, data.classes), image)


def test_a_whole_job_and_its_best_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.detection.evaluation.median_milliseconds", lambda *_, **__: 1.0)
    folder = trees.write_coco(tmp_path / "coco", n=4, n_test=2)
    options = JobOptions(data=str(folder), iterations=2, backbone_weights="none", pictures=1)
    out = tmp_path / "job"
    result = jobs.train_detector(NETWORKS, out, published.load("htc"), SMALL, options, False, quiet)
    assert {"ap", "ap50", "box_ap", "box_apl"} <= set(result["metrics"])
    assert result["cost"]["params"] > 0
    assert len(list((out / "pictures").iterdir())) == 1
    assert isinstance(json.loads((out / "detections.json").read_text()), list)


def test_published_recipes():
    coco, small = recipes.load("coco_htca_1x").settings, recipes.load("masks_small").settings
    assert (coco.learning_rate, coco.iterations, coco.weight_decay) == (0.02, 88000, 1e-4)
    assert (round(12 * coco.first_drop), round(12 * coco.second_drop)) == (8, 11)
    assert (coco.around().backbone, coco.around().width) == (NAME, "256")
    around = small.around(backbone="tiny", width=32, anchors=0.5)
    assert (around.backbone, around.width) == ("tiny", "32")
    assert recipes.load("cityscapes_instances").settings.max_size == 2048
    for changes, sentence in (
        ({"backbone": "vgg99"}, "mask networks have efficientdet_d3 too"),
        ({"width": "64-128"}, "the width of a mask network is a number of channels, got '64-128'"),
        ({"anchors": 0}, "setting 'anchors' must be positive, got 0"),
    ):
        with pytest.raises(InputError, match=sentence):
            recipes.load("masks_small", changes)
