"""The FCOS proxy task: a decoder's loss, or COCO AP, on meta-val after a short training on cached features."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.backbones import BACKBONES, make_backbone, state_hash
from proxy_tasks.cache import cache_key
from proxy_tasks.data import DetectionDataset, open_dataset
from proxy_tasks.fcos.average_precision import coco_ap
from proxy_tasks.fcos.crops import Crops
from proxy_tasks.fcos.detector import detections, parse_width
from proxy_tasks.fcos.features import FeatureCache
from proxy_tasks.fcos.settings import fcos_settings
from proxy_tasks.fcos.targets import Locations
from proxy_tasks.fcos.training import finetune_backbone, mean_loss, train_decoder
from proxy_tasks.task import Interim, Progress, ProxyTask, Score, TaskOptions
from proxy_tasks.weights import trained_once
from search_spaces import Architecture, InputError, SearchSpace
from search_spaces.fcos.choices import LEVELS, join
from search_spaces.parts.complexity import count

__all__ = ["FCOSTask"]

META_TRAIN_SHARE = 4000 / 5715  # thesis 7.4.1
FULL_SHORT_SIDE = 800  # the short side that the published sizes of interest are for


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

    def sizes(self) -> dict[str, Any]:
        """Backbone, and the widths of FPN and head."""
        return {"backbone": self.settings.backbone, "width": self.settings.width}

    def open_data(self) -> DetectionDataset:
        """The training images; raises `InputError` where the data are bad."""
        return open_dataset(self.options.data, "train", skip_bad_boxes=self.options.skip_bad_boxes)

    def prepare(self, progress: Progress) -> None:
        """Opens, or builds, the crops, the fine-tuned backbone and the feature cache.

        Raises:
            InputError: the data or the weights are bad.
        """
        options, settings = self.options, self.settings
        dataset = self.open_data()
        self.data_fingerprint, self.classes = dataset.fingerprint, dataset.classes
        self.crops = Crops(
            dataset, settings.crop, options.seed, options.cache_root, lambda *n: progress("cropping the images", *n)
        )
        if len(dataset) < 2:
            raise InputError(f"{dataset.root}: meta-train and meta-val need at least 2 images, the train set has 1")
        self.meta_train, self.meta_val = split(len(dataset), options.seed)
        self.locations = Locations.of(settings.crop, settings.crop / FULL_SHORT_SIDE, self.device)
        self._body = self._finetuned(progress)
        self.backbone_hash = state_hash(self._body)
        self.cache = self._backbone_features(self.crops, self._maps(), progress)
        if self.fpn is not None:
            self.cache = self._prefetched(self.fpn, progress)
        if not (self.cache.targets(self.meta_val).labels >= 0).any():
            data = options.data or "the built-in data"
            raise InputError(
                f"{data}: no box of meta-val reaches a location at crop {settings.crop}, so nothing "
                "can be scored; use larger crops (--set crop=...), another --seed or more data"
            )

    def fingerprints(self) -> dict[str, str]:
        """Data, backbone and feature cache."""
        return {"data": self.data_fingerprint, "backbone": self.backbone_hash, "features": self.cache.key}

    def evaluate(self, architecture: Architecture, seed: int | None = None) -> Iterator[Interim | Score]:
        """Trains the decoder on meta-train and scores its Polyak average on meta-val.

        The metrics are ``loss`` and its terms, ``params`` and ``macs`` of the decoder at the crop's size, and with
        ``reward="metric"`` COCO ``ap``, ``ap50``, ``ap75``.

        Args:
            architecture: of any FCOS space (of ``fcos_head`` where heads alone are searched).
            seed: of the initial weights and the batches; None is the search's, the same for every architecture.
        """
        seed = self.options.seed if seed is None else seed
        parameters, macs = self._complexity(architecture)
        model = self.train(architecture, seed)
        metrics = mean_loss(model, self.cache, self.meta_val, self.locations, self.settings.batch_size)
        reward = -metrics["loss"]
        if self.options.reward == "metric":
            metrics |= self.average_precision(model, self.crops, self.cache, self.meta_val)
            reward = metrics["ap"]
        metrics |= {"params": parameters, "macs": macs}
        yield Score(reward, metrics)

    def train(self, architecture: Architecture, seed: int) -> nn.Module:
        """The Polyak average of a decoder trained on meta-train, in evaluation mode; heads alone take P3..P7."""
        decoder = self.build(architecture, seed)
        model: nn.Module = _HeadOnly(decoder.get_submodule("head")) if self.head_only else decoder
        return train_decoder(model, self.cache, self.meta_train, self.locations, self.settings, seed)

    def build(self, architecture: Architecture, seed: int) -> nn.Module:
        """The decoder with initial weights drawn from ``seed``, on the device, channels last."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder: nn.Module = architecture.build(**self._sizes())
        return self._placed(decoder)

    @torch.inference_mode()
    def average_precision(
        self, model: nn.Module, crops: Crops, cache: FeatureCache, indices: np.ndarray
    ) -> dict[str, float]:
        """COCO AP of a model that maps the cache's features to head outputs, on these crops."""
        found: list[dict[str, Tensor]] = []
        for features, _ in cache.batches(indices, self.settings.batch_size):
            found += detections(model(features), self.settings.crop)
        return coco_ap(found, [crops.target(int(i)) for i in indices], len(self.classes))

    def held_out(self, progress: Progress) -> tuple[Crops, FeatureCache]:
        """Crops and features of the data's test subset, which no search sees; call after `prepare`."""
        options = self.options
        dataset = open_dataset(options.data, "test", skip_bad_boxes=options.skip_bad_boxes)
        crops = Crops(
            dataset,
            self.settings.crop,
            options.seed,
            options.cache_root,
            lambda *n: progress("cropping the test images", *n),
        )
        return crops, self._backbone_features(crops, self._maps(), progress)

    def _placed(self, module: nn.Module) -> nn.Module:
        return module.to(self.device).to(memory_format=torch.channels_last)

    def _sizes(self) -> dict[str, object]:
        fpn_width, head_width = parse_width(self.settings.width)
        channels = BACKBONES[self.settings.backbone]
        return {
            "in_channels": channels,
            "num_classes": len(self.classes),
            "fpn_width": fpn_width,
            "head_width": head_width,
        }

    def _complexity(self, architecture: Architecture) -> tuple[float, float]:
        """Parameters and MACs of the whole decoder for one crop, counted without computing anything."""
        if self.fpn is not None and len(self.fpn.space):  # the searched FPN that the head is for
            architecture = join(self.fpn, architecture)
        channels, crop = BACKBONES[self.settings.backbone], self.settings.crop
        with torch.device("meta"):
            decoder = architecture.build(**self._sizes())
            features = {
                name: torch.empty(1, width, -(-crop // stride), -(-crop // stride))
                for (name, width), stride in zip(channels.items(), (4, 8, 16, 32), strict=True)
            }
            complexity = count(decoder, features)
        return float(complexity.params), float(complexity.macs)

    def _finetuned(self, progress: Progress) -> nn.Module:
        """The backbone, fine-tuned once as a standard FCOS on meta-train, from the cache where it is there."""
        settings, options = self.settings, self.options
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            body = make_backbone(settings.backbone, options.backbone_weights)
        pretrain = {
            name: getattr(settings, name) for name in settings.__dataclass_fields__ if name.startswith("pretrain")
        }
        key = cache_key(
            crops=self.crops.key,
            backbone=settings.backbone,
            initial=state_hash(body),
            split=options.seed,
            width=settings.width,
            **pretrain,
        )

        trained_once(options.cache_root, "backbones", key, body, lambda: self._train_backbone(body, progress))
        return self._placed(body).eval().requires_grad_(False)

    def _train_backbone(self, body: nn.Module, progress: Progress) -> None:
        seed = self.options.seed
        decoder = self.build(Architecture.of("fpn_fcos", ()), seed)
        detector = self._placed(nn.Sequential(body, decoder))
        finetune_backbone(
            detector,
            self.crops,
            self.meta_train,
            self.locations,
            self.settings,
            seed,
            self.device,
            lambda *n: progress("fine-tuning the backbone", *n),
        )

    def _maps(self) -> tuple[str, ...]:
        """C3..C5, and C2, which is larger than all of them, only where a choice of the space names it."""
        choices = self.space.choices if self.fpn is None else self.fpn.space.choices
        return ("C2",) * any("C2" in choice.options for choice in choices) + ("C3", "C4", "C5")

    def _backbone_features(self, crops: Crops, maps: tuple[str, ...], progress: Progress) -> FeatureCache:
        return FeatureCache(
            crops,
            self.locations,
            maps,
            lambda: self._body,
            {"backbone": self.backbone_hash},
            self.options.cache_root,
            self.device,
            lambda *n: progress("computing features", *n),
        )

    def _prefetched(self, architecture: Architecture, progress: Progress) -> FeatureCache:
        """P3..P7 of an FPN trained, with the standard head, as a trial trains it."""
        settings, seed = self.settings, self.options.seed
        pyramids = self.cache

        def pyramid() -> nn.Module:
            progress("training the FPN", 0, 1)
            decoder = self.build(architecture, seed)
            trained = train_decoder(decoder, pyramids, self.meta_train, self.locations, settings, seed)
            progress("training the FPN", 1, 1)
            return nn.Sequential(self._body, trained.get_submodule("fpn"))

        parts = {"backbone": self.backbone_hash, "fpn": architecture.key, "split": str(seed)}
        training = ("batch_size", "iterations", "learning_rate", "polyak_decay", "width")
        parts |= {name: str(getattr(settings, name)) for name in training}
        return FeatureCache(
            self.crops,
            self.locations,
            LEVELS,
            pyramid,
            parts,
            self.options.cache_root,
            self.device,
            lambda *n: progress("pre-fetching the FPN's outputs", *n),
        )


def split(images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of meta-train and meta-val, 4000 : 1715, drawn by the seed.

    Raises:
        InputError: too few images to have both.
    """
    if images < 2:
        raise InputError(f"the data needs at least 2 images to be split into meta-train and meta-val, it has {images}")
    order = np.random.default_rng(seed).permutation(images)
    cut = min(max(1, round(images * META_TRAIN_SHARE)), images - 1)
    return np.sort(order[:cut]), np.sort(order[cut:])
