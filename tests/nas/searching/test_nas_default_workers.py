"""The worker processes of a search that names none: one a core for the command, none for the library."""

import pytest
import torch
from places import FAST

from nas.cli import search as search_command
from nas.searching.plan import resolve, with_workers
from nas.settings import SearchSettings


def decided(**settings):
    return resolve(with_workers(SearchSettings(**{"space": "fcos_fpn", "device": "cpu", **settings}))).workers


@pytest.fixture
def cores(monkeypatch):
    return lambda number: monkeypatch.setattr("proxy_tasks.cpus.usable_cpus", lambda: number)


@pytest.mark.parametrize(
    ("number", "trials", "workers"),
    [
        (1, 1000, 0),
        (2, 1000, 2),
        (6, 1000, 6),
        (64, 1000, 8),
        (6, 19, 3),
        (2, 9, 0),
        (2, 10, 2),
        (4, (8, 15), 3),
        (8, None, 6),  # the preset's 30
    ],
)
def test_a_command_starts_one_a_core_as_far_as_there_are_trials(cores, number, trials, workers):
    cores(number)
    space = "fcos_decoder" if isinstance(trials, tuple) else "fcos_fpn"
    assert decided(space=space, trials=trials) == workers


def test_what_is_asked_for_stays(cores):
    cores(4)
    assert decided(workers=0, trials=100) == 0
    assert decided(workers=3, trials=1) == 3


def test_latencies_are_measured_with_nothing_beside_them(cores):
    cores(4)
    assert decided(trials=100, target="latency_ms=12") == 0
    assert decided(trials=100, target="macs=1G") == 4


def test_on_a_gpu_trials_stay_in_this_process(cores, monkeypatch):
    cores(4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert decided(device="auto", trials=100) == 0


def test_the_library_starts_none_unasked(cores):
    cores(4)
    settings = SearchSettings(space="fcos_fpn", device="cpu", trials=100)
    assert resolve(settings).workers == 0


def test_a_run_keeps_its_workers_wherever_it_goes_on(cores, tmp_path, monkeypatch):
    """Resuming does not ask this machine anew: the run is in its own process as it was, or with its workers."""
    given = []
    monkeypatch.setattr("nas.searching.search.run_stages", lambda run, settings, *_: given.append(settings.workers))
    cores(1)
    flags = [*FAST, "--out", str(tmp_path / "run")]
    assert search_command.main([*flags, "--trials", "40"]) == 0
    cores(4)
    assert search_command.main(["--resume", str(tmp_path / "run")]) == 0
    assert given == [0, 0]
