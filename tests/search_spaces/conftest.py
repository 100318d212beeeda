import pytest
import torch

CHANNELS = {"C2": 4, "C3": 6, "C4": 8, "C5": 10}
SIZES = {"C2": (24, 40), "C3": (12, 20), "C4": (6, 10), "C5": (3, 5)}
LOCATIONS = 12 * 20 + 6 * 10 + 3 * 5 + 2 * 3 + 1 * 2


@pytest.fixture
def features():
    """Maps of two 96×160 images by a made-up backbone of `CHANNELS`."""
    rng = torch.Generator().manual_seed(0)
    return {level: torch.randn(2, CHANNELS[level], *size, generator=rng) for level, size in SIZES.items()}


@pytest.fixture
def sizes():
    """Keyword arguments of a builder for `features`, a narrow decoder of 3 classes."""
    return {"in_channels": CHANNELS, "num_classes": 3, "fpn_width": 4, "head_width": 8}


@pytest.fixture
def previous():
    """What a cell of 4 channels takes of the frame before that of `features`: its C5 and ``dec``."""
    rng = torch.Generator().manual_seed(2)
    return {
        "C5": torch.randn(2, CHANNELS["C5"], *SIZES["C5"], generator=rng),
        "dec": torch.randn(2, 4, *SIZES["C3"], generator=rng),
    }


@pytest.fixture
def rois():
    """What a mask branch of 6 channels takes: two RoIs of the pyramid and of the semantic features."""
    rng = torch.Generator().manual_seed(3)
    return {name: torch.randn(2, 6, 14, 14, generator=rng) for name in ("pyramid", "semantic")}


@pytest.fixture
def locations():
    return LOCATIONS


@pytest.fixture
def shake():
    """Moves every parameter and batch-norm statistic of a module away from its start, so that each one matters."""

    def shaken(module):
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += 0.2 * torch.randn(parameter.shape, generator=rng)
            for name, buffer in module.named_buffers():
                if name.endswith(("running_mean", "running_var")):
                    buffer += 0.3 * torch.rand(buffer.shape, generator=rng)
        return module

    return shaken
