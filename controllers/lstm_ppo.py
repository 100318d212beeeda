"""LSTM-PPO: an autoregressive policy over tokens, trained by proximal policy optimisation on real rollouts only.

Notation: N rollouts of T tokens; a token is one step of an episode that ends with the reward (discount 1). Sources:
PPO, Schulman et al. 2017; "What matters in on-policy RL", Andrychowicz et al. 2021; "The 37 implementation details of
PPO", Huang et al. 2022.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from controllers.base import Proposal
from controllers.checks import check_number, check_state, check_whole, finite
from controllers.novelty import SeenKeys
from controllers.parts import PartLog
from controllers.policy import TokenPolicy
from controllers.ppo import Batch, Rollout, explained_variance, ppo_loss, rank_normalise, taken
from search_spaces import Architecture, SearchSpace

__all__ = ["LstmPpo"]

_REUSES = 4  # updates that each rollout takes part in
_SNAPSHOT_ROLLOUTS = 100  # a snapshot has 0.4 MB, 4 kB a trial; repeating the updates since one takes about a second
_TEMPERATURES = tuple(1.1**number for number in range(20))  # of the tries of a network not proposed before


@contextmanager
def _small_tensors() -> Iterator[None]:
    """PyTorch on one thread, numbers below 1e-38 taken for 0.

    More threads only hinder tensors so small, and their number would decide how sums are rounded. A policy that has
    settled has gradients full of such numbers, with which a processor takes up to a hundred times as long.
    """
    threads, flushed = torch.get_num_threads(), not torch.tensor(1e-40).mul(1.0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(threads)


class LstmPpo:
    """Proposes from an LSTM policy; every ``rollouts`` successful trials are one PPO update.

    Each rollout takes part in four updates: an update learns from the latest four times ``rollouts``, a token of an
    earlier policy counting by how likely the policy still is to draw it. This helps most where many proposals are open,
    since then all rollouts are of earlier policies. A network is proposed once.

    The defaults were chosen on the made-up rewards of ``benchmarks/controller_learning.py``, 35 choices, at 100 and 200
    proposals, on other seeds than those that are shown (``docs/method.md`` has what was tried). The paper's rate, 1e-4,
    hardly moves from chance in 300 proposals; it is for far longer searches.

    Args:
        space: what to propose architectures of.
        seed: draws the initial weights and all proposals.
        learning_rate: Adam's.
        rollouts: told proposals from one update to the next.
        epochs: gradient steps in an update, each on all its rollouts.
        clip: how far a token's probability ratio may leave 1 before its gradient is cut.
        entropy_weight: the weight of the bonus on the mean entropy of a token.
        value_weight: the weight of the critic's squared error.
        max_grad_norm: the gradient's norm is clipped to it.

    Raises:
        InputError: an option's value is out of its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        learning_rate: float = 1e-2,
        rollouts: int = 5,
        epochs: int = 6,
        clip: float = 0.2,
        entropy_weight: float = 0.045,
        value_weight: float = 0.1,
        max_grad_norm: float = 1.0,
    ):
        self.space = space
        self.rollouts = check_whole("rollouts", rollouts, 2)
        self.epochs = check_whole("epochs", epochs, 1)
        self.clip = check_number("clip", clip, 0, 1, positive=True)
        self.entropy_weight = check_number("entropy_weight", entropy_weight, 0)
        self.value_weight = check_number("value_weight", value_weight, 0)
        self.max_grad_norm = check_number("max_grad_norm", max_grad_norm, 0, positive=True)
        self.learning_rate = check_number("learning_rate", learning_rate, 0, 1, positive=True)
        self._generator = torch.Generator().manual_seed(seed)
        self._make_policy()
        self._asked = 0
        self._updates = 0
        self._open: dict[int, tuple[float, ...]] = {}  # log-probabilities of each proposal not yet told, by its id
        self._told: dict[int, Rollout] = {}  # by number: those since the snapshot, and those before that are used again
        self._counted = 0  # rollouts ever
        self._diagnostics: dict[str, float] = {}
        self._snapshot = self._weights()
        self._seen = SeenKeys()
        self._architecture = lru_cache(1000)(space.architecture)  # a policy that has settled draws the same again
        self._log = PartLog()

    def _make_policy(self, hidden: int | None = None) -> None:
        self.policy = TokenPolicy(self.space, self._generator, hidden)
        self._optimiser = torch.optim.Adam(self.policy.parameters(), lr=self.learning_rate, eps=1e-5, fused=True)

    def ask(self) -> Proposal:
        """A draw from the policy that is no network proposed before.

        A draw that is one is followed by hotter draws; the log-probabilities are those of the draw that counts. Where
        none of them is new, or all of the space was proposed, it is the first draw after all.
        """
        architecture, log_probs = self._seen.first_unseen_with(self._draws())
        return self._proposal(architecture, log_probs)

    def _draws(self) -> Iterator[tuple[Architecture, tuple[float, ...]]]:
        left = len(self._seen) < self.space.cardinality
        # all at once, in twice the time of one: most draws of a policy that has settled are known
        with _small_tensors():
            drawn = self.policy.sample(self._generator, _TEMPERATURES if left else _TEMPERATURES[:1])
        draws = [(tokens, tuple(log_probs)) for tokens, log_probs in zip(*(d.tolist() for d in drawn), strict=True)]
        for tokens, log_probs in (*draws, draws[0]):
            yield self._architecture(tuple(tokens)), log_probs

    def propose(self, tokens: Sequence[int]) -> Proposal:
        """See `StartableController`: a rollout with the tokens' log-probabilities under the policy as it is."""
        architecture = self._seen.first_unseen([self.space.architecture(tokens)])
        return self._proposal(architecture, self._log_probs_now(architecture.tokens))

    def _proposal(self, architecture: Architecture, log_probs: tuple[float, ...]) -> Proposal:
        proposal = Proposal(self._asked, architecture.tokens, math.fsum(log_probs))
        self._asked += 1
        self._open[proposal.id] = log_probs
        self._log.mark("generator", "asked", self._seen.last_part)
        return proposal

    def tell(self, proposal: Proposal, reward: float | None) -> None:
        """Keeps a rollout, drops a failed one; a full batch is learnt from."""
        self.space.validate(proposal.tokens)
        reward = finite(reward)
        log_probs = self._open.pop(proposal.id, None)
        if reward is None:
            return
        self._learn(Rollout(proposal.tokens, log_probs or self._log_probs_now(proposal.tokens), reward))
        if self._counted >= self._snapshot["learnt"] + _SNAPSHOT_ROLLOUTS and self._counted % self.rollouts == 0:
            self._snapshot = self._weights()
            self._told = dict(list(self._told.items())[-(_REUSES - 1) * self.rollouts :])
            self._log.mark(*self._snapshot)

    def _learn(self, rollout: Rollout) -> None:
        self._told[self._counted] = rollout
        self._counted += 1
        if self._counted % self.rollouts == 0:
            self._update(list(self._told.values())[-_REUSES * self.rollouts :])
            self._log.mark("updates", "diagnostics")

    @_small_tensors()
    @torch.no_grad()
    def _log_probs_now(self, tokens: tuple[int, ...]) -> tuple[float, ...]:
        """The tokens' log-probabilities under the policy as it is."""
        sequence = torch.tensor([tokens])
        return tuple(taken(self.policy(sequence)[0], sequence)[0].tolist())

    def diagnostics(self) -> dict[str, float]:
        """Figures of the latest update's last epoch; see `ppo_loss`, and ``explained_variance`` before the update."""
        return dict(self._diagnostics)

    def _batch(self, rollouts: list[Rollout], tokens: Tensor, log_probs: Tensor, values: Tensor) -> Batch:
        """What an update learns from; log-probabilities and values are those of the policy as the update finds it."""
        drawn = torch.tensor([rollout.log_probs for rollout in rollouts])
        # 1. Rewards by rank, so that their sign, scale and outliers do not matter.
        targets = rank_normalise([rollout.reward for rollout in rollouts]).unsqueeze(1)
        # 2. Advantage = reward - value: the reward comes last and undiscounted, so it is every token's return.
        advantages = targets - values
        # 3. A token of an earlier policy counts by how likely this one still draws it, at most fully (decoupled PPO,
        #    Hilton et al. 2022; truncated as in IMPALA, Espeholt et al. 2018, sec. 4.1). A whole sequence's weight,
        #    the product of its tokens', would be near 0 after a few updates.
        weights = (log_probs - drawn).exp().clamp(max=1.0)
        # 4. Normalised over the batch (37 details, no. 7); equal rewards prefer nothing.
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8) * targets.any()
        self._diagnostics["explained_variance"] = explained_variance(values, targets)
        return Batch(tokens, log_probs, advantages, targets, weights)

    @_small_tensors()
    def _update(self, rollouts: list[Rollout]) -> None:
        tokens, batch = torch.tensor([rollout.tokens for rollout in rollouts]), None
        # 5. Several epochs on the whole batch: of these sizes, minibatches only add noise.
        for _ in range(self.epochs):
            log_probs, values = self.policy(tokens)
            if batch is None:
                batch = self._batch(rollouts, tokens, taken(log_probs, tokens).detach(), values.detach())
            # 6. Clipped surrogate, entropy bonus and value loss in one step; the value loss is not clipped, which does
            #    not help (Andrychowicz et al. 2021, sec. 3.2).
            weights = self.entropy_weight, self.value_weight
            loss, figures = ppo_loss(log_probs, values, batch, self.clip, *weights)
            self._optimiser.zero_grad()
            loss.backward()
            # 7. Global gradient clipping (37 details, no. 11); Adam's epsilon is 1e-5 (no. 3).
            grad_norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self._optimiser.step()
        self._updates += 1
        self._diagnostics |= {name: figure.item() for name, figure in figures.items()}
        self._diagnostics |= {"grad_norm": grad_norm.item(), "updates": float(self._updates)}

    def _weights(self) -> dict[str, Any]:
        """A copy of the policy's and the optimiser's state; ``learnt`` is how many rollouts led to it."""
        weights = {"policy": dict(self.policy.state_dict()), "optimiser": self._optimiser.state_dict()}
        return copy.deepcopy(weights) | {"learnt": self._counted}

    def _parts(self) -> dict[str, Any]:
        return {
            "controller": "lstm-ppo",
            "space": self.space.name,
            **self._snapshot,
            "generator": self._generator.get_state(),
            "asked": self._asked,
            "updates": self._updates,
            "diagnostics": self._diagnostics,
            **self._seen.parts,
            **{f"open.{number}": list(log_probs) for number, log_probs in self._open.items()},
            **{f"told.{number}": rollout.plain for number, rollout in self._told.items()},
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything; see `Controller.state_dict`.

        ``policy`` and ``optimiser`` are a snapshot, taken every hundred rollouts, after ``learnt`` of them. The parts
        ``told.0``, ``told.1`` and so on are the rollouts from which the updates since then follow.
        """
        return copy.deepcopy(self._parts())

    def changes(self) -> dict[str, Any]:
        """The parts that have changed; see `PartwiseController.changes`."""
        return self._log.take(self._parts())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict` by repeating the updates since its snapshot, which takes about a second at most.

        On the same machine the policy is the same bit for bit; elsewhere sums may be rounded differently, and it is the
        same up to that.

        Raises:
            InputError: the state is of another controller or space.
        """
        check_state(state, "lstm-ppo", self.space)
        self._make_policy(state["policy"]["embedding.weight"].shape[1])  # a former version's was larger
        self.policy.load_state_dict(state["policy"])
        self._optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        self._told, self._counted = {}, state.get("learnt", 0)  # the former format's rollouts are all to be learnt from
        self._snapshot = self._weights()
        for number, rollout in self._rollouts(state):
            if number < self._counted:
                self._told[number] = rollout
            else:
                self._learn(rollout)
        self._open = {_number(name): tuple(state[name]) for name in state if name.startswith("open.")}
        self._generator.set_state(state["generator"])
        self._asked, self._updates = state["asked"], state["updates"]
        self._seen.load(state)
        self._diagnostics = dict(state["diagnostics"])
        self._log.restart(state)

    def _rollouts(self, state: dict[str, Any]) -> Iterator[tuple[int, Rollout]]:
        """The numbered rollouts in a state, in order; the former format has a list ``told``, without ``log_probs``."""
        parts = {_number(name): plain for name, plain in state.items() if name.startswith("told.")}
        for number, plain in sorted(parts.items()) or enumerate(state.get("told", [])):
            tokens = tuple(plain["tokens"])
            log_probs = plain.get("log_probs") or self._log_probs_now(tokens)
            yield number, Rollout(tokens, tuple(log_probs), plain["reward"])


def _number(name: str) -> int:
    """The number of the part ``name``: 7 of ``told.7``."""
    return int(name.partition(".")[2])
