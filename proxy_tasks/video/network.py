"""The whole segmentation network: per frame (arch2), or carried from frame to frame by a dynamic cell.

Notation: B clips of T frames of H x W pixels; h, w are H/8, W/8 rounded up. Class scores are at stride 8; `upsample`
brings them to the labels' size. Source: Nekrasov et al., WACV 2020; thesis 6.3.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxy_tasks.backbones import channels_of_backbone, make_backbone
from search_spaces import Architecture, InputError
from search_spaces.video.arch2 import Arch2Decoder

__all__ = ["Following", "State", "StaticSegmenter", "VideoSegmenter", "build_segmenter", "upsample"]

State = tuple[Tensor, Tensor]
"""What a frame leaves to the next: its C5 (B, C, h/4, w/4) and its ``dec`` (B, width, h, w)."""


def upsample(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Class scores (B, C, h, w) bilinearly at ``size``, the labels' height and width."""
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


class StaticSegmenter(nn.Module):
    """Encoder and decoder, one frame at a time.

    Args:
        body: maps (B, 3, H, W) to C2..C5.
        decoder: see `Arch2Decoder`.
    """

    def __init__(self, body: nn.Module, decoder: Arch2Decoder):
        super().__init__()
        self.body, self.decoder = body, decoder

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to class scores (B, C, h, w)."""
        return self.first(images)[0]

    def first(self, images: Tensor) -> tuple[Tensor, State]:
        """As `forward`, and the state for the next frame."""
        features = self.body(images)
        out = self.decoder(features)
        logits, dec = out["logits"], out["dec"]
        assert isinstance(logits, Tensor), logits
        assert isinstance(dec, Tensor), dec
        return logits, (features["C5"], dec)

    def training_outputs(self, images: Tensor) -> list[Tensor]:
        """The class scores, then those of the auxiliary classifiers where there are any."""
        out: Mapping[str, Any] = self.decoder(self.body(images))
        return [out["logits"], *out.get("aux", [])]


class VideoSegmenter(nn.Module):
    """A static network for the first frame of a clip and a dynamic cell for those that follow.

    The encoder sees every frame; the cell takes the decoder's place, and the static classifier reads its output.

    Args:
        static: see `StaticSegmenter`.
        cell: see `search_spaces.video.cell.DynamicCell`.
    """

    def __init__(self, static: StaticSegmenter, cell: nn.Module):
        super().__init__()
        self.static, self.cell = static, cell

    def first(self, images: Tensor) -> tuple[Tensor, State]:
        """Frames (B, 3, H, W) without a past -> class scores (B, C, h, w) and the state."""
        return self.static.first(images)

    def following(self, images: Tensor, state: State) -> tuple[Tensor, State]:
        """Frames (B, 3, H, W) and the state of those before -> class scores (B, C, h, w) and the new state."""
        features = self.static.body(images)
        return self.step(features, state)

    def step(self, features: Mapping[str, Tensor], state: State) -> tuple[Tensor, State]:
        """As `following`, from the encoder's maps."""
        c5, dec = state
        dec = self.cell({level: features[level] for level in ("C3", "C4", "C5")}, {"C5": c5, "dec": dec})
        logits: Tensor = self.static.decoder.classifier(dec)
        return logits, (features["C5"], dec)

    def forward(self, frames: Tensor) -> Tensor:
        """Clips (B, T, 3, H, W) to class scores (B, T, C, h, w)."""
        clips, length = frames.shape[:2]
        features = self.static.body(frames.flatten(0, 1))  # every frame's at once: they do not depend on each other
        maps = {level: value.unflatten(0, (clips, length)) for level, value in features.items()}
        out = self.static.decoder({level: value[:, 0] for level, value in maps.items()})
        logits, state = out["logits"], (maps["C5"][:, 0], out["dec"])
        scores = [logits]
        for time in range(1, length):
            logits, state = self.step({level: value[:, time] for level, value in maps.items()}, state)
            scores.append(logits)
        return torch.stack(scores, dim=1)


class Following(nn.Module):
    """`VideoSegmenter.following` as a module of tensors alone, to be counted, timed and exported."""

    def __init__(self, network: VideoSegmenter):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, c5: Tensor, dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A frame and the state before it -> class scores and the state after it."""
        logits, state = self.network.following(images, (c5, dec))
        return logits, *state


def build_segmenter(
    architecture: Architecture,
    backbone: str = "mobilenet_v2",
    backbone_weights: str = "none",
    num_classes: int = 11,
    width: int = 64,
    auxiliary: bool = False,
) -> StaticSegmenter | VideoSegmenter:
    """The network of ``architecture``: the static network for arch2, and for a dynamic cell the static network with it.

    The encoder's batch norm is never of the frozen kind, whatever the weights and the job, so that one network has one
    set of parameters and buffers in every job: arch2 was trained with all its batch norm (Nekrasov et al., CVPR 2019).
    A training that is to leave it alone puts the network into evaluation mode.

    Args:
        architecture: ``arch2``, or an architecture of a space of dynamic cells.
        backbone: the encoder's name, see `proxy_tasks.backbones.make_backbone`.
        backbone_weights: the encoder's weights: ``default``, ``none`` or a file.
        num_classes: the number of classes.
        width: the channels of the decoder and of the cell.
        auxiliary: whether the static decoder has its auxiliary classifiers, which serve the training alone.
    """
    if not isinstance(width, int) or width < 1:
        raise InputError(f"the width of a segmentation network is one number of at least 1, got {width!r}")
    channels = channels_of_backbone(backbone)
    decoder = Arch2Decoder(channels, num_classes, width, auxiliary)
    static = StaticSegmenter(make_backbone(backbone, backbone_weights, frozen=False), decoder)
    if architecture.space.name == "arch2":
        return static
    return VideoSegmenter(static, architecture.build(in_channels=channels, width=width))
