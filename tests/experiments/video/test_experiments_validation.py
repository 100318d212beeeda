"""Held-out frames: the weights that did best on them are the result."""

import pytest
import safetensors.torch
import torch
from video_parts import build, cell, noise, video_recipe

from experiments.job_folder import save_weights
from experiments.promotion import JobOptions
from experiments.video import jobs
from experiments.video.jobs import train_video


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    monkeypatch.setattr("experiments.video.evaluation.median_milliseconds", lambda run, device: 1.0)


def told(*_):
    """Progress that nobody sees."""


@pytest.mark.parametrize("highest", [1, 3])
def test_the_weights_that_did_best_on_held_out_frames_are_the_result(tmp_path, monkeypatch, highest):
    static = tmp_path / "static.safetensors"
    save_weights(build(), static)
    data, seen, merits = noise(12, size=(40, 48)), [], iter([0.1, 0.1, 0.1])
    monkeypatch.setattr(jobs, "open_video", lambda *_, **__: data)
    evaluate = jobs.evaluate

    def measured(network, part, *others):
        figures, kept = evaluate(network, part, *others)
        if part is not data:
            seen.append(({name: value.clone() for name, value in network.state_dict().items()}, len(part)))
            figures["miou"] = next(merits) + (len(seen) == highest)
        return figures, kept

    monkeypatch.setattr(jobs, "evaluate", measured)
    chosen = JobOptions(data="memory", iterations=2, static=str(static))
    recipe = video_recipe(cell_epochs=1, batch_size=8, validate_every=1)
    train_video(tmp_path / "job", cell(), recipe, chosen, False, told)
    assert len(seen) == 3
    assert all(0 < frames < 12 for _, frames in seen)
    best, last = (safetensors.torch.load_file(tmp_path / "job" / f"{name}.safetensors") for name in ("weights", "last"))
    for name, value in best.items():
        assert torch.equal(value, seen[highest - 1][0][name]), name
    assert all(torch.equal(value, seen[-1][0][name]) for name, value in last.items())
    assert (tmp_path / "job" / "validation.csv").read_text().count("\n") == 4
