"""timm's networks as backbones: their maps, what they take, their weights, and what is refused."""

import pytest
import timm
import torch
from timm.layers import freeze_batch_norm_2d

from proxy_tasks.backbones import channels_of_backbone, make_backbone, of_timm
from proxy_tasks.images import IMAGE_MEAN, IMAGE_STD
from proxy_tasks.weights import state_hash
from search_spaces import InputError

STRIDES = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
SWIN = "swin_tiny_patch4_window7_224"  # channels last, and of a fixed size but for an argument


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (64, 128, 256, 512)),
        ("convnext_atto", (40, 80, 160, 320)),
        ("tf_efficientnet_lite0", (24, 40, 112, 320)),
        ("mobilenetv3_small_050", (8, 16, 24, 288)),
        (SWIN, (96, 192, 384, 768)),
        ("hrnet_w18_small", (128, 256, 512, 1024)),
    ],
)
@pytest.mark.parametrize("size", [(96, 128), (70, 90)])
def test_maps(name, channels, size):
    assert tuple(channels_of_backbone(f"timm/{name}").values()) == channels
    with torch.device("meta"):
        maps = make_backbone(f"timm/{name}", "none").eval()(torch.empty(2, 3, *size))
    assert list(maps) == list(STRIDES)
    for (level, stride), count in zip(STRIDES.items(), channels, strict=True):
        assert maps[level].shape == (2, count, -(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "tf_efficientnet_lite0", SWIN])
def test_a_whole_networks_weights_are_taken_and_images_normalised_as_it_has_them(name, tmp_path):
    torch.manual_seed(1)
    whole = timm.create_model(name).eval()
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "whole.pth")
    backbone = make_backbone(f"timm/{name}", str(tmp_path / "whole.pth")).eval()
    images = torch.rand(1, 3, 224, 224)
    mean, std = (torch.tensor(whole.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    ours = (images - torch.tensor(IMAGE_MEAN).view(3, 1, 1)) / torch.tensor(IMAGE_STD).view(3, 1, 1)
    with torch.inference_mode():
        _, (expected,) = whole.forward_intermediates((images - mean) / std, indices=1, norm=False)
        found = backbone(ours)["C5"]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_backbone_inside_a_network_of_ours_is_taken(tmp_path):
    backbone = make_backbone("timm/convnext_atto", "none")
    state = {f"static.body.{name}": value for name, value in backbone.state_dict().items()}
    torch.save(state | {"static.decoder.weight": torch.zeros(3)}, tmp_path / "ours.pth")
    other = make_backbone("timm/convnext_atto", str(tmp_path / "ours.pth"))
    assert state_hash(other) == state_hash(backbone)
    assert not any(name.endswith(("scale", "shift")) for name in backbone.state_dict())


def test_weights_that_do_not_fit(tmp_path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(InputError, match=r"resnet18\.pth: \d+ of the backbone's \d+ tensors are missing, e\.g\. '"):
        make_backbone("timm/convnext_atto", str(tmp_path / "resnet18.pth"))
    torch.save(timm.create_model("resnet18", in_chans=1).state_dict(), tmp_path / "grey.pth")
    with pytest.raises(
        InputError, match=r"grey\.pth: 'conv1.weight' has shape \(64, 1, 7, 7\), expected \(64, 3, 7, 7\)"
    ):
        make_backbone("timm/resnet18", str(tmp_path / "grey.pth"))


def test_batch_norm_stem_and_first_stage_are_frozen():
    backbone = make_backbone("timm/resnet18", "none", frozen=True)
    names = {name.partition(".")[2].partition(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert names == {"layer2", "layer3", "layer4"}
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in backbone.modules())
    whole = freeze_batch_norm_2d(make_backbone("timm/resnet18", "none"))
    assert list(whole.state_dict()) == list(backbone.state_dict())
    learns = [name for name, p in make_backbone("timm/convnext_atto", "none", frozen=True).named_parameters()
              if p.requires_grad]  # fmt: skip
    assert learns[0].startswith("network.stages_1.")
    everything = make_backbone("timm/resnet18", "none")
    assert all(parameter.requires_grad for parameter in everything.parameters())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", r"timm has no network 'resnet19'; did you mean timm/resnet18 or "),
        ("", r"timm has no network ''$"),
        ("vit_tiny_patch16_224", r"needs maps at strides 4, 8, 16 and 32, but has them at 16, .* none at 4, 8, 32"),
        ("maxvit_tiny_rw_224", r"timm/maxvit_tiny_rw_224 takes images of its own size only: 96x160 pixels give "),
        ("dla34", r"its map at stride 4 has 48x80 places for 96x160 pixels, expected 24x40"),
        ("tresnet_m", r"timm/tresnet_m is no backbone, for it gives no maps: "),
    ],
)
def test_networks_that_are_no_backbones(name, message):
    with pytest.raises(InputError, match=message):
        channels_of_backbone(f"timm/{name}")


def test_offline_download_is_one_clear_sentence(monkeypatch):
    def created(name, **options):
        if options.get("pretrained"):
            raise OSError("no network")
        return timm.create_model(name, features_only=True, **options)

    monkeypatch.setattr(of_timm, "_created", created)
    with pytest.raises(
        InputError, match=r"weights of timm/resnet18 cannot be had from timm's hub \(OSError: no network\); give --back"
    ):
        make_backbone("timm/resnet18")
