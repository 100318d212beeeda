"""Backbones: their maps, their published parameter counts, and the loading of weights."""

import pickle
import urllib.error

import pytest
import safetensors.torch
import torch
import torchvision

from proxy_tasks.backbones import BACKBONES, make_backbone
from proxy_tasks.weights import read_state_dict, state_hash
from search_spaces import InputError


@pytest.mark.parametrize("name", BACKBONES)
def test_maps(name):
    with torch.device("meta"):
        maps = make_backbone(name, "none").eval()(torch.empty(2, 3, 96, 128))
    assert list(maps) == ["C2", "C3", "C4", "C5"]
    for (level, value), stride in zip(maps.items(), (4, 8, 16, 32), strict=True):
        assert value.shape == (2, BACKBONES[name][level], 96 // stride, 128 // stride)


# requires_grad parameters in millions, as the published tables count them (frozen batch norm, stem and first stage)
@pytest.mark.parametrize(
    ("name", "millions"),
    [("mobilenet_v2", 1.81), ("resnet50", 23.233), ("resnet101", 42.172), ("resnext101_64x4d", 80.806)],
)
def test_published_trainable_parameters(name, millions):
    with torch.device("meta"):
        backbone = make_backbone(name, "none", frozen=True)
    trainable = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    assert trainable / 1e6 == pytest.approx(millions, abs=0.002)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("name", "factory"), [("mobilenet_v2", "mobilenet_v2"), ("resnet50", "resnet50")])
def test_a_classification_networks_weights_are_taken(tmp_path, name, factory, suffix):
    torch.manual_seed(1)
    whole = torchvision.models.get_model(factory).eval()
    path = tmp_path / f"weights{suffix}"
    state = whole.state_dict()
    safetensors.torch.save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    backbone = make_backbone(name, str(path)).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        if name == "resnet50":
            expected = whole.layer3(
                whole.layer2(whole.layer1(whole.maxpool(whole.relu(whole.bn1(whole.conv1(images))))))
            )
        else:
            expected = whole.features[:14](images)
        torch.testing.assert_close(backbone(images)["C4"], expected, rtol=1e-4, atol=1e-5)


def test_its_own_weights_are_taken(tmp_path):
    backbone = make_backbone("tiny", "none")
    torch.save({"state_dict": backbone.state_dict()}, tmp_path / "tiny.pt")
    assert state_hash(make_backbone("tiny", str(tmp_path / "tiny.pt"))) == state_hash(backbone)


def renamed(state, before):
    return {before + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": renamed(state, "backbone.body."), "epoch": 3},
        lambda state: {"state_dict": renamed(state, "module.backbone.body.")},
        lambda state: {"state_dict": {"model": renamed(state, "module.")}},
    ],
)
def test_the_backbone_of_a_detectors_checkpoint_is_taken(tmp_path, wrap):
    torch.manual_seed(2)
    detector = torchvision.models.detection.fcos_resnet50_fpn(weights=None, weights_backbone=None)
    body = detector.backbone.body.state_dict()
    others = renamed({"fpn.weight": torch.zeros(3), "conv1.weight": torch.zeros(1)}, "head.")
    torch.save(wrap(body | others), tmp_path / "fcos.pth")
    backbone = make_backbone("resnet50", str(tmp_path / "fcos.pth"))
    assert all(torch.equal(value, body[name]) for name, value in backbone.state_dict().items() if name in body)


def test_all_of_torchvisions_detectors_have_a_backbone_to_take(tmp_path):
    for name in ("fcos_resnet50_fpn", "retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn"):
        with torch.device("meta"):
            detector = torchvision.models.get_model(name, weights=None, weights_backbone=None)
            own = make_backbone("resnet50", "none", frozen=True)
        names = {key for key in own.state_dict() if not key.endswith("num_batches_tracked")}
        assert {f"backbone.body.{key}" for key in names} <= set(detector.state_dict())


class Payload:
    def __reduce__(self):
        return (print, ("this must never run",))


def test_untrusted_weights_are_refused_and_not_run(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": {"conv": Payload()}}, path)
    with pytest.raises(InputError, match=r"evil\.pth holds more than tensors and is not loaded"):
        make_backbone("tiny", str(path))
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(InputError, match=r"evil\.pth (holds more than tensors|cannot be read)"):
        read_state_dict(path)
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(range(256)) * 4])
def test_broken_weights_files(tmp_path, suffix, content):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"the weights file .*broken\.\w+ (cannot be read|holds)"):
        read_state_dict(path)


def test_weights_that_do_not_fit(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"head.weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=r"weights\.pth: \d+ of the backbone's \d+ tensors are missing, e\.g\. '"):
        make_backbone("tiny", str(path))
    state = make_backbone("tiny", "none").state_dict()
    first = next(iter(state))
    torch.save(state | {first: torch.zeros(3)}, path)
    with pytest.raises(InputError, match=rf"weights\.pth: '{first}' has shape \(3,\), expected \("):
        make_backbone("tiny", str(path))
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="holds no state dict"):
        make_backbone("tiny", str(path))


def test_messages(tmp_path):
    with pytest.raises(
        InputError,
        match=r"there is no backbone 'vgg'; known: tiny, efficientnet_lite0, mobilenet_v2, .* and timm/NAME for timm's",
    ):
        make_backbone("vgg")
    with pytest.raises(InputError, match=r"there is no weights file .*missing\.pth"):
        make_backbone("tiny", str(tmp_path / "missing.pth"))


def test_offline_download_is_one_clear_sentence(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    with pytest.raises(
        InputError, match=r"weights of resnet50 cannot be downloaded .* give --backbone-weights a file, or none"
    ):
        make_backbone("resnet50", "default")
