"""The RoIs that mask heads learn from and are scored on, each with its aligned features, computed once.

Notation: R rows of a cache; T stages; K classes; C channels; k the level rules of `search_spaces.masks.choices`.

Detector, neck and semantic branch are frozen, so what a mask stage is given of a RoI is the same for every candidate:
the pyramid's features by either level rule, and the semantic ones.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from proxy_tasks.cache import cache_key
from proxy_tasks.crops import CropRows
from proxy_tasks.masks.cascade import IOU_THRESHOLDS, MASK_SIZE, SEMANTIC, Maps
from proxy_tasks.masks.network import AREA_LEVELS, ROI_LEVELS, MaskNetwork
from proxy_tasks.masks.rois import RoIPool
from proxy_tasks.masks.truth import Truth, assign
from proxy_tasks.rows import CachedRows, Numbers, Site, batched, on_device, stored
from search_spaces.masks.choices import ROI_LEVELS as RULES

__all__ = ["DetectedRoIs", "LearnedRoIs", "Reader", "branch_inputs", "learned"]

TARGET_SIZE = 2 * MASK_SIZE  # height and width of a mask's target
BUILD_BATCH = 4  # crops at a time, of which each may have a thousand proposals
Boxes = Sequence[Tensor]


class Reader:
    """What a frozen network gives of crops.

    Args:
        network: in evaluation mode, on the device.
        rows: the crops.
        device: where the network is.
    """

    def __init__(self, network: MaskNetwork, rows: CropRows, device: torch.device):
        self.network, self.rows, self.device = network, rows, device
        self._pools = {"fpn": RoIPool(ROI_LEVELS, MASK_SIZE), "area": RoIPool(AREA_LEVELS, MASK_SIZE, "area")}
        self._semantic_pool = RoIPool([SEMANTIC], MASK_SIZE)

    def read(self, indices: np.ndarray) -> tuple[Maps, list[Tensor], list[tuple[int, int]]]:
        """The maps of some crops, their proposals and their sizes."""
        images, _ = self.network.transform(list(self.rows.images(indices).to(self.device).float() / 255))
        features = self.network.backbone(images.tensors)
        proposals, _ = self.network.rpn(images, features)
        return self.network.roi_heads.maps(features), proposals, images.image_sizes

    def pooled(self, maps: Maps, boxes: Boxes, sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
        """The features of RoIs by name, as they are stored: (RoIs of all crops, 14, 14, C) float16."""
        found = {rule: self._pools[rule](maps, boxes, sizes) for rule in RULES}
        if "semantic" in maps:
            found["semantic"] = self._semantic_pool({SEMANTIC: maps["semantic"]}, boxes, sizes)
        return {name: stored(name, value) for name, value in found.items()}


class LearnedRoIs(CachedRows):
    """RoIs that answer for an object, one of every stage a row.

    A row has, of one crop, a RoI of each stage t = 1 … T: ``fpn_t``, ``area_t`` and, in a cascade, ``semantic_t``
    (R, 14, 14, C) float16; ``boxes_t`` (R, 4), pixels; ``labels_t`` int64 (R,) from 0; ``targets_t`` (R, 28, 28)
    float16, the object's mask within the RoI, from 0 to 1. ``crops`` (R,) says which crop. Where a crop has fewer RoIs
    of a stage than of another, they come more than once. They are drawn from the stage's boxes and the objects' own.

    Args:
        network: the frozen network, in evaluation mode, on the CPU.
        key: stands for all that it computes.
        rows: the crops, with masks.
        count: rows of a crop, at most.
        seed: draws the RoIs.
        site: where they are kept, and where the network runs.
    """

    def __init__(self, network: MaskNetwork, key: str, rows: CropRows, count: int, seed: int, site: Site):
        self.stages = len(network.roi_heads.boxes)

        def compute() -> Iterator[Mapping[str, Tensor]]:
            with on_device(network, site.device):
                reader = Reader(network, rows, site.device)

                @torch.inference_mode()
                def batch(indices: np.ndarray) -> dict[str, Tensor]:
                    return learned(reader, indices, count, seed)

                yield from batched(len(rows), BUILD_BATCH, batch, site.counted("aligning RoIs"))

        parts = {"network": key, "crops": rows.key, "rois": count, "seed": seed}
        super().__init__(site, "rois", cache_key(what="learned", dtype="float16", **parts), compute)


def learned(reader: Reader, indices: np.ndarray, count: int, seed: int) -> dict[str, Tensor]:
    """The rows of some crops; see `LearnedRoIs`."""
    maps, proposals, sizes = reader.read(indices)
    targets = [reader.rows.target(int(index)) for index in indices]
    truths = [Truth.of({name: value.to(reader.device) for name, value in target.items()}) for target in targets]
    rngs = [np.random.default_rng([seed, int(index)]) for index in indices]
    stages = reader.network.roi_heads.box_stages(maps, proposals, sizes)
    answering = [
        [_answering(boxes, truth, IOU_THRESHOLDS[t]) for boxes, truth in zip(stage.rois, truths, strict=True)]
        for t, stage in enumerate(stages)
    ]
    rows = [min(count, max(len(stage[i][0]) for stage in answering)) for i in range(len(indices))]
    found = {"crops": torch.from_numpy(np.repeat(indices, rows))}
    for t, stage in enumerate(answering, start=1):
        chosen = [_drawn(len(one), n, rng) for (one, _), n, rng in zip(stage, rows, rngs, strict=True)]
        boxes = [one[drawn] for (one, _), drawn in zip(stage, chosen, strict=True)]
        matched = [one[drawn] for (_, one), drawn in zip(stage, chosen, strict=True)]
        of_objects = list(zip(truths, boxes, matched, strict=True))
        found |= {f"{name}_{t}": value for name, value in reader.pooled(maps, boxes, sizes).items()}
        found[f"boxes_{t}"] = torch.cat(boxes)
        found[f"labels_{t}"] = torch.cat([truth.labels[one] - 1 for truth, _, one in of_objects])
        masks = [project_masks_on_boxes(truth.masks, own, one, TARGET_SIZE) for truth, own, one in of_objects]
        found[f"targets_{t}"] = torch.cat(masks).half()
    return found


def _answering(boxes: Tensor, truth: Truth, threshold: float) -> tuple[Tensor, Tensor]:
    """The RoIs that answer for an object, with the objects' own boxes, and which object."""
    boxes = torch.cat([boxes, truth.boxes.to(boxes)])
    labels, matched = assign(boxes, truth, threshold)
    return boxes[labels > 0], matched[labels > 0]


def _drawn(known: int, needed: int, rng: np.random.Generator) -> Tensor:
    """``needed`` of so many numbers, in a random order, as often one as another."""
    return torch.from_numpy(np.resize(rng.permutation(known), needed))


class DetectedRoIs(CachedRows):
    """The detections of some crops, which the last stage's masks are given: ``crops``, ``boxes`` (R, 4) pixels,
    ``labels``, ``scores`` and the features of `LearnedRoIs`, without the number of a stage.

    Args:
        network: as in `LearnedRoIs`.
        key: stands for all that it computes.
        rows: the crops.
        chosen: numbers of those whose detections are wanted.
        site: as in `LearnedRoIs`.
    """

    def __init__(self, network: MaskNetwork, key: str, rows: CropRows, chosen: np.ndarray, site: Site):
        def compute() -> Iterator[Mapping[str, Tensor]]:
            with on_device(network, site.device):
                reader = Reader(network, rows, site.device)

                @torch.inference_mode()
                def batch(numbers: np.ndarray) -> dict[str, Tensor]:
                    return _detected(reader, chosen[numbers])

                yield from batched(len(chosen), BUILD_BATCH, batch, site.counted("detecting on meta-val"))

        parts = {"network": key, "crops": rows.key, "chosen": chosen.tolist()}
        super().__init__(site, "rois", cache_key(what="detected", dtype="float16", **parts), compute)


def _detected(reader: Reader, indices: np.ndarray) -> dict[str, Tensor]:
    maps, proposals, sizes = reader.read(indices)
    found = reader.network.roi_heads.detected_boxes(maps, proposals, sizes)
    boxes = [one["boxes"] for one in found]
    counts = [len(one) for one in boxes]
    values = {name: torch.cat([one[name] for one in found]) for name in ("boxes", "labels", "scores")}
    return {"crops": torch.from_numpy(np.repeat(indices, counts)), **values, **reader.pooled(maps, boxes, sizes)}


def branch_inputs(cache: CachedRows, rule: str, semantic: bool, indices: Numbers, stage: str = "") -> dict[str, Tensor]:
    """What a mask branch takes of some rows: ``pyramid`` and, where asked for, ``semantic``; see `CachedRows.maps`.

    Args:
        cache: of either kind.
        rule: by which RoIs take a level of the pyramid.
        semantic: whether semantic features are wanted.
        indices: the rows.
        stage: ``"_1"`` … of `LearnedRoIs`.
    """
    names = {"pyramid": f"{rule}{stage}"} | ({"semantic": f"semantic{stage}"} if semantic else {})
    maps = cache.maps(names.values(), indices)
    return {name: maps[stored_as] for name, stored_as in names.items()}
