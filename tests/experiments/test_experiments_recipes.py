"""Recipes: the published numbers, written out once more, and everything that a recipe file can get wrong."""

import dataclasses

import pytest
import yaml

from experiments import recipes
from experiments.fcos.recipe import DetectorRecipe
from experiments.masks.recipe import MaskRecipe
from experiments.video.recipe import StaticRecipe, VideoRecipe
from search_spaces import InputError

# thesis 6.4.2 and A.1
STATIC = {
    "encoder_learning_rate": 0.05, "decoder_learning_rate": 0.01, "auxiliary_weight": 0.3, "scale_min": 0.5,
    "scale_max": 2.0, "flip": 0.5, "poly_power": 0.9, "scale": 1.0, "backbone": "mobilenet_v2", "width": 64,
}  # fmt: skip
VIDEO = {
    "cell_learning_rate": 0.008, "finetune_cell_learning_rate": 0.004, "static_learning_rate": 0.0005, "momentum": 0.9,
    "batch_size": 16, "scale": 1.0, "scale_min": 1.0, "scale_max": 1.0, "flip": 0.0, "backbone": None, "width": None,
}  # fmt: skip
# NAS-FCOS, sec. 4.1, and thesis 7.4.1
FCOS = {
    "min_size": 800, "max_size": 1333, "min_size_least": 800, "batch_size": 16, "base_batch_size": 16,
    "iterations": 90000, "optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 1e-4, "schedule": "steps",
    "interest": 1.0, "regression": "uniform", "flip": 0.5, "weight_average": 0.0, "backbone": None, "width": None,
}  # fmt: skip
PUBLISHED = {
    "coco_fcos_1x": (DetectorRecipe, FCOS),
    "coco_fcos_improved": (
        DetectorRecipe,
        FCOS | {"iterations": 180000, "min_size_least": 640, "regression": "centerness"},
    ),
    "camvid_static": (StaticRecipe, STATIC | {"epochs": 2000, "batch_size": 32, "crop": (600, 600)}),
    "cityscapes_static": (StaticRecipe, STATIC | {"epochs": 1000, "batch_size": 28, "crop": (800, 800)}),
    "camvid_video": (
        VideoRecipe,
        VIDEO | {"cell_epochs": 10, "epochs": 100, "crop": (600, 600), "keyframe_interval": 3},
    ),
    "cityscapes_video": (
        VideoRecipe,
        VIDEO | {"cell_epochs": 200, "epochs": 200, "crop": (769, 769), "keyframe_interval": 2},
    ),
}


def test_these_are_the_published_ones():
    detectors, masks = ("fcos_small", "voc_fcos"), ("coco_htca_1x", "cityscapes_instances", "masks_small")
    assert recipes.names() == tuple(sorted((*PUBLISHED, *detectors, *masks)))
    for name in detectors:
        assert isinstance(recipes.load(name).settings, DetectorRecipe)
    for name in masks:
        assert isinstance(recipes.load(name).settings, MaskRecipe)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_has_the_published_numbers(name):
    kind, expected = PUBLISHED[name]
    recipe = recipes.load(name).settings
    assert type(recipe) is kind
    found = dataclasses.asdict(recipe)
    found["crop"] = (found.get("crop_height"), found.get("crop_width"))
    assert {key: found[key] for key in expected} == expected


def write(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def test_a_file_of_ones_own_and_single_changes(tmp_path):
    path = write(tmp_path, {"kind": "static", "epochs": 7, "encoder_learning_rate": "3e-2"})
    assert recipes.load(path).settings == StaticRecipe(epochs=7, encoder_learning_rate=0.03)
    changed = recipes.load(path, {"epochs": 9, "backbone": "tiny"}).settings
    assert changed == StaticRecipe(epochs=9, encoder_learning_rate=0.03, backbone="tiny")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "static", "epoch": 7}, r"mine.yaml: a static recipe has no setting 'epoch'; .*mean 'epochs'"),
        ({"kind": "video", "poly_power": 1}, r"mine.yaml: a video recipe has no setting 'poly_power'"),
        ({"kind": "static", 7: 7}, r"mine.yaml: a static recipe has no setting '7'"),
        ({"kind": "static", "epochs": "many"}, r"mine.yaml: setting 'epochs' takes a value of type int, got 'many'"),
        ({"kind": "static", "epochs": 1.5}, r"'epochs' takes a value of type int, got 1.5"),
        ({"kind": "static", "epochs": True}, r"'epochs' takes a value of type int, got True"),
        ({"kind": "static", "epochs": [1]}, r"'epochs' takes a value of type int"),
        ({"kind": "static", "epochs": 0}, r"mine.yaml: setting 'epochs' must be positive, got 0"),
        ({"kind": "static", "momentum": -0.1}, r"'momentum' must not be negative"),
        ({"kind": "static", "crop_width": 31}, r"'crop_width' must be at least 32 pixels, got 31"),
        ({"kind": "static", "scale_min": 3.0}, r"'scale_max' must not be below 'scale_min', got 2.0"),
        ({"kind": "video", "flip": 1.5}, r"setting 'flip' must be a share from 0 to 1, got 1.5"),
        ({"kind": "video", "width": 0}, r"setting 'width' must be positive, got 0"),
        ({"kind": "video", "width": "wide"}, r"setting 'width' takes a value of type int, got 'wide'"),
        ({"kind": "video", "backbone": "big"}, r"there is no backbone 'big'; known: tiny,"),
        ({"kind": "video", "epochs": None}, r"setting 'epochs' takes a value of type int, got None"),
        ({"kind": "static", "width": None}, r"setting 'width' takes a value of type int, got None"),
        ({"kind": "static", "scale": float("nan")}, r"'scale' takes a value of type float, got nan"),
        ({"kind": "static", "backbone": "big"}, r"there is no backbone 'big'; known: tiny,"),
        ({"kind": "video", "keyframe_interval": -1}, r"'keyframe_interval' must not be negative"),
        ({"kind": "video", "static_learning_rate": 0}, r"'static_learning_rate' must be positive"),
        ({"kind": "still"}, r"mine.yaml: .* key 'kind' is detector or masks or static or video, got 'still'"),
        ({"kind": ["static"]}, r"key 'kind' is detector or masks or static or video, got \['static'\]"),
        ({"epochs": 7}, r"key 'kind' is detector or masks or static or video, got None"),
        ("", r"mine.yaml: a recipe is a YAML mapping"),
        ("- kind", r"mine.yaml: a recipe is a YAML mapping"),
        ("kind: [", r"mine.yaml cannot be read: .*line 1"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_place(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        recipes.load(write(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_other_names_are_refused(tmp_path):
    for name in ("camvid", str(tmp_path)):
        with pytest.raises(
            InputError, match=r"no recipe '.*'; known: camvid_static, camvid_video, .*fcos_small, .*YAML file"
        ):
            recipes.load(name)


def test_a_bad_change_is_refused():
    with pytest.raises(InputError, match=r"the recipe camvid_video has no setting 'epoch'"):
        recipes.load("camvid_video", {"epoch": 3})
    with pytest.raises(InputError, match=r"'batch_size' must be positive, got -4"):
        recipes.load("camvid_video", {"batch_size": "-4"})


def test_a_video_recipe_leaves_backbone_and_width_to_the_static_network(tmp_path):
    sizes = {"backbone": "tiny", "width": 16}
    open_one = recipes.load(write(tmp_path, {"kind": "video", "backbone": None})).settings
    assert (open_one.backbone, open_one.width) == (None, None)
    assert open_one.around(**sizes) == VideoRecipe(**sizes)
    assert open_one.around() == VideoRecipe(backbone="mobilenet_v2", width=64)
    assert VideoRecipe(**sizes).around() == VideoRecipe(**sizes) == VideoRecipe(width=16).around(**sizes)


def test_a_size_of_a_video_recipe_that_is_not_the_static_network_s_is_refused():
    recipe = recipes.load("camvid_video", {"width": "32"}).settings
    with pytest.raises(
        InputError, match=r"the recipe's width is 32, but the static network .* has the width 64; leave"
    ):
        recipe.around("mobilenet_v2", 64)
    with pytest.raises(InputError, match=r"the recipe's backbone is resnet50, but .* has the backbone tiny"):
        recipes.load("camvid_video", {"backbone": "resnet50"}).settings.around("tiny")
