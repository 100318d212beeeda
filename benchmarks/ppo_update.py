"""One PPO update on 100 rollouts of 35 tokens: teacher-forced as a batch, against one sequence and one token at a time.

    python benchmarks/ppo_update.py

The loop steps an LSTM cell token by token, takes each sequence's loss alone and adds up the gradients, with the same
epochs, the same arithmetic and the same Adam steps; the resulting weights are compared.
"""

import argparse
import copy
import statistics
import time
from typing import Any

import torch
from controller_learning import block_space
from torch import Tensor, nn

from controllers.base import Proposal
from controllers.lstm_ppo import LstmPpo
from controllers.ppo import rank_normalise

CLIP, ENTROPY, VALUE, MAX_NORM, RATE, EPOCHS = 0.2, 0.03, 0.1, 1.0, 3e-3, 5


class LoopPolicy(nn.Module):
    """The policy's arithmetic with its own weights, one token at a time, an output layer of its own for each choice."""

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        space = block_space()
        words = list(dict.fromkeys((c.kind, option) for c in space.choices for option in c.options))
        self.words = [torch.tensor([1 + words.index((c.kind, option)) for option in c.options]) for c in space.choices]
        self.weights = nn.ParameterDict({name: nn.Parameter(value) for name, value in self.parts(weights).items()})

    def parts(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies of a batched policy's weights under this policy's names, the output layers apart."""
        parts = {k.replace(".", "-"): v.clone() for k, v in weights.items() if k not in ("weight", "bias")}
        for t, words in enumerate(self.words):
            parts[f"weight{t}"] = weights["weight"][t, : len(words)].clone()
            parts[f"bias{t}"] = weights["bias"][t, : len(words)].clone()
        return parts

    def layer(self, number: int, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """One LSTM layer's step."""
        ih, hh, b_ih, b_hh = (
            self.weights[f"lstm-{name}_l{number}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        return torch.lstm_cell(x, state, ih, hh, b_ih, b_hh)

    def episode(self, tokens: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Log-probability, entropy and value at each token of one sequence."""
        zero = torch.zeros(1, self.weights["value-weight"].shape[1])
        states, word, out = [(zero, zero), (zero, zero)], torch.tensor(0), ([], [], [])
        for t, token in enumerate(tokens):
            x = nn.functional.embedding(word.view(1), self.weights["embedding-weight"])
            for number in (0, 1):
                states[number] = self.layer(number, x, states[number])
                x = states[number][0]
            logits = nn.functional.linear(x[0], self.weights[f"weight{t}"], self.weights[f"bias{t}"])
            log_probs = logits.log_softmax(0)
            value = nn.functional.linear(x, self.weights["value-weight"], self.weights["value-bias"])[0, 0]
            for values, new in zip(out, (log_probs[token], -(log_probs.exp() * log_probs).sum(), value), strict=True):
                values.append(new)
            word = self.words[t][token]
        return out


def sequence_loss(policy: LoopPolicy, tokens: tuple[int, ...], old: list, advantages: list, target: float) -> Tensor:
    """The clipped loss of one sequence, token by token."""
    loss = torch.zeros(())
    for new, entropy, value, before, advantage in zip(*policy.episode(tokens), old, advantages, strict=True):
        ratio = (new - before).exp()
        gain = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
        loss = loss - gain - ENTROPY * entropy + VALUE * 0.5 * (value - target) ** 2
    return loss / len(tokens)


def loop_update(policy: LoopPolicy, proposals: list[Proposal], rewards: list[float]) -> None:
    """The whole update, one sequence at a time."""
    targets = rank_normalise(rewards).tolist()
    with torch.no_grad():
        episodes = [policy.episode(proposal.tokens) for proposal in proposals]
    old = [log_probs for log_probs, _, _ in episodes]
    raw = torch.tensor([[target - float(v) for v in e[2]] for target, e in zip(targets, episodes, strict=True)])
    advantages = ((raw - raw.mean()) / (raw.std() + 1e-8)).tolist()
    optimiser = torch.optim.Adam(policy.parameters(), lr=RATE, eps=1e-5)
    for _ in range(EPOCHS):
        optimiser.zero_grad()
        for i, proposal in enumerate(proposals):
            (sequence_loss(policy, proposal.tokens, old[i], advantages[i], targets[i]) / len(proposals)).backward()
        nn.utils.clip_grad_norm_(policy.parameters(), MAX_NORM)
        optimiser.step()


def controller_of(rollouts: int) -> LstmPpo:
    """A fresh controller with the settings of the loop."""
    return LstmPpo(
        block_space(),
        learning_rate=RATE,
        rollouts=rollouts,
        epochs=EPOCHS,
        clip=CLIP,
        entropy_weight=ENTROPY,
        value_weight=VALUE,
        max_grad_norm=MAX_NORM,
    )


def batched_seconds(state: dict[str, Any], proposals: list[Proposal], rewards: list[float]) -> tuple[float, LstmPpo]:
    """Seconds of the tell that fills the batch, and the controller after it."""
    controller = controller_of(len(proposals))
    controller.load_state_dict(state)
    for proposal, reward in zip(proposals[:-1], rewards[:-1], strict=True):
        controller.tell(proposal, reward)
    start = time.perf_counter()
    controller.tell(proposals[-1], rewards[-1])
    return time.perf_counter() - start, controller


def compared(rollouts: int, repeats: int) -> dict[str, float]:
    """Seconds of the loop and of the batch, the largest change of a weight, and the largest difference between both."""
    first = controller_of(rollouts)
    proposals = [first.ask() for _ in range(rollouts)]
    rewards = [-float(sum(proposal.tokens)) for proposal in proposals]
    state = first.state_dict()
    policy = LoopPolicy(state["policy"])
    runs = [batched_seconds(copy.deepcopy(state), proposals, rewards) for _ in range(repeats)]
    batched = statistics.median(seconds for seconds, _ in runs)
    start = time.perf_counter()
    loop_update(policy, proposals, rewards)
    loop = time.perf_counter() - start
    after = runs[0][1].policy.state_dict()
    gap = max(float((value - policy.weights[k]).detach().abs().max()) for k, value in policy.parts(after).items())
    moved = max(float((after[k] - state["policy"][k]).abs().max()) for k in after)
    return {"loop": loop, "batched": batched, "moved": moved, "gap": gap}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollouts", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5, help="of the batched update; its median counts")
    given = parser.parse_args()
    found = compared(**vars(given))
    threads = torch.get_num_threads()
    print(f"{given.rollouts} rollouts of {len(block_space())} tokens, {EPOCHS} epochs, {threads} threads")
    print("| update | seconds | ratio |\n|---|---|---|")
    print(f"| one sequence, one token at a time | {found['loop']:.2f} | 1 |")
    print(f"| teacher-forced batch | {found['batched']:.3f} | {found['loop'] / found['batched']:.0f} |")
    print(f"largest weight change {found['moved']:.1e}, largest difference between the two {found['gap']:.1e}")


if __name__ == "__main__":
    main()
