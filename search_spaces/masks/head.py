"""The mask branch that the choices of `search_spaces.masks.choices` spell.

Notation, that of the thesis' algorithms 1 to 4: N RoIs; X_mask (N, C, h, w) what RoIAlign gives of them, 14×14 in all
publications; m⁻_t (N, W, h, w) the features of stage t at which its path splits; m_t (N, K, 2h, 2w) its mask logits,
one map a class. F(a, b) = a + conv1x1(b). Stages count from 0.

The RoIs of stage t are those of its own boxes, so m⁻_{t-1} is not what stage t-1 computed on RoIs of its own: the
earlier stages run once more, on the RoIs of stage t, as in the published code of the Hybrid Task Cascade.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.errors import InputError
from search_spaces.masks.attention import make_attention
from search_spaces.masks.choices import OPERATIONS, places_of
from search_spaces.options import MASK_OPERATIONS
from search_spaces.parts.deform_conv import DeformConv3x3
from search_spaces.parts.operations import DepthwiseConv2d
from search_spaces.space import Architecture

__all__ = ["MaskBranch", "MaskStage", "make_mask_operation"]


def make_mask_operation(name: str, in_channels: int, out_channels: int) -> nn.Module:
    """The operation called ``name``, of `options.MASK_OPERATIONS` without "skip"; ends in ReLU, without a norm.

    (N, in_channels, H, W) -> (N, out_channels, H, W). Mask R-CNN's convolutions have a bias and no norm.

    Raises:
        InputError: there is no such operation, or not of that width.
    """
    match name:
        case "conv3x3":
            layers: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, 3, padding=1)]
        case "conv1x1":
            layers = [nn.Conv2d(in_channels, out_channels, 1)]
        case "sep3x3":
            layers = [DepthwiseConv2d(in_channels, 3, 1), nn.Conv2d(in_channels, out_channels, 1)]
        case "sep3x3_dil3":
            layers = [DepthwiseConv2d(in_channels, 3, 3), nn.Conv2d(in_channels, out_channels, 1)]
        case "dconv3x3":
            layers = [DeformConv3x3(in_channels, out_channels)]
        case _:
            raise InputError(f"there is no operation {name!r} in mask heads; known: {', '.join(MASK_OPERATIONS)}")
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


class MaskStage(nn.Module):
    """One mask stage, M_t; its attention sits in ``attention`` by place.

    Args:
        named: the options of the architecture's choices by their names.
        stage: the number of the stage, from 0.
        in_channels: C.
        num_classes: K.
        width: W.
    """

    def __init__(self, named: Mapping[str, str], stage: int, in_channels: int, num_classes: int, width: int):
        super().__init__()

        def option(name: str, default: str = "no") -> str:
            return named.get(f"mask.{stage + 1}.{name}", default)

        names = [option(f"op{number}") for number in range(1, OPERATIONS + 1)]
        names = [name for name in names if name != "skip"]
        channels = [in_channels] + [width] * len(names)
        layers = [make_mask_operation(n, i, o) for n, i, o in zip(names, channels, channels[1:], strict=False)]
        if not layers and in_channels != width:
            layers = [nn.Conv2d(in_channels, width, 1)]  # skips only: the width is still to be that of the rest
        self.convs = nn.Sequential(*layers)
        self.flow = nn.Conv2d(width, in_channels, 1) if option("flow") == "yes" else None
        self.semantic = option("semantic") == "yes"
        places = places_of(option("place")) - (set() if self.flow else {"flow"})
        self.attention = nn.ModuleDict({place: make_attention(option("attention"), width) for place in sorted(places)})
        self.deconv = nn.ConvTranspose2d(width, width, 2, 2)
        self.predict = nn.Conv2d(width, num_classes, 1)
        _draw(self)

    def attend(self, place: str, x: Tensor) -> Tensor:
        """``x`` (N, W, h, w) after the attention in that place, itself where there is none."""
        return self.attention[place](x) if place in self.attention else x

    def shared(self, x: Tensor, semantic: Tensor | None, before: Tensor | None) -> Tensor:
        """m⁻_t.

        Args:
            x: (N, C, h, w), RoIs of the pyramid.
            semantic: (N, C, h, w), the same RoIs of the semantic features S'; None where there are none.
            before: m⁻_{t-1}, where the stage takes it.
        """
        if self.semantic and semantic is not None:
            x = x + semantic
        if self.flow is not None:
            assert before is not None
            x = x + self.flow(self.attend("flow", before))
        return self.attend("convs", self.convs(x))

    def masks(self, shared: Tensor) -> Tensor:
        """m⁻_t -> m_t, logits."""
        logits: Tensor = self.predict(F.relu(self.deconv(self.attend("deconv", shared))))
        return logits


class MaskBranch(nn.Module):
    """All mask stages of an architecture.

    Args:
        architecture: a point of `choices.MASK_HEAD` or `choices.MASK_HEAD_SINGLE`.
        in_channels: C, the channels of the RoIs.
        num_classes: K, the number of foreground classes.
        width: W, the channels inside.

    Raises:
        InputError: a width that an operation cannot have.
    """

    def __init__(self, architecture: Architecture, *, in_channels: int, num_classes: int, width: int = 256):
        super().__init__()
        named = architecture.named
        count = sum(name.endswith(".place") for name in named)
        self.levels = named["mask.levels"]
        self.stages = nn.ModuleList(MaskStage(named, stage, in_channels, num_classes, width) for stage in range(count))

    @property
    def uses_semantic(self) -> bool:
        """Whether any stage takes the semantic features."""
        return any(stage.semantic for stage in self.stages)

    def shared(self, stage: int, x: Tensor, semantic: Tensor | None = None) -> Tensor:
        """m⁻ of the stage of that number on these RoIs, after those of the stages before it whose flow it takes."""
        one = self.stages[stage]
        assert isinstance(one, MaskStage)
        before = self.shared(stage - 1, x, semantic) if one.flow is not None else None
        return one.shared(x, semantic, before)

    def masks(self, stage: int, x: Tensor, semantic: Tensor | None = None) -> Tensor:
        """The mask logits (N, K, 2h, 2w) of the stage of that number."""
        one = self.stages[stage]
        assert isinstance(one, MaskStage)
        return one.masks(self.shared(stage, x, semantic))

    def forward(self, rois: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every stage on the same RoIs, each run once.

        Args:
            rois: ``pyramid`` and, where stages take it, ``semantic``, (N, C, h, w) each.

        Returns:
            ``mask1``, ``mask2``, …: logits (N, K, 2h, 2w).
        """
        out: dict[str, Tensor] = {}
        before: Tensor | None = None
        for number, stage in enumerate(self.stages, start=1):
            assert isinstance(stage, MaskStage)
            before = stage.shared(rois["pyramid"], rois.get("semantic"), before)
            out[f"mask{number}"] = stage.masks(before)
        return out


def _draw(stage: nn.Module) -> None:
    """Initial weights as Mask R-CNN has them; the convolution of a deformable one's offsets keeps its zeros."""
    for name, module in stage.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not name.endswith("conv_offset_mask"):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
