"""The video proxy task: how well a dynamic cell carries a frozen static network through short sequences.

Source: Nekrasov et al., WACV 2020, sec. 3.3; thesis 6.3.3, 6.4.1.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.backbones import channels_of_backbone
from proxy_tasks.data.video import open_video
from proxy_tasks.data.video.base import VideoDataset
from proxy_tasks.rows import Site
from proxy_tasks.task import Interim, Progress, ProxyTask, Score, TaskOptions
from proxy_tasks.video.frames import Frames, StaticOutputs
from proxy_tasks.video.network import Following, VideoSegmenter, build_segmenter
from proxy_tasks.video.preparing import Prepared, Side
from proxy_tasks.video.settings import video_settings
from proxy_tasks.video.split import split
from proxy_tasks.video.static_network import static_network
from proxy_tasks.video.training import score, train_cell
from search_spaces import Architecture, InputError, SearchSpace
from search_spaces.parts.complexity import count

__all__ = ["VideoTask"]


class VideoTask(ProxyTask):
    """Scores dynamic cells.

    Args:
        space: a video space; its ``build`` gives a `DynamicCell`.
        options: see `TaskOptions`.
        previous: unused; video searches have one stage.

    Raises:
        InputError: a setting is unknown or out of range, or the space has nothing to search.
    """

    keeps = ("static",)

    def __init__(self, space: SearchSpace, options: TaskOptions, previous: Architecture | None = None):
        if not len(space):
            raise InputError(f"search space {space.name!r} has no choices, so there is nothing to search")
        self.space, self.options = space, options
        self.settings = video_settings(options.preset, space.name, options.backbone, options.overrides)
        self.device = torch.device(options.device)
        self._prepared: Prepared | None = None

    def sizes(self) -> dict[str, Any]:
        """Backbone and width of the static network and of the cells."""
        return {"backbone": self.settings.backbone, "width": self.settings.width}

    def kept(self) -> dict[str, nn.Module]:
        """The static network that cells are searched around."""
        return {"static": self.prepared.static.network}

    def open_data(self) -> VideoDataset:
        """The frames that cells are searched on, opened and checked."""
        return open_video(self.options.data, "train", sequence_length=self.settings.sequence_length)

    def prepare(self, progress: Progress) -> None:
        """Opens, or builds, the frames, the static network and all that it gives for them.

        Frames of meta-train are cropped, those of meta-val whole: cells learn from crops and are scored on what a user
        would see.

        Raises:
            InputError: the data or the weights are bad.
        """
        data, settings = self.open_data(), self.settings
        meta_train, meta_val = split(data, self.options.seed)
        if not len(meta_train.sequences()) or not len(meta_val.sequences()):
            raise InputError(
                f"{data.root}: meta-train and meta-val need a sequence of {data.sequence_length} frames each (setting"
                f" 'sequence_length') that share no frame, but the train set has only"
                f" {len(data.sequences())} sequence(s)"
            )
        site = Site(self.options.cache_root, self.device, progress)
        crops = Frames(
            meta_train, settings.long_side, (settings.crop_height, settings.crop_width), self.options.seed, site
        )
        whole = Frames(meta_val, settings.long_side, (settings.long_side,) * 2, self.options.seed, site)
        learned = np.flatnonzero(meta_train.annotated)
        static = static_network(crops, learned, len(data.classes), settings, self.options, progress)
        self._prepared = Prepared(
            data.fingerprint,
            data.classes,
            static,
            Side(crops, StaticOutputs(crops, static.network, static.hash, site), meta_train.sequences()),
            Side(whole, StaticOutputs(whole, static.network, static.hash, site), meta_val.sequences()),
        )
        if self.prepared.meta_val.void:
            raise InputError(
                f"{data.root}: all of meta-val is void, so nothing can be scored; use another --seed or more data"
            )
        if self.prepared.meta_train.void:
            raise InputError(
                f"{data.root}: all of meta-train is void at a crop of {settings.crop_height} x {settings.crop_width},"
                " so nothing can be learned; use larger crops (--set crop_height=... crop_width=...), another --seed or"
                " more data"
            )

    @property
    def prepared(self) -> Prepared:
        """What `prepare` left."""
        assert self._prepared is not None, "prepare comes first"
        return self._prepared

    def release(self) -> None:
        """Frees what the static network and its outputs take of the device."""
        prepared = self.prepared
        prepared.static.network.cpu()
        for side in (prepared.meta_train, prepared.meta_val):
            side.outputs.release()

    def fingerprints(self) -> dict[str, str]:
        """Data, static network and the caches of its outputs."""
        prepared = self.prepared
        caches = {"features": prepared.meta_train.outputs.key, "meta_val": prepared.meta_val.outputs.key}
        return {"data": prepared.data, "static": prepared.static.hash, **caches}

    def evaluate(self, architecture: Architecture, seed: int | None = None) -> Iterator[Interim | Score]:
        """Trains the cell on meta-train and scores it on meta-val; an `Interim` comes halfway.

        The metrics are those of `proxy_tasks.video.training.score`, ``params`` of the whole network and ``macs`` of a
        whole frame that follows another.

        Args:
            architecture: a cell of the task's space.
            seed: draws the initial weights and the batches; None is the search's seed, the same for every architecture.
        """
        prepared = self.prepared
        seed = self.options.seed if seed is None else seed
        complexity = self.complexity(architecture)
        prepared.static.network.to(self.device)  # where it was released
        cell, classifier = self.build(architecture, seed), prepared.static.network.decoder.classifier
        outputs = partial(prepared.meta_val.unrolled, cell, classifier)
        for step, steps in train_cell(cell, classifier, prepared.meta_train, self.settings, seed):
            if step == steps // 2:
                cell.eval()
                metrics = self._score(outputs)
                yield Interim(step, steps, self._reward(metrics), metrics | complexity)
        cell.eval()
        metrics = self._score(outputs)
        yield Score(self._reward(metrics), metrics | complexity)

    def baseline(self) -> dict[str, float]:
        """The metrics of the static network itself on meta-val, frame by frame."""
        return self._static_score(self.prepared.meta_val.per_frame)

    def score_reference(self, name: str, seed: int | None = None) -> Score:
        """What every cell is held against; neither is trained, so that no seed changes it.

        ``static`` is the static network on every frame; ``previous_labels`` copies what it says of a sequence's first
        frame to the frames that follow, which costs nothing. ``params`` and ``macs`` are as in `evaluate`.
        """
        side, static = self.prepared.meta_val, self.prepared.static
        outputs = {"static": side.per_frame, "previous_labels": side.held}[name]
        metrics = self._static_score(outputs)
        with torch.device("meta"):
            network = build_segmenter(
                Architecture.of("arch2"), static.backbone, num_classes=static.classes, width=static.width
            )
            counted = count(network.eval(), torch.empty(1, 3, *side.frames.size))
        macs = float(counted.macs) if name == "static" else 0.0
        return Score(self._reward(metrics), metrics | {"params": float(counted.params), "macs": macs})

    def _static_score(self, outputs: Callable[[nn.Module, np.ndarray], Iterator[Tensor]]) -> dict[str, float]:
        static = self.prepared.static.network.to(self.device)  # where it was released
        return self._score(partial(outputs, static.decoder.classifier))

    def _score(self, outputs: Callable[[np.ndarray], Iterator[Tensor]]) -> dict[str, float]:
        """The metrics on meta-val, with no more pixels at a time than in a training step."""
        prepared = self.prepared
        pixels = [int(np.prod(side.frames.size)) for side in (prepared.meta_train, prepared.meta_val)]
        size = max(1, self.settings.batch_size * pixels[0] // pixels[1])
        return score(outputs, prepared.meta_val, len(prepared.classes), size)

    def _reward(self, metrics: dict[str, float]) -> float:
        return -metrics["loss"] if self.options.reward == "loss" else metrics["score"]

    def build(self, architecture: Architecture, seed: int) -> nn.Module:
        """The cell with initial weights drawn from ``seed``, on the device, channels last."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            channels = channels_of_backbone(self.settings.backbone)
            cell: nn.Module = architecture.build(in_channels=channels, width=self.settings.width)
        return cell.to(self.device).to(memory_format=torch.channels_last)

    def forward_pass(self, architecture: Architecture) -> Callable[[], object]:
        """See `ProxyTask`: encoder, cell and classifier on a frame of meta-val that follows another."""
        static = self.prepared.static
        with torch.random.fork_rng(devices=[]):
            network = build_segmenter(architecture, static.backbone, num_classes=static.classes, width=static.width)
        assert isinstance(network, VideoSegmenter)
        network.eval().to(self.device).to(memory_format=torch.channels_last)
        image = torch.zeros(1, 3, *self.prepared.meta_val.frames.size, device=self.device)
        image = image.to(memory_format=torch.channels_last)
        with torch.inference_mode():
            _, state = network.first(image)
        return torch.inference_mode()(partial(Following(network), image, *state))

    def complexity(self, architecture: Architecture) -> dict[str, float]:
        """``params`` of the whole network, ``macs`` of a frame that follows another, counted without computing."""
        prepared, static = self.prepared, self.prepared.static
        with torch.device("meta"):
            network = build_segmenter(architecture, static.backbone, num_classes=static.classes, width=static.width)
            assert isinstance(network, VideoSegmenter)
            image = torch.empty(1, 3, *prepared.meta_val.frames.size)
            counted = count(Following(network), image, *network.eval().first(image)[1])
        parameters = sum(parameter.numel() for parameter in network.parameters())
        return {"params": float(parameters), "macs": float(counted.macs)}
