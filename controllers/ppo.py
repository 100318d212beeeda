"""The arithmetic of proximal policy optimisation (PPO): advantages, importance weights and the clipped loss.

Notation: N rollouts of T tokens; a token is one step of an episode that ends with the reward (discount 1). Sources:
PPO, Schulman et al. 2017; "What matters in on-policy RL", Andrychowicz et al. 2021; "The 37 implementation details of
PPO", Huang et al. 2022.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Batch", "Rollout", "explained_variance", "ppo_loss", "rank_normalise", "taken"]


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


def taken(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Of the log-probabilities of all options, (N, T, K), those of the tokens, (N, T)."""
    return log_probs.gather(2, tokens.unsqueeze(2)).squeeze(2)


@dataclass(frozen=True)
class Rollout:
    """A proposal that was told.

    Args:
        tokens: one per choice.
        log_probs: the log-probability of each token under the policy that drew it, nats.
        reward: a finite number.
    """

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    reward: float

    @cached_property
    def plain(self) -> dict[str, Any]:
        """As it is saved."""
        return {"tokens": list(self.tokens), "log_probs": list(self.log_probs), "reward": self.reward}


class Batch(NamedTuple):
    """What an update learns from, fixed over its epochs.

    Args:
        tokens: (N, T) int64.
        log_probs: (N, T), of the tokens under the policy as the update found it.
        advantages: (N, T), normalised.
        targets: (N, 1), normalised rewards.
        weights: (N, T) in [0, 1], how likely the policy still is to draw the token, 1 where it drew it.
    """

    tokens: Tensor
    log_probs: Tensor
    advantages: Tensor
    targets: Tensor
    weights: Tensor


def ppo_loss(
    log_probs: Tensor, values: Tensor, batch: Batch, clip: float, entropy_weight: float, value_weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The clipped surrogate loss with entropy bonus and value loss (Schulman et al. 2017, eq. 7 and 9).

    Args:
        log_probs: of all options under the policy at the batch's tokens, (N, T, K).
        values: the policy's, (N, T).
        batch: what the update learns from.
        clip: how far a token's probability ratio may leave 1 before its gradient is cut.
        entropy_weight: of the bonus on the mean entropy of a token.
        value_weight: of the critic's squared error.

    Returns:
        the loss, a scalar; and its figures, scalars: ``policy_loss``, ``value_loss``, ``entropy`` (mean nats a token),
        ``approx_kl`` (mean nats a token, the estimator (r - 1) - log r) and ``clipfrac``.
    """
    log_ratio = taken(log_probs, batch.tokens) - batch.log_probs
    ratio = log_ratio.exp()
    gain = torch.min(ratio * batch.advantages, ratio.clamp(1 - clip, 1 + clip) * batch.advantages)
    policy_loss = -(batch.weights * gain).mean()
    value_loss = 0.5 * (values - batch.targets).square().mean()
    entropy = -(log_probs.exp() * log_probs).sum(dim=-1).mean()
    with torch.no_grad():
        figures = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": (ratio - 1 - log_ratio).mean(),
            "clipfrac": ((ratio - 1).abs() > clip).float().mean(),
        }
    return policy_loss - entropy_weight * entropy + value_weight * value_loss, figures
