"""The mask proxy task: a mask branch's loss, or COCO mask AP, on meta-val after a short training on cached RoIs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from proxy_tasks.average_precision import FIGURES, MASK_THRESHOLD, coco_figures, run_lengths
from proxy_tasks.crops import CropRows, Crops, MirroredBeside
from proxy_tasks.data import DetectionDataset, meta_split, open_dataset
from proxy_tasks.masks import efficientdet
from proxy_tasks.masks.cached_rois import DetectedRoIs, LearnedRoIs, branch_inputs
from proxy_tasks.masks.cascade import MASK_SIZE
from proxy_tasks.masks.costs import BOX_ROIS, MASK_ROIS, Layers
from proxy_tasks.masks.frozen import frozen_network, identity, mask_network
from proxy_tasks.masks.loss import MaskLossSums, mask_loss_sum
from proxy_tasks.masks.network import MaskNetwork
from proxy_tasks.masks.settings import mask_settings
from proxy_tasks.precision import reduced
from proxy_tasks.rows import Numbers, Site
from proxy_tasks.task import Interim, Progress, ProxyTask, Score, TaskOptions
from proxy_tasks.training import Schedule, in_parts, mean_loss, scores_along, train_averaged
from search_spaces import Architecture, InputError, SearchSpace
from search_spaces.masks.choices import stages_of
from search_spaces.masks.head import MaskBranch
from search_spaces.parts.complexity import count

__all__ = ["MaskTask", "Prepared"]


@dataclass(frozen=True)
class Prepared:
    """All that trials read; none of it lies on the device until rows of a cache are asked for.

    Args:
        data: the dataset's fingerprint.
        crops: the images, with masks.
        rows: those crops and, behind them, the mirror images that are learned too.
        network: the frozen network, on the CPU.
        weights: hex digits that stand for all that it computes.
        learned: the cached RoIs of all ``rows``.
        detected: the cached detections on meta-val.
        meta_train: int64, the rows of ``learned`` that candidates learn from.
        meta_val: those that they are scored on.
        meta_val_crops: the numbers of meta-val's crops.
    """

    data: str
    crops: Crops
    rows: CropRows
    network: MaskNetwork
    weights: str
    learned: LearnedRoIs
    detected: DetectedRoIs
    meta_train: np.ndarray
    meta_val: np.ndarray
    meta_val_crops: np.ndarray


class MaskTask(ProxyTask):
    """Scores mask branches around which detector, neck and semantic branch are frozen.

    Args:
        space: a space of mask heads; its ``build`` gives a `MaskBranch`.
        options: see `TaskOptions`.
        previous: unused; searches of mask heads have one stage.

    Raises:
        InputError: a setting is unknown or out of range, or the backbone is a detector of its own.
    """

    def __init__(self, space: SearchSpace, options: TaskOptions, previous: Architecture | None = None):
        self.space, self.options = space, options
        self.settings = mask_settings(options.preset, options.backbone, options.overrides)
        if stages_of(space) == 1 and self.settings.backbone == efficientdet.NAME:
            raise InputError(
                f"heads of one stage are searched in Mask R-CNN's network, but {efficientdet.NAME} is a detector of "
                "its own; give another --backbone"
            )
        self.device = torch.device(options.device)
        self._prepared: Prepared | None = None

    def sizes(self) -> dict[str, Any]:
        """Backbone, width and anchors of the whole network."""
        settings = self.settings
        return {"backbone": settings.backbone, "width": settings.width, "anchors": settings.anchors}

    def kept(self) -> dict[str, nn.Module]:
        """The frozen network, so that a search goes on with it wherever the cache is."""
        return {"network": self.prepared.network}

    def open_data(self) -> DetectionDataset:
        """The training images with their masks; raises `InputError` where the data are bad or have none."""
        return open_dataset(self.options.data, "train", skip_bad_boxes=self.options.skip_bad_boxes, masks=True)

    def prepare(self, progress: Progress) -> None:
        """Opens, or builds, the crops, the frozen network and the cached RoIs.

        Raises:
            InputError: the data or the weights are bad.
        """
        options, settings = self.options, self.settings
        site = Site(options.cache_root, self.device, progress)
        dataset = self.open_data()
        meta_train, meta_val = meta_split(dataset, options.seed)
        crops = Crops(dataset, settings.crop, options.seed, site, masks=True)
        network = frozen_network(self.space, crops, meta_train, settings, options, site)
        weights = identity(network, settings)
        rows: CropRows = crops
        if settings.mirrored:
            rows = MirroredBeside(crops, meta_train)
            meta_train = np.concatenate([meta_train, rows.mirrored])
        learned = LearnedRoIs(network, weights, rows, settings.rois, options.seed, site)
        detected = DetectedRoIs(network, weights, crops, meta_val, site)
        sides = [np.flatnonzero(np.isin(learned["crops"], one)) for one in (meta_train, meta_val)]
        for name, side in zip(("meta-train", "meta-val"), sides, strict=True):
            if not len(side):
                data = options.data or "the built-in data"
                raise InputError(
                    f"{data}: no crop of {name} has an object, so nothing can be learned or scored; "
                    "use larger crops (--set crop=...), another --seed or more data"
                )
        if options.reward == "metric" and not len(detected["crops"]):
            raise InputError(
                "the frozen network finds no object on meta-val, so average precision tells no heads apart; train it "
                "longer (--set pretrain_iterations=...), or search by --reward loss"
            )
        self._prepared = Prepared(
            dataset.fingerprint, crops, rows, network, weights, learned, detected, sides[0], sides[1], meta_val
        )

    @property
    def prepared(self) -> Prepared:
        """What `prepare` left."""
        assert self._prepared is not None, "prepare comes first"
        return self._prepared

    def release(self) -> None:
        """See `ProxyTask`: the cached RoIs, which are all that stays on the device."""
        self.prepared.learned.release()
        self.prepared.detected.release()

    def fingerprints(self) -> dict[str, str]:
        """Data, frozen network and the caches of RoIs."""
        prepared = self.prepared
        caches = {"rois": prepared.learned.key, "detections": prepared.detected.key}
        return {"data": prepared.data, "network": prepared.weights, **caches}

    def evaluate(self, architecture: Architecture, seed: int | None = None) -> Iterator[Interim | Score]:
        """Trains the branch on meta-train and scores its Polyak average on meta-val, halfway and at the end.

        The metrics are ``loss`` and its terms, ``params`` and ``macs`` of the branch on 100 RoIs, and with
        ``reward="metric"`` or ``all_metrics`` COCO's figures of masks, ``ap`` first.

        Args:
            architecture: a head of as many stages as the task's space has.
            seed: draws the initial weights and the batches; None is the search's, the same for every architecture.
        """
        yield from scores_along(
            self.training(architecture, self.options.seed if seed is None else seed),
            self.settings.iterations,
            self.options,
            lambda branch: self.losses(branch, self.prepared.meta_val),
            self.average_precision,
            self.complexity(architecture),
        )

    def takes(self, architecture: Architecture) -> bool:
        """Heads of as many stages as those that are searched: see `ProxyTask`."""
        return stages_of(architecture.space) == stages_of(self.space)

    def training(self, architecture: Architecture, seed: int) -> Iterator[tuple[int, MaskBranch]]:
        """Trains a branch on meta-train; yields the step and the Polyak average, halfway and at the end."""
        settings = self.settings
        branch = self.build(architecture, seed).to(self.device).to(memory_format=torch.channels_last)
        schedule = Schedule(settings.batch_size, settings.iterations, settings.learning_rate, seed)
        averages = train_averaged(
            branch,
            self.prepared.meta_train,
            schedule,
            settings.polyak_decay,
            lambda batch: self.loss_sums(branch, batch).total(),
        )
        for step, average in averages:
            assert isinstance(average, MaskBranch)
            yield step, average

    def build(self, architecture: Architecture, seed: int) -> MaskBranch:
        """The branch with initial weights drawn from ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._branch(architecture)

    def loss_sums(self, branch: MaskBranch, rows: Numbers) -> MaskLossSums:
        """The summed losses of a branch on some rows of the cached RoIs."""
        with reduced(self.device):
            return self._loss_sums(branch, rows)

    def _loss_sums(self, branch: MaskBranch, rows: Numbers) -> MaskLossSums:
        learned, sums = self.prepared.learned, []
        for t in range(learned.stages):
            suffix = f"_{t + 1}"
            rois = branch_inputs(learned, branch.levels, branch.uses_semantic, rows, suffix)
            logits = branch.masks(t, rois["pyramid"], rois.get("semantic")).float()
            targets = learned.rows(f"targets{suffix}", rows).float()
            sums.append(mask_loss_sum(logits, learned.rows(f"labels{suffix}", rows), targets))
        return MaskLossSums(tuple(sums), targets.numel())

    def losses(self, branch: MaskBranch, rows: np.ndarray) -> dict[str, float]:
        """``loss`` and its terms on some rows of the cached RoIs."""
        return mean_loss(partial(self.loss_sums, branch.eval()), rows, self.settings.batch_size)

    @torch.inference_mode()
    def average_precision(self, branch: MaskBranch) -> dict[str, float]:
        """COCO's figures of the masks that the last stage gives the frozen detector's boxes on meta-val."""
        prepared, side = self.prepared, self.settings.crop
        detected, last = prepared.detected, len(branch.stages) - 1
        masks = [torch.zeros(0, 1, 2 * MASK_SIZE, 2 * MASK_SIZE)]
        for part in in_parts(np.arange(len(detected["crops"])), self.settings.batch_size):
            with reduced(self.device):
                rois = branch_inputs(detected, branch.levels, branch.uses_semantic, part)
                probabilities = branch.masks(last, rois["pyramid"], rois.get("semantic")).float().sigmoid()
            labels = detected.rows("labels", part)
            masks.append(probabilities[torch.arange(len(part), device=labels.device), labels][:, None].cpu())
        every, found = torch.cat(masks), []
        for crop in prepared.meta_val_crops:
            own = np.flatnonzero(detected["crops"] == crop)
            boxes, labels, scores = (torch.from_numpy(detected[name][own]) for name in ("boxes", "labels", "scores"))
            pasted = paste_masks_in_image(every[own], boxes, (side, side))[:, 0] > MASK_THRESHOLD
            found.append({"boxes": boxes, "labels": labels, "scores": scores, "segmentations": run_lengths(pasted)})
        figures = coco_figures(found, self._truth, len(prepared.crops.classes), masks=True)
        return {name: figures[name] for name in FIGURES[:3]}

    @cached_property
    def _truth(self) -> list[dict[str, Any]]:
        """What is to be found on meta-val, its masks as run lengths."""
        targets = (self.prepared.crops.target(int(crop)) for crop in self.prepared.meta_val_crops)
        return [{**target, "segmentations": run_lengths(target["masks"])} for target in targets]

    def complexity(self, architecture: Architecture) -> dict[str, float]:
        """``params`` and ``macs`` of the branch, each stage run once on 100 RoIs, counted without computing."""
        width = self.settings.width
        with torch.device("meta"):
            rois = torch.empty(MASK_ROIS, width, MASK_SIZE, MASK_SIZE)
            counted = count(self._branch(architecture), {"pyramid": rois, "semantic": rois})
        return {"params": float(counted.params), "macs": float(counted.macs)}

    def forward_pass(self, architecture: Architecture) -> Callable[[], object]:
        """See `ProxyTask`: all layers on one crop, with 1000 RoIs a box stage and 100 a mask stage.

        What chooses RoIs is left out: its time depends on training.
        """
        with torch.random.fork_rng(devices=[]):
            network = mask_network(architecture, self.settings, len(self.prepared.crops.classes))
        layers = Layers(network, BOX_ROIS, MASK_ROIS).eval().to(self.device).to(memory_format=torch.channels_last)
        crop = torch.zeros(1, 3, self.settings.crop, self.settings.crop, device=self.device)
        return torch.inference_mode()(partial(layers, crop.to(memory_format=torch.channels_last)))

    def _branch(self, architecture: Architecture) -> MaskBranch:
        classes, width = len(self.prepared.crops.classes), self.settings.width
        branch = architecture.build(in_channels=width, num_classes=classes, width=width)
        assert isinstance(branch, MaskBranch)
        return branch
