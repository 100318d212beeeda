"""The FCOS proxy task: a decoder's loss, or COCO AP, on meta-val after a short training on cached features."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.backbones import state_hash
from proxy_tasks.crops import Crops
from proxy_tasks.data import DetectionDataset, open_dataset
from proxy_tasks.fcos.average_precision import coco_ap
from proxy_tasks.fcos.backbone import finetuned_backbone
from proxy_tasks.fcos.decoders import DecoderSizes
from proxy_tasks.fcos.detector import detections
from proxy_tasks.fcos.loss import FCOSLossSums, fcos_loss_sums
from proxy_tasks.fcos.preparing import Prepared, Targets, split, targets_of
from proxy_tasks.fcos.settings import fcos_settings
from proxy_tasks.fcos.targets import Locations
from proxy_tasks.features import FeatureCache, FrozenNetwork
from proxy_tasks.images import padded
from proxy_tasks.rows import Site
from proxy_tasks.task import Interim, Progress, ProxyTask, Score, TaskOptions
from proxy_tasks.training import Schedule, in_parts, mean_loss, train_averaged
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
        self.fpn = (previous or Architecture.of("fpn_fcos", ())) if self.head_only else None
        self.device = torch.device(options.device)
        self._prepared: Prepared | None = None

    def sizes(self) -> dict[str, Any]:
        """Backbone, and the widths of FPN and head."""
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
        meta_train, meta_val = split(dataset, options.seed)
        crops = Crops(dataset, settings.crop, options.seed, site)
        body = finetuned_backbone(crops, meta_train, settings, options, site)
        backbone = state_hash(body)
        cache = self._features(crops, body, backbone, site)
        prepared = Prepared(dataset.fingerprint, crops, meta_train, meta_val, body, backbone, cache)
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
        """Trains the decoder on meta-train and scores its Polyak average on meta-val.

        The metrics are ``loss`` and its terms, ``params`` and ``macs`` of the decoder at the crop's size, and with
        ``reward="metric"`` COCO ``ap``, ``ap50``, ``ap75``.

        Args:
            architecture: an architecture of any FCOS space (of ``fcos_head`` where heads alone are searched).
            seed: draws the initial weights and the batches; None is the search's, the same for every architecture.
        """
        prepared = self.prepared
        complexity = self.complexity(architecture)
        model = self.train(architecture, self.options.seed if seed is None else seed)
        metrics = self.losses(model, prepared.cache, prepared.meta_val)
        reward = -metrics["loss"]
        if self.options.reward == "metric":
            metrics |= self.average_precision(model, prepared.crops, prepared.cache, prepared.meta_val)
            reward = metrics["ap"]
        yield Score(reward, metrics | complexity)

    def complexity(self, architecture: Architecture) -> dict[str, float]:
        """``params`` and ``macs`` of the whole decoder for one crop, the FPN's included where heads are searched."""
        counted = self._sizes(self.prepared).complexity(self._whole(architecture))
        return {"params": float(counted.params), "macs": float(counted.macs)}

    def forward_pass(self, architecture: Architecture) -> Callable[[], object]:
        """See `ProxyTask`: backbone, FPN and head on one crop; no decoding of boxes, whose time depends on training."""
        decoder = self._sizes(self.prepared).build(self._whole(architecture), self.options.seed)
        network = nn.Sequential(deepcopy(self.prepared.body), decoder).eval().to(self.device)
        network.to(memory_format=torch.channels_last)
        side = padded(self.settings.crop)
        crop = torch.zeros(1, 3, side, side, device=self.device).to(memory_format=torch.channels_last)
        return torch.inference_mode()(partial(network, crop))

    def _whole(self, architecture: Architecture) -> Architecture:
        """The decoder; of a head that is searched for an FPN that was found, both."""
        return join(self.fpn, architecture) if self.fpn is not None and len(self.fpn.space) else architecture

    def train(self, architecture: Architecture, seed: int, cache: FeatureCache | None = None) -> nn.Module:
        """The Polyak average of a decoder trained on meta-train, in evaluation mode; heads alone take P3..P7.

        Args:
            architecture: as in `evaluate`.
            seed: draws the initial weights and the batches.
            cache: the cache of features and targets to train on; None is the task's own.
        """
        prepared = self.prepared if cache is None else replace(self.prepared, cache=cache)
        decoder = self._sizes(prepared).build(architecture, seed)
        model: nn.Module = _HeadOnly(decoder.get_submodule("head")) if self.head_only else decoder
        return self._trained(model, seed, prepared)

    def losses(self, model: nn.Module, cache: FeatureCache, indices: np.ndarray) -> dict[str, float]:
        """``loss`` and its terms on some crops, of a model that maps the cache's features to head outputs."""
        return mean_loss(self._loss_sums(model.eval(), cache), indices, self.settings.batch_size)

    @torch.inference_mode()
    def average_precision(
        self, model: nn.Module, crops: Crops, cache: FeatureCache, indices: np.ndarray
    ) -> dict[str, float]:
        """COCO AP on some crops, of a model that maps the cache's features to head outputs."""
        found: list[dict[str, Tensor]] = []
        for part in in_parts(indices, self.settings.batch_size):
            found += detections(model(cache.features(part)), self.settings.crop)
        return coco_ap(found, [crops.target(int(i)) for i in indices], len(crops.classes))

    def held_out(self, progress: Progress) -> tuple[Crops, FeatureCache]:
        """Crops and backbone features of the data's test subset, which no search sees."""
        options, prepared, site = self.options, self.prepared, self._site(progress)
        dataset = open_dataset(options.data, "test", skip_bad_boxes=options.skip_bad_boxes)
        crops = Crops(dataset, self.settings.crop, options.seed, site, "cropping the test images")
        return crops, self._features(crops, prepared.body, prepared.backbone, site)

    @cached_property
    def locations(self) -> Locations:
        """Where the pyramid looks, on the device."""
        return self.settings.locations(self.device)

    def _site(self, progress: Progress) -> Site:
        return Site(self.options.cache_root, self.device, progress)

    def _sizes(self, prepared: Prepared) -> DecoderSizes:
        settings = self.settings
        return DecoderSizes(settings.backbone, len(prepared.crops.classes), settings.width, settings.crop)

    def _trained(self, model: nn.Module, seed: int, prepared: Prepared) -> nn.Module:
        settings, model = self.settings, model.to(self.device).to(memory_format=torch.channels_last)
        sums = self._loss_sums(model, prepared.cache)
        schedule = Schedule(settings.batch_size, settings.iterations, settings.learning_rate, seed)
        return train_averaged(
            model, prepared.meta_train, schedule, settings.polyak_decay, lambda batch: sums(batch).total()
        )

    def _loss_sums(self, model: nn.Module, cache: FeatureCache) -> Callable[[np.ndarray], FCOSLossSums]:
        """The summed losses of a batch of crops."""
        return lambda batch: fcos_loss_sums(
            model(cache.features(batch)), targets_of(cache, batch), self.locations.sizes
        )

    def _features(self, crops: Crops, body: nn.Module, backbone: str, site: Site) -> FeatureCache:
        """C3..C5, and C2, which is larger than all of them, only where a choice of the space names it."""
        choices = self.space.choices if self.fpn is None else self.fpn.space.choices
        maps = ("C2",) * any("C2" in choice.options for choice in choices) + ("C3", "C4", "C5")
        network = FrozenNetwork(lambda: body, maps, {"backbone": backbone})
        return FeatureCache(crops, network, Targets(crops, self.locations), site)

    def _prefetched(self, architecture: Architecture, prepared: Prepared, site: Site) -> FeatureCache:
        """P3..P7 of an FPN trained, with the standard head, as a trial trains it."""
        settings, seed, trained = self.settings, self.options.seed, site.counted("training the FPN")

        def pyramid() -> nn.Module:
            trained(0, 1)
            decoder = self._trained(self._sizes(prepared).build(architecture, seed), seed, prepared)
            prepared.cache.release()
            trained(1, 1)
            return nn.Sequential(prepared.body, decoder.get_submodule("fpn"))

        parts = {"backbone": prepared.backbone, "fpn": architecture.key, "split": str(seed)}
        training = ("batch_size", "iterations", "learning_rate", "polyak_decay", "width")
        parts |= {name: str(getattr(settings, name)) for name in training}
        network, targets = FrozenNetwork(pyramid, LEVELS, parts), Targets(prepared.crops, self.locations)
        return FeatureCache(prepared.crops, network, targets, site, "pre-fetching the FPN's outputs")
