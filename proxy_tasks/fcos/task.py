"""The FCOS proxy task: a decoder's loss, or COCO AP, on meta-val after a short training on cached features."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.average_precision import coco_ap
from proxy_tasks.crops import CropRows, Crops, MirroredBeside
from proxy_tasks.data import DetectionDataset, meta_split, open_dataset
from proxy_tasks.fcos.backbone import finetuned_backbone
from proxy_tasks.fcos.decoders import DecoderSizes
from proxy_tasks.fcos.detector import SCORE_THRESHOLD, detections
from proxy_tasks.fcos.loss import FCOSLossSums, fcos_loss_sums
from proxy_tasks.fcos.preparing import Prepared, Targets, backbone_features, targets_of
from proxy_tasks.fcos.settings import fcos_settings
from proxy_tasks.fcos.targets import Locations
from proxy_tasks.features import CachedFeatures, FeatureCache, FrozenNetwork, Joined
from proxy_tasks.images import padded
from proxy_tasks.precision import reduced
from proxy_tasks.rows import Numbers, Site
from proxy_tasks.task import Interim, Progress, ProxyTask, Score, TaskOptions
from proxy_tasks.training import Schedule, in_parts, mean_loss, scores_along, train_averaged
from proxy_tasks.weights import state_hash
from search_spaces import Architecture, InputError, SearchSpace
from search_spaces.fcos.choices import LEVELS, join

__all__ = ["FCOSTask"]


class _HeadOnly(nn.Module):
    """A head fed with pre-fetched P3..P7 by name."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = self.head(list(features.values()))
        return outputs


class FCOSTask(ProxyTask):
    """Scores FCOS decoders; for ``fcos_head`` the heads alone, on the pre-fetched outputs of one FPN.

    Args:
        space: any FCOS space; its ``build`` gives a decoder with ``fpn`` and ``head``.
        options: see `TaskOptions`.
        previous: the FPN whose outputs heads are searched on; None is the standard FPN.

    Raises:
        InputError: a setting is unknown or out of range.
    """

    def __init__(self, space: SearchSpace, options: TaskOptions, previous: Architecture | None = None):
        self.space, self.options = space, options
        self.settings = fcos_settings(options.preset, options.backbone, options.overrides)
        self.head_only = space.name == "fcos_head"
        fpn_only = {choice.name.partition(".")[0] for choice in space.choices} == {"fpn"}
        self.width = self.settings.fpn_search_width if fpn_only else self.settings.width
        self.fpn = (previous or Architecture.of("fpn_fcos", ())) if self.head_only else None
        self.device = torch.device(options.device)
        self._prepared: Prepared | None = None

    def sizes(self) -> dict[str, Any]:
        """Backbone, and the widths of FPN and head of the decoders that are found, however narrow FPNs are searched."""
        return {"backbone": self.settings.backbone, "width": self.settings.width}

    def kept(self) -> dict[str, nn.Module]:
        """The fine-tuned backbone, so that a search goes on with it wherever the cache is."""
        return {"backbone": self.prepared.body}

    def open_data(self) -> DetectionDataset:
        """The training images; raises `InputError` where the data are bad."""
        return open_dataset(self.options.data, "train", skip_bad_boxes=self.options.skip_bad_boxes)

    def prepare(self, progress: Progress) -> None:
        """Opens, or builds, the crops, the fine-tuned backbone and the feature cache.

        Raises:
            InputError: the data or the weights are bad.
        """
        options, settings, site = self.options, self.settings, self._site(progress)
        dataset = self.open_data()
        meta_train, meta_val = meta_split(dataset, options.seed)
        crops = Crops(dataset, settings.crop, options.seed, site)
        body = finetuned_backbone(crops, meta_train, settings, options, site)
        backbone = state_hash(body)
        rows: CropRows = crops
        if settings.mirrored:
            rows = MirroredBeside(crops, meta_train)
            meta_train = np.concatenate([meta_train, rows.mirrored])
        cache = self._features(rows, body, site)
        prepared = Prepared(dataset.fingerprint, crops, rows, meta_train, meta_val, body, backbone, cache)
        if self.fpn is not None:
            prepared = replace(prepared, cache=self._prefetched(self.fpn, prepared, site))
        self._prepared = prepared
        if not (prepared.cache["labels"][meta_val] >= 0).any():  # in the memory map: nothing goes to the device yet
            data = options.data or "the built-in data"
            raise InputError(
                f"{data}: no box of meta-val reaches a location at crop {settings.crop}, so nothing "
                "can be scored; use larger crops (--set crop=...), another --seed or more data"
            )

    @property
    def prepared(self) -> Prepared:
        """What `prepare` left."""
        assert self._prepared is not None, "prepare comes first"
        return self._prepared

    def release(self) -> None:
        """See `ProxyTask`: the features, which are all that stays on the device."""
        self.prepared.cache.release()

    def fingerprints(self) -> dict[str, str]:
        """Data, backbone and feature cache."""
        prepared = self.prepared
        return {"data": prepared.data, "backbone": prepared.backbone, "features": prepared.cache.key}

    def evaluate(self, architecture: Architecture, seed: int | None = None) -> Iterator[Interim | Score]:
        """Trains the decoder on meta-train and scores its Polyak average on meta-val, halfway and at the end.

        The metrics are ``loss`` and its terms, ``params`` and ``macs`` of the decoder at the crop's size, and with
        ``reward="metric"`` or ``all_metrics`` COCO ``ap``, ``ap50``, ``ap75``.

        Args:
            architecture: an architecture of any FCOS space (of ``fcos_head`` where heads alone are searched).
            seed: draws the initial weights and the batches; None is the search's, the same for every architecture.
        """
        prepared, cache = self.prepared, self._cache_of(architecture)
        yield from scores_along(
            self.training(architecture, self.options.seed if seed is None else seed, cache),
            self.settings.iterations,
            self.options,
            lambda model: self.losses(model, cache, prepared.meta_val),
            lambda model: self.average_precision(model, prepared.crops, cache, prepared.meta_val),
            self.complexity(architecture),
        )

    def takes(self, architecture: Architecture) -> bool:
        """Any FCOS architecture; where heads are searched only those whose head says all: see `ProxyTask`."""
        if architecture.space.name == "fpn_retinanet":
            return False  # another loss
        return not self.head_only or architecture.space.name in (self.space.name, "fpn_fcos")

    def complexity(self, architecture: Architecture) -> dict[str, float]:
        """``params`` and ``macs`` of the whole decoder for one crop, the FPN's included where heads are searched.

        Widths are those of `sizes`: what a network costs does not hang on how narrow it is while it is searched.
        """
        counted = self._sizes_found().complexity(self._whole(architecture))
        return {"params": float(counted.params), "macs": float(counted.macs)}

    def forward_pass(self, architecture: Architecture) -> Callable[[], object]:
        """See `ProxyTask`: backbone, FPN and head on one crop; no decoding of boxes, whose time depends on training."""
        decoder = self._sizes_found().build(self._whole(architecture), self.options.seed)
        network = nn.Sequential(deepcopy(self.prepared.body), decoder).eval().to(self.device)
        network.to(memory_format=torch.channels_last)
        side = padded(self.settings.crop)
        crop = torch.zeros(1, 3, side, side, device=self.device).to(memory_format=torch.channels_last)
        return torch.inference_mode()(partial(network, crop))

    def _whole(self, architecture: Architecture) -> Architecture:
        """The decoder; of a head that is searched for an FPN that was found, both."""
        return join(self.fpn, architecture) if self.fpn is not None and len(self.fpn.space) else architecture

    def training(
        self, architecture: Architecture, seed: int, cache: CachedFeatures | None = None
    ) -> Iterator[tuple[int, nn.Module]]:
        """Trains a decoder on meta-train; yields the step and the Polyak average, halfway and at the end.

        The average is in evaluation mode; where heads alone are searched it takes P3..P7.

        Args:
            architecture: as in `evaluate`.
            seed: draws the initial weights and the batches.
            cache: the cache of features and targets to train on; None is the task's own.
        """
        decoder = self._sizes(self.prepared.crops).build(architecture, seed)
        model: nn.Module = _HeadOnly(decoder.get_submodule("head")) if self.head_only else decoder
        cache = self._cache_of(architecture) if cache is None else cache
        return self._training(model, seed, self.prepared.meta_train, cache)

    def train(self, architecture: Architecture, seed: int, cache: CachedFeatures | None = None) -> nn.Module:
        """What `training` ends with."""
        *_, (_, model) = self.training(architecture, seed, cache)
        return model

    def losses(self, model: nn.Module, cache: CachedFeatures, indices: np.ndarray) -> dict[str, float]:
        """``loss`` and its terms on some crops, of a model that maps the cache's features to head outputs."""
        return mean_loss(self._loss_sums(model.eval(), cache), indices, self.settings.batch_size)

    @torch.inference_mode()
    def average_precision(
        self,
        model: nn.Module,
        crops: Crops,
        cache: CachedFeatures,
        indices: np.ndarray,
        threshold: float = SCORE_THRESHOLD,
    ) -> dict[str, float]:
        """COCO AP on some crops, of a model that maps the cache's features to head outputs; see `detections`."""
        found: list[dict[str, Tensor]] = []
        for part in in_parts(indices, self.settings.batch_size):
            with reduced(self.device):
                outputs = model(cache.features(part))
            found += detections(outputs, self.settings.crop, threshold)
        return coco_ap(found, [crops.target(int(i)) for i in indices], len(crops.classes))

    def held_out(self, progress: Progress) -> tuple[Crops, CachedFeatures]:
        """Crops and backbone features of the data's test subset, which no search sees."""
        options, prepared, site = self.options, self.prepared, self._site(progress)
        dataset = open_dataset(options.data, "test", skip_bad_boxes=options.skip_bad_boxes)
        crops = Crops(dataset, self.settings.crop, options.seed, site, "cropping the test images")
        return crops, self._features(crops, prepared.body, site)

    @cached_property
    def locations(self) -> Locations:
        """Where the pyramid looks, on the device."""
        return self.settings.locations(self.device)

    def _site(self, progress: Progress) -> Site:
        return Site(self.options.cache_root, self.device, progress)

    def _sizes(self, crops: Crops) -> DecoderSizes:
        return DecoderSizes(self.settings.backbone, len(crops.classes), self.width, self.settings.crop)

    def _sizes_found(self) -> DecoderSizes:
        """Those of the decoder that is found."""
        return replace(self._sizes(self.prepared.crops), width=self.settings.width)

    def _training(
        self, model: nn.Module, seed: int, meta_train: np.ndarray, cache: CachedFeatures
    ) -> Iterator[tuple[int, nn.Module]]:
        settings, model = self.settings, model.to(self.device).to(memory_format=torch.channels_last)
        sums = self._loss_sums(model, cache)
        schedule = Schedule(settings.batch_size, settings.iterations, settings.learning_rate, seed)
        return train_averaged(model, meta_train, schedule, settings.polyak_decay, lambda batch: sums(batch).total())

    def _loss_sums(self, model: nn.Module, cache: CachedFeatures) -> Callable[[Numbers], FCOSLossSums]:
        """The summed losses of a batch of crops."""

        def sums(batch: Numbers) -> FCOSLossSums:
            with reduced(self.device):
                outputs = model(cache.features(batch))
            return fcos_loss_sums(outputs, targets_of(cache, batch), self.locations.sizes, self.settings.regression)

        return sums

    def _cache_of(self, architecture: Architecture) -> CachedFeatures:
        """The task's own, with C2 where this architecture takes it, though the searched space does not."""
        cache = self.prepared.cache
        missing = takes_c2(architecture.space) and "C2" not in cache.names
        return self._with_c2 if missing and not self.head_only else cache

    @cached_property
    def _with_c2(self) -> CachedFeatures:
        own, site = self.prepared.cache, self._site(lambda what, done, total: None)
        return Joined(own, backbone_features(("C2",), self.prepared.rows, self.prepared.body, site))

    def _features(self, rows: CropRows, body: nn.Module, site: Site) -> CachedFeatures:
        """C3..C5 with targets, and C2, which is larger than all of them, only where a choice of the space names it."""
        features = backbone_features(("C3", "C4", "C5"), rows, body, site, self._targets(rows))
        if not takes_c2(self.space if self.fpn is None else self.fpn.space):
            return features
        return Joined(features, backbone_features(("C2",), rows, body, site))

    def _targets(self, rows: CropRows) -> Targets:
        return Targets(rows, self.locations, self.settings.interest)

    def _prefetched(self, architecture: Architecture, prepared: Prepared, site: Site) -> FeatureCache:
        """P3..P7 of an FPN trained, with the standard head, as a trial trains it."""
        settings, seed, trained = self.settings, self.options.seed, site.counted("training the FPN")

        def pyramid() -> nn.Module:
            trained(0, 1)
            decoder = self._sizes(prepared.crops).build(architecture, seed)
            for _, average in self._training(decoder, seed, prepared.meta_train, prepared.cache):
                fpn = average.get_submodule("fpn")
            prepared.cache.release()
            trained(1, 1)
            return nn.Sequential(prepared.body, fpn)

        parts = {"backbone": prepared.backbone, "fpn": architecture.key, "split": str(seed)}
        training = ("batch_size", "iterations", "learning_rate", "polyak_decay", "width", "regression")
        parts |= {name: str(getattr(settings, name)) for name in training}
        network, targets = FrozenNetwork(pyramid, LEVELS, parts), self._targets(prepared.rows)
        return FeatureCache(prepared.rows, network, targets, site, "pre-fetching the FPN's outputs")


def takes_c2(space: SearchSpace) -> bool:
    """Whether a choice of the space may be the backbone's map C2."""
    return any("C2" in choice.options for choice in space.choices)
