"""Tabular spaces, a proxy task that misbehaves on demand, and a controller: what the tests of the engines use."""

import contextlib
import hashlib
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch

from controllers.base import Proposal
from proxy_tasks.data import open_dataset
from proxy_tasks.task import Diverged, Interim, ProxyTask, Score
from search_spaces import Choice, InputError, SearchSpace

OPS = ("a", "b", "c", "d")


def _sorted_pair(tokens):
    return (*sorted(tokens[:2]), *tokens[2:])


TOY = SearchSpace(
    "toy",
    (Choice("left", "op", OPS), Choice("right", "op", OPS), Choice("agg", "agg", ("sum", "cat"))),
    canonical=_sorted_pair,
    proxy_task="fake_tasks:ToyTask",
)
WIDE = SearchSpace("wide", tuple(Choice(f"part {i}", "op", OPS) for i in range(6)), proxy_task="fake_tasks:ToyTask")
MOODS = ("fine", "fine too", "nan", "diverges", "raises", "memory", "text", "nothing", "dies", "sleeps")
MOODY = SearchSpace("moody", (Choice("mood", "mood", MOODS),), proxy_task="fake_tasks:ToyTask")


def reward_of(architecture, seed=None):
    """Any sign, the same for two spellings of one network, exact in a float; another one from each seed."""
    digest = hashlib.sha256((architecture.key + ("" if seed is None else str(seed))).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**31 - 1


class ToyTask(ProxyTask):
    """Overrides: ``sleep`` seconds a trial, while the file ``hurry`` is not there; ``bad`` makes `prepare` refuse;
    ``log`` names a file of evaluations.

    ``victim`` names a file: where it is not there yet, the fifth evaluation in the log makes it and kills its process.
    ``closed`` names a file of the evaluations that are closed before their end; ``nap`` are the seconds that the mood
    ``sleeps`` takes.
    """

    def __init__(self, space, options, previous=None):
        self.space, self.overrides, self.data = space, options.overrides, options.data
        unknown = set(self.overrides) - {"sleep", "hurry", "bad", "log", "victim", "closed", "nap"}
        if unknown:
            raise InputError(f"the toy task has no setting {unknown.pop()!r}")

    def open_data(self):
        return open_dataset(self.data)

    def prepare(self, progress):
        for step in range(3):
            progress("drawing the toys", step + 1, 3)
        if self.overrides.get("bad"):
            raise InputError("toys.xml, line 3: the toy is broken")

    def release(self):
        """Holds nothing."""

    def fingerprints(self):
        return {"data": "toys"}

    def evaluate(self, architecture, seed=None):
        if "log" in self.overrides:
            with open(self.overrides["log"], "a") as file:
                print(os.getpid(), architecture.key, torch.get_num_threads(), file=file)
        if not os.path.exists(self.overrides.get("hurry", "")):
            time.sleep(self.overrides.get("sleep", 0.0))
        if "victim" in self.overrides and len(Path(self.overrides["log"]).read_text().splitlines()) >= 5:
            with contextlib.suppress(FileExistsError):
                Path(self.overrides["victim"]).touch(exist_ok=False)
                os.kill(os.getpid(), 9)
        reward = reward_of(architecture, seed)
        try:
            yield Interim(1, 2, reward - 1, {"params": 1000.0 + reward})
        except GeneratorExit:
            if "closed" in self.overrides:
                with open(self.overrides["closed"], "a") as file:
                    print(architecture.key, file=file)
            raise
        mood = architecture.named.get("mood", "fine")
        if mood == "nothing":
            return
        if mood == "diverges":
            raise Diverged("loss is nan at iteration 7")
        if mood == "raises":
            raise ZeroDivisionError("by nought")
        if mood == "memory":
            raise torch.OutOfMemoryError("tried to allocate 4 TiB")
        if mood == "sleeps":
            time.sleep(self.overrides.get("nap", 0.0))
        if mood == "dies":
            os.kill(os.getpid(), 9)
        reward = {"nan": math.nan, "text": "high"}.get(mood, reward)
        yield Score(reward, {"params": 1000.0 + reward_of(architecture), "macs": 5e9, "loss": 0.25})


class HeldTask(ToyTask):
    """A toy task of a family with references: ``fpn_fcos``, and two that are none of the published ones."""

    def score_reference(self, name, seed=None):
        if "log" in self.overrides:
            with open(self.overrides["log"], "a") as file:
                print(os.getpid(), name, seed, file=file)
        if name == "wild":
            raise Diverged(f"loss is nan from seed {seed}")
        return Score(0.5 if seed == 0 else seed / 1000, {"params": 2000.0, "macs": 1e9, "loss": 0.5})


HELD = SearchSpace("held", TOY.choices, canonical=_sorted_pair, proxy_task="fake_tasks:HeldTask")


class ToyController:
    """Random search whose draws depend on every tell, so that a resume that loses one shows."""

    def __init__(self, space, seed=0):
        self.space = space
        self.asked, self.told = 0, []
        self._rng = np.random.default_rng(seed)

    def ask(self):
        proposal = Proposal(self.asked, self.space.sample(self._rng).tokens, -math.log(self._rng.uniform(1, 2)))
        self.asked += 1
        return proposal

    def tell(self, proposal, reward):
        self.told.append([proposal.id, proposal.log_prob, reward])
        self._rng.random(1 + (0 if reward is None else int(reward * 1000) % 3))

    def diagnostics(self):
        return {"told": float(len(self.told))}

    def state_dict(self):
        # as text: the generator's integers have 128 bits
        return {"asked": self.asked, "told": self.told, "rng": json.dumps(self._rng.bit_generator.state)}

    def load_state_dict(self, state):
        self.asked, self.told = state["asked"], list(state["told"])
        self._rng.bit_generator.state = json.loads(state["rng"])
