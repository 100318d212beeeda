"""Bad video data and static weights: one sentence, status 2, nothing left that trips a second run."""

import shutil

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from places import Place

from proxy_tasks.video.network import build_segmenter
from search_spaces import Architecture

ARCH2 = Architecture.of("arch2", ())


class VideoPlace(Place):
    """A place whose searches are for cells, on sequences of the smallest sizes."""

    def flags(self, *more):
        sizes = ["long_side=64", "crop_height=32", "crop_width=48", "batch_size=4", "epochs=1", "width=8"]
        return [
            *("--device", "cpu", "--space", "video_cell", "--controller", "random", "--trials", "2"),
            *("--backbone", "tiny"),
            *("--data", str(self.data), "--cache-dir", str(self.cache), "--out", str(self.run)),
            *("--set", *sizes, "pretrain_iterations=2", "pretrain_batch_size=4", *more),
        ]

    def file(self, folder, number):
        return sorted((self.data / folder).iterdir())[number]


@pytest.fixture
def video(tmp_path, capsys):
    place = VideoPlace(tmp_path, capsys)
    trees.write_camvid(place.data, n=12, size=(64, 48))
    return place


def set_label(path, value):
    labels = np.array(Image.open(path))
    labels[7, 5] = value
    Image.fromarray(labels).save(path)


def keep(place, *numbers):
    """Leaves these training frames and no others."""
    for folder in ("train", "trainannot"):
        for number, path in enumerate(sorted((place.data / folder).iterdir())):
            if number not in numbers:
                path.unlink()


CAMVID_FAULTS = {
    "label value outside the classes": (
        lambda p: set_label(p.file("trainannot", 3), 12),
        r"trainannot/\S+.png: the pixel x 5, y 7 has the value 12; a label is one of 0 to 11",
    ),
    "label of another size": (
        lambda p: Image.open(p.file("trainannot", 2)).resize((32, 24)).save(p.file("trainannot", 2)),
        r"the label file \S+ has 32 x 24 pixels, its image \S+ has 64 x 48",
    ),
    "label file missing": (
        lambda p: p.file("trainannot", 4).unlink(),
        r"the image \S+/train/\S+.png has no label file \S+/trainannot/",
    ),
    "labels in colours": (
        lambda p: Image.open(p.file("trainannot", 1)).convert("RGB").save(p.file("trainannot", 1)),
        r"the label file \S+ has pixels of mode RGB; labels are class numbers in one channel of 8 bits",
    ),
    "no run of three frames": (
        lambda p: keep(p, 0, 1, 6, 7),
        r"data: its train set has no run of 3 consecutive frames, which a sequence needs \(setting 'sequence_length'\);"
        r" the longest is of 2",
    ),
    "one sequence": (
        lambda p: keep(p, 0, 1, 2),
        r"data: meta-train and meta-val need a sequence of 3 frames each .* that share no frame, .* only 1 sequence",
    ),
    "nothing but void": (
        lambda p: [Image.new("L", (64, 48), 11).save(path) for path in (p.data / "trainannot").iterdir()],
        r"data: all of meta-val is void, so nothing can be scored; use another --seed or more data",
    ),
    "two layouts": (
        lambda p: (p.data / "gtFine").mkdir(),
        r"data has more than one video layout, CamVid and Cityscapes; ",
    ),
}


@pytest.mark.parametrize("fault", CAMVID_FAULTS)
def test_bad_camvid_data(video, fault):
    damage, message = CAMVID_FAULTS[fault]
    damage(video)
    video.assert_refused(message)


def test_a_cityscapes_tree_without_the_frames_before_the_annotated_ones(video):
    shutil.rmtree(video.data)
    trees.write_cityscapes(video.data, n=6)
    missing = video.file("leftImg8bit_sequence/train/aachen", 0)
    assert missing.stem.endswith("000018_leftImg8bit")
    missing.unlink()
    video.assert_refused(
        r"the frame before \S+_000019_leftImg8bit.png is missing, \S+_000018_leftImg8bit.png; download Cityscapes'"
    )
    shutil.rmtree(video.data / "leftImg8bit_sequence")
    video.assert_refused(r"there is no folder \S+/leftImg8bit_sequence/train; download Cityscapes' package")


STATIC_FAULTS = {
    "missing": (lambda path: None, r"there is no weights file \S+/static.pth"),
    "not weights": (lambda path: path.write_text("hello"), r"static.pth cannot be read: "),
    "code": (lambda path: torch.save({"a": Place}, path), r"static.pth holds more than tensors and is not loaded"),
    "of another network": (
        lambda path: torch.save({"fc.weight": torch.zeros(2)}, path),
        r"static.pth: the weights of 'body.\S+' are missing; they are not of this network",
    ),
    "of other classes": (
        lambda path: torch.save(build_segmenter(ARCH2, "tiny", num_classes=19, width=8).state_dict(), path),
        r"static.pth: 'decoder.classifier.weight' has shape \(19, 8, 3, 3\), this network needs \(11, 8, 3, 3\)",
    ),
    "of another width": (
        lambda path: torch.save(build_segmenter(ARCH2, "tiny", width=16).state_dict(), path),
        r"static.pth: 'decoder\S+' has shape \(16, \S.*\), this network needs \(8, ",
    ),
    "not numbers": (
        lambda path: torch.save(
            {k: v * torch.nan for k, v in build_segmenter(ARCH2, "tiny", width=8).state_dict().items()}, path
        ),
        r"stage video_cell cannot be prepared: the feature map C3 has values beyond float16, or not a number",
    ),
}


@pytest.mark.parametrize("fault", STATIC_FAULTS)
def test_bad_weights_of_the_static_network(video, fault):
    damage, message = STATIC_FAULTS[fault]
    damage(video.root / "static.pth")
    video.assert_refused(message, "--static", video.root / "static.pth")


def test_mended_video_data_run_after_a_refusal(video):
    calm, _ = video.runs("--cache-dir", video.root / "calm")
    path = video.file("trainannot", 3)
    whole = path.read_bytes()
    set_label(path, 99)
    video.assert_refused("has the value 99; a label is one of 0 to 11")
    path.write_bytes(whole)
    assert video.runs() == (calm, [])
