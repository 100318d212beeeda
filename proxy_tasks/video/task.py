"""The video proxy task: how well a dynamic cell carries a frozen static network through short sequences.

Notation: B sequences of T frames; C classes; maps at stride 8 are h x w. Source: Nekrasov et al., WACV 2020, sec. 3.3;
thesis 6.3.3, 6.4.1.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.backbones import BACKBONES, state_hash
from proxy_tasks.data.video import open_video
from proxy_tasks.data.video.base import VOID, VideoDataset
from proxy_tasks.task import Diverged, Interim, Progress, Score, TaskOptions
from proxy_tasks.training import check_losses, minibatches
from proxy_tasks.video.frames import Frames, StaticOutputs, split_sequences
from proxy_tasks.video.loss import cross_entropy_sums
from proxy_tasks.video.metrics import Segmentation, confusion
from proxy_tasks.video.network import Following, VideoSegmenter, build_segmenter, upsample
from proxy_tasks.video.settings import video_settings
from proxy_tasks.video.static_network import static_network
from search_spaces import Architecture, InputError, SearchSpace
from search_spaces.parts.complexity import count

__all__ = ["VideoTask"]


class VideoTask:
    """Scores dynamic cells.

    Args:
        space: a video space; its ``build`` gives a `DynamicCell`.
        options: see `TaskOptions`.
        previous: unused; video searches have one stage.

    Raises:
        InputError: a setting is unknown or out of range, or the space has nothing to search.
    """

    def __init__(self, space: SearchSpace, options: TaskOptions, previous: Architecture | None = None):
        if not len(space):
            raise InputError(f"search space {space.name!r} has no choices, so there is nothing to search")
        self.space, self.options = space, options
        self.settings = video_settings(options.preset, space.name, options.backbone, options.overrides)
        self.device = torch.device(options.device)

    def open_data(self) -> VideoDataset:
        """The frames that cells are searched on, opened and checked."""
        return open_video(self.options.data, "train")

    def prepare(self, progress: Progress) -> None:
        """Opens, or builds, the frames, the static network and all that it gives for them.

        Raises:
            InputError: the data or the weights are bad.
        """
        options, settings = self.options, self.settings
        data = self.open_data()
        self.data_fingerprint, self.classes = data.fingerprint, data.classes
        self.meta_train, self.meta_val = split_sequences(data, options.seed)
        if not len(self.meta_train) or not len(self.meta_val):
            raise InputError(
                f"{data.root}: meta-train and meta-val need a sequence of {data.sequence_length} frames each that share"
                f" no frame, but the train set has only {len(data.sequences())} sequence(s)"
            )
        crop = (settings.crop_height, settings.crop_width)
        self.frames = Frames(
            data,
            settings.long_side,
            crop,
            options.seed,
            options.cache_root,
            lambda *n: progress("reducing the frames", *n),
        )
        annotated = np.flatnonzero(data.annotated)
        learned = annotated[~np.isin(annotated, self.meta_val)]
        self.static = static_network(self.frames, learned, len(data.classes), settings, options, progress)
        self.static_hash = state_hash(self.static)
        self.outputs = StaticOutputs(
            self.frames,
            self.static,
            self.static_hash,
            options.cache_root,
            self.device,
            lambda *n: progress("computing the static network's outputs", *n),
        )
        if bool((self.outputs.labels(self.meta_val[:, 1:].reshape(-1)) == VOID).all()):
            raise InputError(
                f"{data.root}: all of meta-val is void at a crop of {crop[0]} x {crop[1]}, so nothing can be scored; "
                "use larger crops (--set crop_height=... crop_width=...), another --seed or more data"
            )

    def fingerprints(self) -> dict[str, str]:
        """Data, static network and the cache of its outputs."""
        return {"data": self.data_fingerprint, "static": self.static_hash, "features": self.outputs.key}

    def evaluate(self, architecture: Architecture, seed: int | None = None) -> Iterator[Interim | Score]:
        """Trains the cell on meta-train and scores it on meta-val; an `Interim` comes halfway.

        The metrics are those of `score`, ``params`` of the whole network and ``macs`` of a frame that follows another.

        Args:
            architecture: of the space.
            seed: of the initial weights and the batches; None is the search's, the same for every architecture.
        """
        seed = self.options.seed if seed is None else seed
        complexity = self._complexity(architecture)
        cell = self.build(architecture, seed)
        for step, steps in self._training(cell, seed):
            if step == steps // 2:
                metrics = self.score(partial(self.unrolled, cell.eval()))
                yield Interim(step, steps, self._reward(metrics), metrics | complexity)
        metrics = self.score(partial(self.unrolled, cell.eval()))
        yield Score(self._reward(metrics), metrics | complexity)

    def _reward(self, metrics: dict[str, float]) -> float:
        return -metrics["loss"] if self.options.reward == "loss" else metrics["score"]

    def build(self, architecture: Architecture, seed: int) -> nn.Module:
        """The cell with initial weights drawn from ``seed``, on the device, channels last."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            channels = BACKBONES[self.settings.backbone]
            cell: nn.Module = architecture.build(in_channels=channels, width=self.settings.width)
        return cell.to(self.device).to(memory_format=torch.channels_last)

    def _training(self, cell: nn.Module, seed: int) -> Iterator[tuple[int, int]]:
        """Trains; yields the number of steps done, and of all, after each. Losses are looked at halfway and last."""
        settings = self.settings
        optimizer = torch.optim.Adam(cell.parameters(), lr=settings.learning_rate, foreach=True)
        numbers = np.arange(len(self.meta_train))
        size = min(settings.batch_size, len(numbers))
        steps = -(-settings.epochs * len(numbers) // size)
        losses = []
        for step, chosen in enumerate(minibatches(numbers, size, steps, seed), start=1):
            cell.train()
            sequences = self.meta_train[chosen]
            loss = _loss(self._loss_sums(self.unrolled(cell, sequences), sequences))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            if step in (steps // 2, steps):
                check_losses(losses, steps)
            yield step, steps

    def unrolled(self, cell: nn.Module, sequences: np.ndarray) -> Iterator[Tensor]:
        """Class scores (B, C, h, w) of the frames after the first; the cell's output is the next frame's ``dec``."""
        state = self.outputs.maps(("C5", "dec"), sequences[:, 0])
        for t in range(1, sequences.shape[1]):
            current = self.outputs.maps(("C3", "C4", "C5"), sequences[:, t])
            state = {"C5": current["C5"], "dec": cell(current, state)}
            yield self.static.decoder.classifier(state["dec"])

    def per_frame(self, sequences: np.ndarray) -> Iterator[Tensor]:
        """As `unrolled`, by the static network on every frame: the baseline."""
        for t in range(1, sequences.shape[1]):
            yield self.static.decoder.classifier(self.outputs.maps(("dec",), sequences[:, t])["dec"])

    def _loss_sums(self, outputs: Iterable[Tensor], sequences: np.ndarray) -> Tensor:
        """For each frame after the first, the summed cross-entropy and the pixels that are not void: (T - 1, 2)."""
        pairs = enumerate(outputs, start=1)
        return torch.stack([cross_entropy_sums(x, self.outputs.labels(sequences[:, t])) for t, x in pairs])

    @torch.inference_mode()
    def score(self, outputs: Callable[[np.ndarray], Iterator[Tensor]]) -> dict[str, float]:
        """``score`` (geometric mean of the next three), ``miou``, ``fwiou``, ``macc`` and ``loss`` on meta-val.

        Args:
            outputs: class scores of some sequences, as `unrolled` and `per_frame` give them.

        Raises:
            Diverged: a class score is not finite.
        """
        matrix = torch.zeros(len(self.classes), len(self.classes), dtype=torch.int64, device=self.device)
        sums = torch.zeros(self.meta_val.shape[1] - 1, 2, device=self.device)
        for part in np.array_split(self.meta_val, -(-len(self.meta_val) // self.settings.batch_size)):
            scores = list(outputs(part))
            sums += self._loss_sums(scores, part)
            for t, logits in enumerate(scores, start=1):
                labels = self.frames.labels(part[:, t]).to(self.device)
                height, width = labels.shape[-2:]
                matrix += confusion(upsample(logits, (height, width)).argmax(dim=1), labels, len(self.classes))
        loss = float(_loss(sums))
        if not np.isfinite(loss):
            raise Diverged(f"the loss on meta-val is {loss}")
        result = Segmentation.of(matrix)
        return {name: getattr(result, name) for name in ("score", "miou", "fwiou", "macc")} | {"loss": loss}

    def _complexity(self, architecture: Architecture) -> dict[str, float]:
        """Parameters of the whole network, MACs of a frame that follows another, counted without computing anything."""
        settings = self.settings
        with torch.device("meta"):
            network = build_segmenter(
                architecture, settings.backbone, num_classes=len(self.classes), width=settings.width
            )
            assert isinstance(network, VideoSegmenter)
            image = torch.empty(1, 3, *self.frames.size)
            complexity = count(Following(network), image, *network.eval().first(image)[1])
        parameters = sum(parameter.numel() for parameter in network.parameters())
        return {"params": float(parameters), "macs": float(complexity.macs)}


def _loss(sums: Tensor) -> Tensor:
    """Cross-entropy summed over the frames after the first, each a mean over its pixels that are not void."""
    return (sums[:, 0] / sums[:, 1].clamp(min=1)).sum()
