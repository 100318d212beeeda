"""What the video task computes once: the reduced frames and the static network's outputs."""

from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from video_sets import Noise

from proxy_tasks.data.video.base import VOID
from proxy_tasks.images import IMAGE_MEAN, IMAGE_STD
from proxy_tasks.task import Diverged
from proxy_tasks.video import frames as video_frames
from proxy_tasks.video.frames import Frames, StaticOutputs, shrunk
from proxy_tasks.video.network import build_segmenter
from search_spaces import Architecture


def nothing(done, total):
    pass


def nearest(labels, size):
    """Every pixel of the result takes the pixel that its centre falls into."""
    rows, columns = (
        [int((i + 0.5) * have / want) for i in range(want)] for have, want in zip(labels.shape, size, strict=True)
    )
    return torch.tensor([[int(labels[y, x]) for x in columns] for y in rows], dtype=labels.dtype)


@pytest.mark.parametrize("size", [(40, 56), (20, 28), (13, 17), (5, 7)])
def test_labels_shrink_to_the_pixel_under_each_centre(size):
    labels = Noise([1]).labels(0)
    assert torch.equal(shrunk(labels[None], size)[0], nearest(labels, size))


SIZES = [(60, 80), (40, 56), (90, 61)]  # no centre of a reduced pixel falls between two pixels


@pytest.fixture
def data():
    return Noise([2, 3, 2], sizes=SIZES, labelled=[True, False, True, True, True, True, False])


def frames_of(data, tmp_path, long_side=64, crop=(36, 50), seed=0):
    return Frames(data, long_side, crop, seed, tmp_path, nothing)


def reduced_slowly(data, index, long_side=64):
    """Image (H, W, 3) by Pillow and labels at the reduced size."""
    height, width = data.size(index)
    factor = min(1.0, long_side / max(height, width))
    size = round(height * factor), round(width * factor)
    picture = Image.fromarray(data.image(index).permute(1, 2, 0).numpy())
    image = np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))
    labels = data.labels(index) if data.annotated[index] else torch.full(data.size(index), VOID, dtype=torch.uint8)
    return image.astype(int), nearest(labels, size).numpy()


def places(window, whole):
    """Every (top, left) at which ``window`` lies in ``whole``, give or take the rounding of one grey level."""
    height, width = window.shape[:2]
    rows, columns = range(whole.shape[0] - height + 1), range(whole.shape[1] - width + 1)
    return {(y, x) for y in rows for x in columns if (abs(whole[y : y + height, x : x + width] - window) <= 1).all()}


def test_frames_are_reduced_and_cropped_at_one_place_a_clip(data, tmp_path):
    frames = frames_of(data, tmp_path)
    assert (len(frames), frames.size) == (7, (36, 50))
    images, labels = frames.images(np.arange(7)), frames.labels(np.arange(7))
    assert images.shape == (7, 3, 36, 50)
    assert images.is_contiguous(memory_format=torch.channels_last)
    found = []
    for clip in data.clips:
        shared = None
        for index in clip:
            image, expected = reduced_slowly(data, index)
            height, width = min(36, image.shape[0]), min(50, image.shape[1])
            window = images[index, :, :height, :width].permute(1, 2, 0).numpy().astype(int)
            at = {
                (y, x)
                for y, x in places(window, image)
                if (expected[y : y + height, x : x + width] == labels[index, :height, :width].numpy()).all()
            }
            shared = at if shared is None else shared & at
        assert len(shared) == 1
        found += shared
    assert len(set(found)) > 1


def test_what_a_narrow_frame_lacks_is_the_mean_colour_and_void(data, tmp_path):
    frames = frames_of(data, tmp_path)
    narrow = np.array([5, 6])  # 64 x 43 once reduced
    images, labels = frames.images(narrow), frames.labels(narrow)
    mean = torch.tensor([round(255 * value) for value in IMAGE_MEAN], dtype=torch.uint8)
    assert (images[:, :, :, 43:] == mean[:, None, None]).all()
    assert (labels[:, :, 43:] == VOID).all()
    assert (labels[0, :, :43] != VOID).any()
    assert (labels[1] == VOID).all()  # not annotated


def test_a_crop_is_no_larger_than_the_largest_frame_and_keeps_all_of_it(data, tmp_path):
    frames = frames_of(data, tmp_path, long_side=500, crop=(600, 600))
    assert frames.size == (90, 80)
    for index in range(7):
        height, width = data.size(index)
        assert torch.equal(frames.images(np.array([index]))[0, :, :height, :width], data.image(index))


def test_places_follow_from_the_seed(data, tmp_path):
    whole = np.arange(7)
    first, again, other = (frames_of(data, tmp_path / name, seed=s) for name, s in (("a", 1), ("b", 1), ("c", 2)))
    assert torch.equal(first.images(whole), again.images(whole))
    assert not torch.equal(first.images(whole), other.images(whole))
    assert first.key == again.key != other.key


def test_every_clip_has_a_place_of_its_own(tmp_path):
    data, image = Noise([1] * 6, sizes=[(60, 80)] * 6), Noise([1], sizes=[(60, 80)]).image(0)
    with mock.patch.object(Noise, "image", return_value=image):
        images = frames_of(data, tmp_path).images(np.arange(6))
    assert len({images[index].numpy().tobytes() for index in range(6)}) > 3


def test_a_second_opening_reads_no_frame(data, tmp_path):
    before = frames_of(data, tmp_path)
    with mock.patch.object(Noise, "image", side_effect=AssertionError("decoded again")):
        assert torch.equal(frames_of(data, tmp_path).images(np.arange(7)), before.images(np.arange(7)))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = build_segmenter(Architecture.of("arch2", ()), "tiny", num_classes=3, width=8)
    network(torch.rand(4, 3, 64, 64) * 4 - 2)  # batch-norm statistics of its own
    return network.to(memory_format=torch.channels_last)


def outputs_of(frames, network, tmp_path):
    return StaticOutputs(frames, network, "hash", tmp_path, torch.device("cpu"), nothing)


def test_outputs_are_those_of_the_static_network_frame_by_frame(data, network, tmp_path):
    frames = frames_of(data, tmp_path)
    outputs = outputs_of(frames, network, tmp_path)
    order = np.array([3, 0, 6])
    maps = outputs.maps(("C3", "C4", "C5", "dec"), order)
    mean, std = (torch.tensor(value)[:, None, None] for value in (IMAGE_MEAN, IMAGE_STD))
    for row, index in enumerate(order):
        image = (frames.images(np.array([index])).float() / 255 - mean) / std
        with torch.inference_mode():
            expected = network.eval().body(image)
            _, (c5, dec) = network.first(image)
        assert torch.equal(c5, expected["C5"])
        for name, value in (expected | {"dec": dec}).items():
            if name != "C2":
                torch.testing.assert_close(maps[name][row], value[0], rtol=2e-3, atol=2e-3)
        small = nearest(frames.labels(np.array([index]))[0], dec.shape[-2:])
        assert torch.equal(outputs.labels(order)[row], small.long())
    for value in maps.values():
        assert value.dtype == torch.float32
        assert value.is_contiguous(memory_format=torch.channels_last)
    assert maps["dec"].shape == (3, 8, 5, 7)


def test_the_batches_of_the_build_do_not_show(data, network, tmp_path):
    frames = frames_of(data, tmp_path)
    stored = []
    for size in (1, 16):
        with mock.patch.object(video_frames, "BUILD_BATCH", size):
            outputs = outputs_of(frames, network, tmp_path / str(size))
        stored.append(outputs.maps(("C3", "dec"), np.arange(7)))
    for name, value in stored[0].items():
        torch.testing.assert_close(value, stored[1][name], rtol=1e-3, atol=1e-3)


def test_values_that_float16_cannot_hold_are_refused(data, network, tmp_path):
    torch.nn.init.constant_(network.decoder.bottleneck[1].bias, 1e6)
    with pytest.raises(Diverged, match="the feature map dec has values beyond float16, or not a number"):
        outputs_of(frames_of(data, tmp_path), network, tmp_path)
    assert list(tmp_path.rglob("*.partial")) == []
