"""LSTM-PPO: an autoregressive policy over tokens, trained by proximal policy optimisation on real rollouts only.

Notation: N rollouts of T tokens; a token is one step of an episode that ends with the reward (discount 1). Sources:
PPO, Schulman et al. 2017; "What matters in on-policy RL", Andrychowicz et al. 2021; "The 37 implementation details of
PPO", Huang et al. 2022.
"""

import copy
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from controllers.base import Proposal
from controllers.checks import check_number, check_state, check_whole, finite
from controllers.policy import TokenPolicy
from search_spaces import SearchSpace

__all__ = ["Batch", "LstmPpo", "explained_variance", "ppo_loss", "rank_normalise"]


def rank_normalise(rewards: list[float]) -> Tensor:
    """Ranks of ``rewards``, shifted and scaled to mean 0 and variance 1; zeros where all are equal; (N,) float32.

    Only the order counts (fitness shaping, Wierstra et al. 2014, sec. 3.1): a shift, a positive scale or one huge value
    changes nothing. Equal rewards share the mean of their ranks.
    """
    values = torch.tensor(rewards, dtype=torch.float64)
    ordered = values.sort().values
    ranks = torch.searchsorted(ordered, values) + torch.searchsorted(ordered, values, right=True)
    centred = ranks - ranks.double().mean()
    return (centred / centred.std(correction=0)).float() if centred.any() else centred.float()


def explained_variance(values: Tensor, targets: Tensor) -> float:
    """1 - Var(target - value) / Var(target): 1 is a perfect critic, 0 a constant; 0 where the targets are constant."""
    spread = targets.var(correction=0)
    return float(1 - (targets - values).var(correction=0) / spread) if spread > 0 else 0.0


class Batch(NamedTuple):
    """What an update learns from, fixed over its epochs.

    Args:
        tokens: (N, T) int64.
        log_probs: (N, T), of the tokens under the policy as the update found it.
        advantages: (N, T), normalised.
        targets: (N, 1), normalised rewards.
        weights: (N, 1) in [0, 1], how likely the policy still is to draw the sequence, 1 where it drew it.
    """

    tokens: Tensor
    log_probs: Tensor
    advantages: Tensor
    targets: Tensor
    weights: Tensor


def ppo_loss(
    policy: TokenPolicy, batch: Batch, clip: float, entropy_weight: float, value_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped surrogate loss with entropy bonus and value loss (Schulman et al. 2017, eq. 7 and 9).

    Returns:
        the loss, a scalar; and its figures, scalars: ``policy_loss``, ``value_loss``, ``entropy`` (mean nats a token),
        ``approx_kl`` (mean nats a token, the estimator (r - 1) - log r) and ``clipfrac``.
    """
    distributions, values = policy(batch.tokens)
    log_ratio = distributions.log_prob(batch.tokens) - batch.log_probs
    ratio = log_ratio.exp()
    gain = torch.min(ratio * batch.advantages, ratio.clamp(1 - clip, 1 + clip) * batch.advantages)
    policy_loss = -(batch.weights * gain).mean()
    value_loss = 0.5 * (values - batch.targets).square().mean()
    entropy = distributions.entropy().mean()
    figures = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clipfrac": ((ratio - 1).abs() > clip).float().mean(),
    }
    return policy_loss - entropy_weight * entropy + value_weight * value_loss, figures


class LstmPpo:
    """Proposes from an LSTM policy; every ``rollouts`` successful trials are one PPO update.

    The defaults were measured on the made-up rewards of ``benchmarks/controller_learning.py``, 35 choices and 300
    proposals: a per-sequence ratio, a batch-mean baseline, 20 rollouts or other rates learnt no more; an entropy weight
    of 0.003 learns as fast and then, at 800 proposals, is stuck where 0.03 still improves. The paper's rate, 1e-4,
    hardly moves from chance in 300 proposals; it is for far longer searches.

    Args:
        space: what to propose architectures of.
        seed: of the initial weights and of all draws.
        learning_rate: Adam's.
        rollouts: told proposals in an update, N.
        epochs: gradient steps in an update, each on all N.
        clip: how far a token's probability ratio may leave 1 before its gradient is cut.
        entropy_weight: of the bonus on the mean entropy of a token.
        value_weight: of the critic's squared error.
        max_grad_norm: the gradient's norm is clipped to it.

    Raises:
        InputError: an option's value is out of its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int = 0,
        *,
        learning_rate: float = 3e-3,
        rollouts: int = 10,
        epochs: int = 5,
        clip: float = 0.2,
        entropy_weight: float = 0.03,
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
        learning_rate = check_number("learning_rate", learning_rate, 0, 1, positive=True)
        self._generator = torch.Generator().manual_seed(seed)
        self._policy = TokenPolicy(space, self._generator)
        self._optimiser = torch.optim.Adam(self._policy.parameters(), lr=learning_rate, eps=1e-5)
        self._asked = 0
        self._updates = 0
        self._told: list[tuple[Proposal, float]] = []
        self._diagnostics: dict[str, float] = {}

    def ask(self) -> Proposal:
        """A draw from the policy; two calls may draw the same sequence."""
        tokens, log_prob = self._policy.sample(self._generator)
        self._asked += 1
        return Proposal(self._asked - 1, tokens, log_prob)

    def tell(self, proposal: Proposal, reward: float | None) -> None:
        """Keeps a rollout, drops a failed one; a full batch is learnt from and forgotten."""
        self.space.validate(proposal.tokens)
        reward = finite(reward)
        if reward is None:
            return
        self._told.append((proposal, reward))
        if len(self._told) == self.rollouts:
            self._update(self._batch())
            self._told.clear()

    def diagnostics(self) -> dict[str, float]:
        """Figures of the latest update's last epoch; see `ppo_loss`, and ``explained_variance`` before the update."""
        return dict(self._diagnostics)

    @torch.no_grad()
    def _batch(self) -> Batch:
        tokens = torch.tensor([proposal.tokens for proposal, _ in self._told])
        drawn = torch.tensor([proposal.log_prob for proposal, _ in self._told])
        # 1. Rewards by rank, so that their sign, scale and outliers do not matter.
        targets = rank_normalise([reward for _, reward in self._told]).unsqueeze(1)
        # 2. Advantage = reward - value: the reward comes last and undiscounted, so it is every token's return.
        distributions, values = self._policy(tokens)
        advantages = targets - values
        # 3. Normalised over the batch (37 details, no. 7); equal rewards prefer nothing.
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8) * targets.any()
        # 4. An earlier policy's rollouts count by how likely this one still draws them, at most fully (truncated
        #    importance weights: Hilton et al. 2022, decoupled PPO; Espeholt et al. 2018, IMPALA, sec. 4.1).
        log_probs = distributions.log_prob(tokens)
        weights = (log_probs.sum(dim=1) - drawn).exp().clamp(max=1.0).unsqueeze(1)
        self._diagnostics["explained_variance"] = explained_variance(values, targets)
        return Batch(tokens, log_probs, advantages, targets, weights)

    def _update(self, batch: Batch) -> None:
        # 5. Several epochs on the whole batch: of these sizes, minibatches only add noise.
        for _ in range(self.epochs):
            # 6. Clipped surrogate, entropy bonus and value loss in one step; the value loss is not clipped, which does
            #    not help (Andrychowicz et al. 2021, sec. 3.2).
            loss, figures = ppo_loss(self._policy, batch, self.clip, self.entropy_weight, self.value_weight)
            self._optimiser.zero_grad()
            loss.backward()
            # 7. Global gradient clipping (37 details, no. 11); Adam's epsilon is 1e-5 (no. 3).
            grad_norm = nn.utils.clip_grad_norm_(self._policy.parameters(), self.max_grad_norm)
            self._optimiser.step()
        self._updates += 1
        self._diagnostics |= {name: figure.item() for name, figure in figures.items()}
        self._diagnostics |= {"grad_norm": grad_norm.item(), "updates": float(self._updates)}

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything; see `Controller.state_dict`."""
        state = {
            "controller": "lstm-ppo",
            "space": self.space.name,
            "policy": dict(self._policy.state_dict()),
            "optimiser": self._optimiser.state_dict(),
            "generator": self._generator.get_state(),
            "asked": self._asked,
            "updates": self._updates,
            "told": [{**asdict(p), "tokens": list(p.tokens), "reward": reward} for p, reward in self._told],
            "diagnostics": self._diagnostics,
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; raises `InputError` where it is of another controller or space."""
        check_state(state, "lstm-ppo", self.space)
        state = copy.deepcopy(state)
        self._policy.load_state_dict(state["policy"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._generator.set_state(state["generator"])
        self._asked, self._updates = state["asked"], state["updates"]
        self._told = [(Proposal(t["id"], tuple(t["tokens"]), t["log_prob"]), t["reward"]) for t in state["told"]]
        self._diagnostics = state["diagnostics"]
