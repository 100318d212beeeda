"""Training steps: what a graph of them replays is what they do."""

import weakref
from functools import partial

import numpy as np
import pytest
import torch
import trees
from recorded import recorded
from test_task_contract import CASES, DATA, prepared
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from experiments import published
from proxy_tasks import precision, stepping, training
from proxy_tasks.stepping import PolyakAverage, TrainingStep, losses_of_steps
from proxy_tasks.video import training as video_training

LONGER = {"fcos": {"iterations": 6}, "masks": {"iterations": 6}, "video": {"epochs": 6}}


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    DATA["masks"] = str(trees.write_coco(tmp_path_factory.mktemp("data"), n=12, size=(80, 64)))
    return str(tmp_path_factory.mktemp("cache"))


def case_of(space):
    name, _, overrides = next(case for case in CASES if case[1] == space)
    return name, space, overrides | LONGER[name]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 3))


IMAGES = torch.randn(20, 2, 8, 8, generator=torch.Generator().manual_seed(0))
BEFORE = torch.backends.cuda.matmul.fp32_precision
BATCHES = torch.randint(0, 20, (8, 4), generator=torch.Generator().manual_seed(1))


def squared(model, rows):
    return model(IMAGES[rows]).square().mean()


def test_the_average_is_that_of_torch():
    model = network()
    ours, average = (
        PolyakAverage(model, 0.9),
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True),
    )
    step = TrainingStep(model, 0.1, partial(squared, model), ours)
    for batch in BATCHES:
        step(batch)
        average.update_parameters(model)
        for name, value in average.module.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(ours.module.state_dict()[name], value)
    assert not ours.module.training
    assert not torch.equal(ours.module[0].weight, model[0].weight)


def test_a_step_is_that_of_adam():
    ours, plain = network(), network()
    adam = torch.optim.Adam(plain.parameters(), lr=0.1)
    step = TrainingStep(ours, 0.1, partial(squared, ours))
    for batch in BATCHES:
        loss = squared(plain, batch)
        adam.zero_grad()
        loss.backward()
        adam.step()
        torch.testing.assert_close(step(batch), loss.detach())
    torch.testing.assert_close(ours.state_dict(), plain.state_dict())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_a_replay_is_a_step(count):
    whole, captured = network(), network()
    losses = list(losses_of_steps(TrainingStep(whole, 0.1, partial(squared, whole)), BATCHES[:count]))
    step = TrainingStep(captured, 0.1, partial(squared, captured))
    assert list(stepping._captured_once(step, BATCHES[:count], recorded)) == losses
    assert all(map(torch.equal, whole.state_dict().values(), captured.state_dict().values()))


def test_each_loss_comes_before_the_next_step():
    model = network()
    steps = stepping._captured_once(TrainingStep(model, 0.1, partial(squared, model)), BATCHES, recorded)
    weights = {tuple(model[0].weight.flatten().tolist()) for _ in steps}
    assert len(weights) == len(BATCHES)


def test_a_step_that_cannot_be_captured_is_run_as_it_is():
    """It reads a value; the warning has the reason in one line."""
    models = network(), network()

    def reading(model, rows):
        return squared(model, rows) * (1 + (IMAGES[rows].sum() > 0).item())

    plain, captured = (TrainingStep(model, 0.1, partial(reading, model)) for model in models)
    with pytest.warns(UserWarning, match=r"^no CUDA graph .*: aten._local_scalar_dense.default is not .* recording$"):
        losses = list(stepping._captured_once(captured, BATCHES, recorded))
    assert losses == [plain(batch) for batch in BATCHES]


def test_where_a_graph_has_no_room_steps_are_run_as_they_are():
    def full(step, example):
        raise torch.OutOfMemoryError("CUDA out of memory")

    models = network(), network()
    plain, captured = (TrainingStep(model, 0.1, partial(squared, model)) for model in models)
    with pytest.warns(UserWarning, match="CUDA out of memory"):
        losses = list(stepping._captured_once(captured, BATCHES, full))
    assert losses == [plain(batch) for batch in BATCHES]


def test_nothing_of_a_capture_that_failed_is_kept():
    """Least of all where memory was short."""
    held = []

    def full(step, example):
        memory = torch.zeros(1)
        held.append(weakref.ref(memory))
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = network()
    steps = stepping._captured_once(TrainingStep(model, 0.1, partial(squared, model)), BATCHES, full)
    with pytest.warns(UserWarning, match="CUDA out of memory"):
        kept = [bool(held) and held[0]() is not None for _ in steps]
    assert held
    assert not any(kept)


@pytest.mark.parametrize("cause", [KeyboardInterrupt(), ValueError("why")])
def test_what_ended_a_capture_is_what_is_told(cause):
    """To leave its stream and to end it fail, too, and would hide that."""

    def interrupted(step, example):
        try:
            try:
                raise cause
            finally:
                raise RuntimeError("a stream of the capture")
        finally:
            raise RuntimeError("the capture is invalid")

    model = network()
    steps = stepping._captured_once(TrainingStep(model, 0.1, partial(squared, model)), BATCHES, interrupted)
    with pytest.raises(KeyboardInterrupt) if isinstance(cause, KeyboardInterrupt) else pytest.warns(match="why$"):
        list(steps)


@pytest.mark.parametrize("space", ["fcos_decoder", "fcos_head", "video_cell", "mask_head", "mask_head_single"])
def test_a_trial_by_replays_is_a_trial(space, cache_dir, monkeypatch):
    """In every family, so that each of their steps can be captured and computes with the same numbers each time."""
    task = prepared(case_of(space), cache_dir)
    architecture = task.space.sample(np.random.default_rng(3))
    expected = list(task.evaluate(architecture))
    replays = 0

    def counted(step, example):
        replay = recorded(step, example)

        def once_more(batch):
            nonlocal replays
            replays += 1
            return replay(batch)

        return once_more

    for module in (training, video_training):
        monkeypatch.setattr(module, "losses_of_steps", partial(stepping._captured_once, capture=counted))
    assert list(task.evaluate(architecture)) == expected
    assert replays >= 3


@pytest.mark.parametrize("space", ["fcos_fpn_c2", "video_cell", "mask_head"])
def test_a_trial_in_bfloat16_scores_nearly_the_same(space, cache_dir, monkeypatch):
    """What a GPU computes with; the features come as what its convolutions take."""
    task = prepared(case_of(space), cache_dir)
    sampled = task.space.sample(np.random.default_rng(3))
    architecture = published.load("nas_fcos") if space == "fcos_fpn_c2" else sampled
    expected, dtypes = list(task.evaluate(architecture)), set()
    monkeypatch.setattr(precision, "_lower", lambda device: torch.bfloat16)
    monkeypatch.setattr(nn.Conv2d, "forward", _noting(dtypes, nn.Conv2d.forward))
    found = list(task.evaluate(architecture))
    assert dtypes == {torch.bfloat16}
    assert [one.reward for one in found] == pytest.approx([one.reward for one in expected], rel=0.1)
    assert found != expected


class _Noted(torch.autograd.Function):
    """Notes how float32 products are computed, forward and backward."""

    @staticmethod
    def forward(ctx, x, found):
        ctx.found = found
        found.append(torch.backends.cuda.matmul.fp32_precision)
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.found.append(torch.backends.cuda.matmul.fp32_precision)
        return gradient, None


@pytest.mark.parametrize(("lower", "within"), [(torch.bfloat16, "tf32"), (None, BEFORE)])
def test_products_that_stay_float32_are_of_tf32_where_a_gpu_has_bfloat16(lower, within, monkeypatch):
    """In a step also backward."""
    monkeypatch.setattr(precision, "_lower", lambda device: lower)
    model, found = network(), []
    TrainingStep(model, 0.1, lambda rows: _Noted.apply(squared(model, rows), found))(BATCHES[0])
    assert found == [within, within]
    assert torch.backends.cuda.matmul.fp32_precision == BEFORE


def test_an_exception_leaves_products_as_they_were(monkeypatch):
    monkeypatch.setattr(precision, "_lower", lambda device: torch.bfloat16)
    with pytest.raises(KeyError), precision.reduced(torch.device("cpu")):
        raise KeyError(torch.backends.cuda.matmul.fp32_precision)
    assert torch.backends.cuda.matmul.fp32_precision == BEFORE


def _noting(dtypes, forward):
    def noted(module, x):
        y = forward(module, x)
        if y.device.type == "cpu":  # elsewhere costs are counted
            dtypes.add(y.dtype)
        return y

    return noted
