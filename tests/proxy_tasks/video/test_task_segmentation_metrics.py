"""Segmentation metrics against loops over pixels, sets of pixels and SciPy's distance transform."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from proxy_tasks.data.video.base import VOID
from proxy_tasks.video.metrics import TRIMAP_WIDTH, Segmentation, SegmentationMeter, confusion, trimap

CLASSES = 4
NAN = float("nan")
SHAPES = hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)
LABELS = hnp.arrays(np.uint8, SHAPES, elements=st.sampled_from([*range(CLASSES), VOID]))


@st.composite
def predictions_and_labels(draw):
    labels = draw(LABELS)
    predictions = draw(hnp.arrays(np.uint8, labels.shape, elements=st.integers(0, CLASSES - 1)))
    return torch.from_numpy(predictions), torch.from_numpy(labels)


def counted(predictions, labels, classes):
    matrix = torch.zeros(classes, classes, dtype=torch.int64)
    for predicted, truth in zip(predictions.flatten().tolist(), labels.flatten().tolist(), strict=True):
        if truth != VOID:
            matrix[truth, predicted] += 1
    return matrix


def measured(predictions, labels, classes):
    """The metrics from sets of pixels, with no confusion matrix."""
    kept = labels != VOID
    predictions, labels = predictions[kept], labels[kept]
    ious, recalls, weighted = [], [], 0.0
    for label in range(classes):
        truth, predicted = labels == label, predictions == label
        both, either = int((truth & predicted).sum()), int((truth | predicted).sum())
        ious.append(both / either if either else NAN)
        if truth.any():
            recalls.append(both / int(truth.sum()))
            weighted += int(truth.sum()) * both / either
    present = [iou for iou in ious if not math.isnan(iou)]
    if not len(labels):
        return ious, NAN, NAN, NAN, NAN
    right = float((predictions == labels).double().mean())
    return ious, sum(present) / len(present), weighted / len(labels), sum(recalls) / len(recalls), right


def band_by_scipy(labels, width):
    """From SciPy's exact distance to the nearest pixel of another class."""
    band = np.zeros(labels.shape, bool)
    for label in set(np.unique(labels)) - {VOID}:
        others = (labels != label) & (labels != VOID)
        if others.any():
            band |= (labels == label) & (ndimage.distance_transform_edt(~others) <= width)
    return band


def band_by_loops(labels, width):
    pixels = list(np.ndindex(labels.shape))
    known = [pixel for pixel in pixels if labels[pixel] != VOID]
    band = np.zeros(labels.shape, bool)
    for own in known:
        band[own] = any(labels[own] != labels[other] and math.dist(own, other) <= width for other in known)
    return band


# --- confusion ---


@settings(max_examples=60, deadline=None)
@given(
    pair=predictions_and_labels(),
    dtypes=st.tuples(*[st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64])] * 2),
)
def test_confusion_counts_pixels(pair, dtypes):
    predictions, labels = pair
    matrix = confusion(predictions.to(dtypes[0]), labels.to(dtypes[1]), CLASSES)
    assert matrix.dtype == torch.int64
    assert torch.equal(matrix, counted(predictions, labels, CLASSES))


def test_confusion_has_the_truth_in_rows():
    matrix = confusion(torch.tensor([[1, 1, 2]]), torch.tensor([[0, 0, 2]]), 3)
    assert matrix.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_many_classes_of_uint8_do_not_overflow():
    labels = torch.arange(200, dtype=torch.uint8).reshape(1, 200)
    matrix = confusion(labels.flip(1), labels, 200)
    assert torch.equal(matrix, torch.eye(200, dtype=torch.int64).flip(1))


def test_a_prediction_is_free_where_the_truth_is_void():
    predictions = torch.tensor([[7, 255, 0]], dtype=torch.uint8)
    assert confusion(predictions, torch.tensor([[VOID, VOID, 1]]), 2).tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize(
    ("predictions", "labels", "message"),
    [
        ([[0, 2]], [[0, 0]], "count from 0 to 1"),  # would be the next row's cell
        ([[0, -1]], [[1, 1]], "count from 0 to 1"),
        ([[0, 0]], [[0, 2]], "count from 0 to 1"),
        ([[0, 0]], [[0, -1]], "count from 0 to 1"),
        ([[0, VOID]], [[0, 1]], "count from 0 to 1"),
        ([[0, 0]], [[0], [0]], r"predictions \(1, 2\), labels \(2, 1\)"),
        ([[0.0, 1.0]], [[0, 1]], "integers"),
    ],
)
def test_confusion_refuses_what_is_no_class(predictions, labels, message):
    with pytest.raises(AssertionError, match=message):
        confusion(torch.tensor(predictions), torch.tensor(labels), 2)


# --- the metrics ---


@settings(max_examples=100, deadline=None)
@given(pair=predictions_and_labels())
def test_metrics_are_those_of_sets_of_pixels(pair):
    found = Segmentation.of(confusion(*pair, CLASSES))
    iou, miou, fwiou, macc, gacc = measured(*pair, CLASSES)
    assert found.iou == pytest.approx(iou, nan_ok=True)
    assert [found.miou, found.fwiou, found.macc, found.gacc] == pytest.approx([miou, fwiou, macc, gacc], nan_ok=True)
    assert found.score == pytest.approx((miou * fwiou * macc) ** (1 / 3), nan_ok=True)


def test_metrics_by_hand():
    # Class 0: 3 pixels, 2 found; class 1: 1 pixel, found; class 2: never there, once predicted; class 3: nowhere.
    found = Segmentation.of(torch.tensor([[2, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]))
    assert found.iou == pytest.approx((2 / 3, 1.0, 0.0, NAN), nan_ok=True)
    assert found.miou == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.fwiou == pytest.approx((3 * 2 / 3 + 1) / 4)
    assert found.macc == pytest.approx((2 / 3 + 1) / 2)
    assert found.gacc == pytest.approx(3 / 4)
    assert found.score == pytest.approx((5 / 9 * 3 / 4 * 5 / 6) ** (1 / 3))


def test_counts_of_a_whole_set_keep_their_precision():
    many = 2**40  # far beyond float32
    found = Segmentation.of(torch.tensor([[many, 1], [0, many]]))
    assert found.gacc == pytest.approx(2 * many / (2 * many + 1), rel=1e-15)
    assert found.iou[0] < 1.0


@settings(max_examples=30, deadline=None)
@given(labels=LABELS.filter(lambda labels: (labels != VOID).any()))
def test_the_truth_itself_scores_one(labels):
    labels = torch.from_numpy(labels)
    found = Segmentation.of(confusion(labels.masked_fill(labels == VOID, 0), labels, CLASSES))
    assert (found.miou, found.fwiou, found.macc, found.gacc, found.score) == (1.0,) * 5


def test_nothing_to_measure_is_nan():
    found = Segmentation.of(torch.zeros(3, 3, dtype=torch.int64))
    values = (*found.iou, found.miou, found.fwiou, found.macc, found.gacc, found.score)
    assert all(math.isnan(value) for value in values)


# --- the trimap ---


@settings(max_examples=100, deadline=None)
@given(
    labels=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=24),
        elements=st.sampled_from([0, 0, 0, 1, 18, VOID]),
    ),
    width=st.integers(1, 7),
)
def test_trimap_is_scipys_distance(labels, width):
    np.testing.assert_array_equal(trimap(torch.from_numpy(labels), width).numpy(), band_by_scipy(labels, width))


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_trimap_of_regions_is_that_of_loops(width):
    rng = np.random.default_rng(width)
    labels = np.kron(rng.choice([0, 1, 2, VOID], (3, 4)), np.ones((5, 4))).astype(np.uint8)
    np.testing.assert_array_equal(trimap(torch.from_numpy(labels), width).numpy(), band_by_loops(labels, width))


def test_a_straight_boundary_has_its_width_on_each_side():
    labels = torch.zeros(5, 20, dtype=torch.uint8)
    labels[:, 10:] = 1
    assert trimap(labels, 3)[2].nonzero().flatten().tolist() == [7, 8, 9, 10, 11, 12]


def test_a_corner_is_round():
    labels = torch.zeros(9, 9, dtype=torch.int64)
    labels[4, 4] = 1
    rows, columns = torch.meshgrid(torch.arange(9) - 4, torch.arange(9) - 4, indexing="ij")
    assert torch.equal(trimap(labels, 3), rows**2 + columns**2 <= 9)


def test_void_makes_no_boundary_but_hides_none():
    row = [0] * 6 + [VOID] * 3 + [0] * 6  # void within a class
    assert not trimap(torch.tensor([row]), 3).any()
    row = [0] * 6 + [VOID] * 2 + [1] * 6  # two classes, 3 pixels from each other
    assert trimap(torch.tensor([row]), 3)[0].nonzero().flatten().tolist() == [5, 8]
    row = [0] * 6 + [VOID] * 3 + [1] * 6  # out of reach
    assert not trimap(torch.tensor([row]), 3).any()


def test_one_class_or_only_void_has_no_band():
    for value in (0, 3, VOID):
        assert not trimap(torch.full((2, 8, 8), value, dtype=torch.uint8), 3).any()


def test_frames_of_a_batch_do_not_meet():
    labels = torch.randint(0, 2, (2, 3, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels[0] = 1
    labels[1, :, 3:] = 0
    band = trimap(labels, 2)
    assert band.any()
    for clip in range(2):
        for frame in range(3):
            assert torch.equal(band[clip, frame], trimap(labels[clip, frame], 2))


def test_a_band_of_no_pixels_is_refused():
    with pytest.raises(AssertionError, match="0 pixels"):
        trimap(torch.zeros(4, 4, dtype=torch.uint8), 0)


# --- the meter ---


def frames(seed, count):
    """Frames of 40 x 30 pixels: blocks of classes with void between, and predictions that err here and there."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 1, 2, 3, VOID], (count, 4, 3), p=[0.4, 0.3, 0.15, 0.05, 0.1])
    labels = np.kron(blocks, np.ones((1, 10, 10))).astype(np.uint8)
    wrong = rng.random(labels.shape) < 0.3
    predictions = np.where(wrong | (labels == VOID), rng.integers(0, CLASSES, labels.shape), labels)
    return torch.from_numpy(predictions.astype(np.uint8)), torch.from_numpy(labels)


def assert_same(one, other):
    assert one.iou == pytest.approx(other.iou, nan_ok=True)
    values = [(each.miou, each.fwiou, each.macc, each.gacc) for each in (one, other)]
    assert values[0] == pytest.approx(values[1], nan_ok=True)


def test_the_meter_measures_everywhere_and_in_the_band():
    predictions, labels = frames(0, 5)
    meter = SegmentationMeter(CLASSES)
    meter.update(predictions, labels)
    everywhere, near = meter.result()
    assert_same(everywhere, Segmentation(tuple((whole := measured(predictions, labels, CLASSES))[0]), *whole[1:]))
    band = torch.from_numpy(np.stack([band_by_scipy(frame.numpy(), TRIMAP_WIDTH) for frame in labels]))
    inside = measured(predictions[band], labels[band], CLASSES)
    assert_same(near, Segmentation(tuple(inside[0]), *inside[1:]))
    assert near.miou != pytest.approx(everywhere.miou, abs=1e-4)


def test_how_frames_are_batched_does_not_matter():
    predictions, labels = frames(1, 6)
    single, batched = SegmentationMeter(CLASSES, 2), SegmentationMeter(CLASSES, 2)
    for frame in (3, 0, 5, 1, 4, 2):
        single.update(predictions[frame], labels[frame])
    batched.update(predictions[:2].reshape(1, 2, 40, 30), labels[:2].reshape(1, 2, 40, 30))
    batched.update(predictions[2:], labels[2:])
    for one, other in zip(single.result(), batched.result(), strict=True):
        assert_same(one, other)


def test_metrics_are_of_the_set_not_means_over_frames():
    meter = SegmentationMeter(2)
    meter.update(torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.uint8))
    meter.update(torch.zeros(2, 4, dtype=torch.uint8), torch.ones(2, 4, dtype=torch.uint8))
    everywhere, near = meter.result()
    assert everywhere.iou == pytest.approx((16 / 24, 0.0))
    assert everywhere.gacc == pytest.approx(16 / 24)
    assert math.isnan(near.miou)  # no frame has a boundary


def test_the_labels_are_left_as_they_were():
    predictions, labels = frames(2, 2)
    kept = predictions.clone(), labels.clone()
    SegmentationMeter(CLASSES).update(predictions, labels)
    assert torch.equal(predictions, kept[0])
    assert torch.equal(labels, kept[1])
