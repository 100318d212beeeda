"""Workers share one copy of the cached arrays; on the CPU, by the way that serves GPUs."""

import os
import sys
import time
from functools import partial

import numpy as np
import pytest

import search_spaces
from proxy_tasks import TaskOptions
from proxy_tasks.fcos.task import FCOSTask

SMALL = {"crop": 64, "batch_size": 8, "iterations": 2, "width": "16-32", "pretrain_iterations": 0}


def nothing(what, done, total):
    pass


class Worker:
    def __init__(self, make_task):
        import torch

        torch.set_num_threads(1)
        self.task = make_task()
        self.task.prepare(nothing)

    def reward(self, tokens):
        *_, score = self.task.evaluate(self.task.space.architecture(tokens))
        return score.reward

    def first(self, name, value=None):
        """The first number of an array on the device, after it is set to ``value``."""
        self.task.prepared.cache.rows(name, np.array([0]))
        array = self.task.prepared.cache._placed[name].flatten()
        assert array.is_shared()
        if value is not None:
            array[0] = value
        return float(array[0])

    def visible(self):
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    def release(self):
        self.task.release()
        return len(self.task.prepared.cache._placed)


def ends(ray, actor, seconds=60):
    """Whether an actor that was told to end, or whose owner was, does so in time."""
    for _ in range(10 * seconds):
        try:
            ray.get(actor.__ray_ready__.remote())
        except ray.exceptions.RayActorError:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def ray(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    from nas.searching.engines import ray_actors

    with ray_actors.connected(2, None):
        yield ray_actors.ray


def test_workers_score_on_one_copy_of_the_features(ray, tmp_path):
    from nas.searching.engines.residence import shared, sharing

    make_task = partial(FCOSTask, search_spaces.get("fcos_fpn"), TaskOptions(cache_dir=str(tmp_path), overrides=SMALL))
    with sharing(make_task, "cpu") as unchanged:
        assert unchanged is make_task
    driver = Worker(make_task)
    tokens = driver.task.space.sample(np.random.default_rng(0)).tokens
    with shared(make_task) as making:
        workers = one, two = [ray.remote(num_cpus=1)(Worker).remote(making) for _ in range(2)]
        assert ray.get([worker.reward.remote(tokens) for worker in workers]) == [driver.reward(tokens)] * 2
        assert ray.get(one.first.remote("C3", 77.0)) == 77.0
        assert ray.get(two.first.remote("C3")) == 77.0
        assert driver.task.prepared.cache["C3"].flat[0] != 77.0
        assert ray.get(one.release.remote()) == 0
        assert ray.get([worker.first.remote("C3") for worker in workers]) == [77.0] * 2  # it outlives a borrower
        ray.get([worker.release.remote() for worker in workers])  # CPU memory has a keeper, which ends with its owner
        visible = ray.get(one.visible.remote())
        resident = ray.get(making.args[-1].resident.remote(ray.get_runtime_context().get_node_id(), visible, "cpu"))
    assert ends(ray, resident)
    with pytest.raises(ray.exceptions.RayActorError):  # nobody holds the copy any longer
        ray.get(one.first.remote("C3"))
