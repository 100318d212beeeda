"""``nas-predict`` and `nas.load`: photographs, folders, videos; boxes and classes drawn, JSON; what cannot be read."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
import trees
from PIL import Image
from promoting_parts import VIDEO, run, the
from pycocotools import mask
from safetensors.torch import save_file

import nas
from experiments.video.evaluation import predictions
from nas.cli import predict as predict_command
from nas.cli import promote as promote_command
from nas.predicting.sources import opened
from nas.predicting.trained import find
from proxy_tasks.data.video import open_video
from search_spaces import InputError

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A detector trained for a moment on a Pascal VOC tree."""
    root = tmp_path_factory.mktemp("trained")
    data = trees.write_voc(root / "voc", n=4, n_test=2)
    recipe = ("--recipe", "fcos_small", "--iterations", "3", "--device", "cpu", "--backbone-weights", "none")
    sizes = ("--set", "min_size=64", "min_size_least=64", "max_size=96", "batch_size=2", "backbone=tiny", "width=16")
    run(promote_command.main, "fpn_fcos", *recipe, *sizes, "--data", data, "--out", root / "promoted")
    return root


@pytest.fixture
def place(trained):
    """Its folder."""
    return the(trained / "promoted", "*-fcos_small-*")


@pytest.fixture
def sure(monkeypatch):
    """Detections of any score are drawn, since a moment's training gives no high ones."""
    monkeypatch.setattr("experiments.detection.pictures.LEAST_SCORE", 0.0)


def write_video(path, frames, rate=5):
    """Frames uint8 (H, W, 3) as an MP4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def moving(count=6, size=(64, 96)):
    """A bright square that moves to the right."""
    frames = np.full((count, *size, 3), 90, np.uint8)
    for number, frame in enumerate(frames):
        frame[20:44, 8 * number : 8 * number + 24] = (230, 40, 40)
    return frames


def predicted(out):
    """Results and images of a prediction."""
    return (json.loads((out / f"{name}.json").read_text()) for name in ("predictions", "images"))


def test_two_lines_of_python(trained, place):
    detector = nas.load(place)
    found = detector.predict(torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8))
    assert set(found) == {"boxes", "scores", "labels"}
    assert detector.classes == list(trees.CLASSES)
    assert not detector.network.training
    again = nas.load(place / "weights.safetensors").network.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in detector.network.state_dict().items())


@pytest.mark.usefixtures("sure")
def test_what_is_found_is_what_was_measured(trained, place, tmp_path):
    """The test images, from their files: the same detections as the training wrote when it measured."""
    names = (trained / "voc" / "ImageSets" / "Main" / "test.txt").read_text().split()
    folder = tmp_path / "images"
    folder.mkdir()
    for name in names:
        shutil.copy(trained / "voc" / "JPEGImages" / f"{name}.jpg", folder)
    run(predict_command.main, place, "--input", folder, "--out", tmp_path / "out", "--device", "cpu")
    rows, about = predicted(tmp_path / "out")
    assert [image["file_name"] for image in about["images"]] == [f"{name}.jpg" for name in names]
    assert [category["name"] for category in about["categories"]] == list(trees.CLASSES)
    measured = json.loads((place / "detections.json").read_text())
    per_image = [[row for row in rows if row["image_id"] == number] for number in (1, 2)]
    ids = list(dict.fromkeys(row["image_id"] for row in measured))
    for image_id, ours in zip(ids, per_image, strict=True):
        theirs = [row for row in measured if row["image_id"] == image_id]
        # that was measured with the threshold in place
        for one, other in zip(theirs, ours, strict=False):
            assert one["category_id"] == other["category_id"]
            assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
    for name in names:
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert picture.size == (96, 64)


def test_one_image_turned_as_its_camera_was_held(place, tmp_path):
    image = Image.fromarray(moving(1)[0])
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "upright.jpg", exif=exif)
    run(predict_command.main, place, "--input", tmp_path / "upright.jpg", "--out", tmp_path / "out")
    with Image.open(tmp_path / "out" / "upright.png") as picture:
        assert picture.size == (64, 96)


def test_images_of_one_name(place, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for suffix in ("jpg", "png"):
        Image.fromarray(moving(1)[0]).save(folder / f"same.{suffix}")
    run(predict_command.main, place, "--input", folder, "--out", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"same.png", "same.png.png"}


def test_a_video(place, tmp_path, capsys):
    write_video(tmp_path / "clip.mp4", moving())
    run(predict_command.main, place, "--input", tmp_path / "clip.mp4", "--out", tmp_path / "out")
    assert "6 images, " in capsys.readouterr().out
    _, about = predicted(tmp_path / "out")
    assert [image["file_name"] for image in about["images"]] == [f"clip-{number:06d}" for number in range(6)]
    with av.open(str(tmp_path / "out" / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (96, 64, Fraction(5))
        assert sum(1 for _ in container.decode(stream)) == 6


def test_frames_of_a_clip_carry_the_cell(cells, home, tmp_path):
    """A folder of frames gives what the evaluation of whole clips gives; the classes' pixels are in the JSON."""
    run(promote_command.main, cells, *VIDEO)
    data = open_video(str(home / "data"), "test")
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in data.clips[0]:
        pixels = data.image(index).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    run(predict_command.main, cells, "--input", folder, "--out", tmp_path / "out")
    rows, _ = predicted(tmp_path / "out")
    segmenter = nas.load(cells)
    network, interval = segmenter.network, segmenter.player.keyframe_interval
    whole = predictions(network, data, segmenter.player.scale, interval, torch.device("cpu"))
    for number, index in enumerate(data.clips[0], start=1):
        at, expected = next(whole)
        assert at == index
        found = np.full(expected.shape, 255)
        for row in (row for row in rows if row["image_id"] == number):
            found[mask.decode(row["segmentation"]).astype(bool)] = row["category_id"] - 1
        assert np.array_equal(found, expected.numpy())
    assert (tmp_path / "out" / f"{data.clips[0][0]:03d}.png").exists()


def test_the_weights_that_are_named_are_used(place, tmp_path):
    """Of a folder with weights of several moments."""
    own = shutil.copytree(place, tmp_path / "own")
    state = {name: torch.zeros_like(value) for name, value in nas.load(place).network.state_dict().items()}
    save_file(state, own / "last.safetensors")
    assert all(not value.any() for value in nas.load(own / "last.safetensors").network.state_dict().values())
    assert any(value.any() for value in nas.load(own).network.state_dict().values())


def test_a_run_s_own_training_comes_before_the_recorded_place(cells, tmp_path):
    """What is copied with a run is used there; where it is ambiguous or gone, it is said."""
    run(promote_command.main, cells, *VIDEO)
    copy = shutil.copytree(cells, tmp_path / "copy")
    assert find(copy).weights.is_relative_to(copy)
    shutil.rmtree(copy / "promoted")
    assert find(copy).weights.is_relative_to(cells)
    run(promote_command.main, cells, *VIDEO, "--seed", "1")
    with pytest.raises(InputError, match=r"more than once; choose by the weights: .*safetensors or .*safetensors"):
        find(cells)
    shutil.rmtree(cells / "promoted")
    with pytest.raises(InputError, match=r"was trained in full in .*, where its weights.safetensors is gone"):
        find(copy)


def test_what_was_found_before_a_damaged_image_is_kept(place, tmp_path, capsys):
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(moving(1)[0]).save(folder / name)
    (folder / "a.jpg").mkdir()  # no image, though it is called like one
    run(predict_command.main, place, "--input", folder, "--out", out)
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:60])
    assert predict_command.main([str(place), "--input", str(folder), "--out", str(out)]) == 2
    assert "b.png cannot be decoded: " in capsys.readouterr().err
    rows, about = predicted(out)
    assert [image["file_name"] for image in about["images"]] == ["a.png"]
    assert {row["image_id"] for row in rows} <= {1}
    (folder / "a.png").write_bytes(b"")
    assert predict_command.main([str(place), "--input", str(folder), "--out", str(out)]) == 2
    assert not (out / "predictions.json").exists()  # of images that were not looked at


def test_bad_input(trained, place, tmp_path, capsys):
    def told(what, source, out=tmp_path / "out"):
        assert predict_command.main([str(what), "--input", str(source), "--out", str(out)]) == 2
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (tmp_path / "file").write_text("")
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.png")
    (tmp_path / "taken" / "a000.png").mkdir(parents=True)
    image = the(trained / "voc" / "JPEGImages", "a000.jpg")
    assert "is neither a full training's folder, nor weights in one, nor a run" in told(tmp_path / "empty", image)
    assert "there is no image, folder, video or camera 'nothing'" in told(place, "nothing")
    assert "has no images; .bmp, .jpeg" in told(place, tmp_path / "empty")
    assert "text.mp4 cannot be opened: " in told(place, tmp_path / "text.mp4")
    assert "broken.png cannot be decoded: " in told(place, tmp_path / "broken.png")
    assert "deep.png has pixels of mode I;16; 8 bits a channel are read" in told(place, tmp_path / "deep.png")
    assert "the input is an empty text" in told(place, "")
    assert f"cannot read or write {tmp_path / 'taken' / 'a000.png'}: " in told(place, image, tmp_path / "taken")
    assert "cannot write to the folder" in told(place, image, tmp_path / "file" / "out")
    assert "is where the input lies, whose files it could write over" in told(place, image, image.parent)
    half = shutil.copytree(place, tmp_path / "half")
    result = json.loads((half / "result.json").read_text())
    (half / "result.json").write_text(json.dumps({**result, "classes": ["one"]}))
    assert "'head.cls_logits.weight' has shape" in told(half, image)
    for name, content, said in [
        ("result", {**result, "classes": [1, 2]}, "result.json does not name the classes by a list, got [1, 2]"),
        ("job", {"format": 1, "recipe": []}, "job.json: key 'recipe' must be a JSON object, got []"),
    ]:
        (half / f"{name}.json").write_text(json.dumps(content))
        assert said in told(half, image)
        shutil.copy(place / f"{name}.json", half)
    (half / "notes.txt").write_text("")
    assert "notes.txt is neither a full training's folder, nor weights in one" in told(half / "notes.txt", image)
    (half / "weights.safetensors").unlink()
    assert told(half, image).endswith(f"there is no weights file {half / 'weights.safetensors'}\n")
    (half / "result.json").unlink()
    assert "is not finished; go on with it by nas-promote … --resume" in told(half, image)


def test_a_video_that_breaks_off(tmp_path):
    """A sentence, after the frames before the damage."""
    path = write_video(
        tmp_path / "whole.mp4", np.random.default_rng(0).integers(0, 256, (30, 64, 96, 3), dtype=np.uint8)
    )
    content = bytearray(path.read_bytes())
    start = content.find(b"mdat") + 3000
    content[start : start + 6000] = bytes(6000)
    path.write_bytes(bytes(content))
    given = []
    with opened(str(path)) as source, pytest.raises(InputError, match=r"whole\.mp4 cannot be decoded after frame"):
        given.extend(source.frames)
    assert len(given) < 30
