"""TensorFlow's "same" padding without arithmetic on image sizes, which exporters of free sizes cannot follow."""

import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, nn

__all__ = ["with_fixed_padding"]


class _FixedSame(nn.Conv2d):
    """A convolution that pads with as many zeros as "same" needs where both sides are multiples of the stride."""

    def __init__(self, conv: nn.Conv2d):
        kernel, stride, dilation = conv.kernel_size, conv.stride, conv.dilation
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            kernel,  # type: ignore[arg-type]
            stride,  # type: ignore[arg-type]
            dilation=dilation,  # type: ignore[arg-type]
            groups=conv.groups,
            device="meta",
        )
        self.weight, self.bias = conv.weight, conv.bias
        needed = [max(d * (k - 1) + 1 - s, 0) for k, s, d in zip(kernel, stride, dilation, strict=True)]
        height, width = needed
        self.zeros = (width // 2, width - width // 2, height // 2, height - height // 2)

    def forward(self, x: Tensor) -> Tensor:
        """As `torch.nn.Conv2d`."""
        return super().forward(F.pad(x, self.zeros))


def with_fixed_padding(network: nn.Module) -> nn.Module:
    """The network, changed in place, with the same weights under the same names, for sides that are multiples of 32."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and type(child) is Conv2dSame:
                setattr(module, name, _FixedSame(child))
    return network
