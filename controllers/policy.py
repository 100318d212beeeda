"""The policy network: an LSTM that writes a token sequence, each token conditioned on those before it.

Notation: N sequences, T choices (positions), K the largest number of options a choice has, H hidden units. Position t
sees the tokens of the positions before t, embedded; an option that its choice lacks has logit minus infinity.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.space import SearchSpace

__all__ = ["HIDDEN", "TokenPolicy"]

HIDDEN = 32
"""Units of each layer where nothing else is said. The papers' 100 learn no more in some hundreds of proposals."""
TINY = 1e-30  # an arrival time is never 0, so that an option without probability never wins


def _vocabulary(space: SearchSpace) -> tuple[Tensor, int]:
    """The embedding row of every token, (T, K) int64, 0 where the choice has no such option; and the number of rows."""
    words = dict.fromkeys((choice.kind, option) for choice in space.choices for option in choice.options)
    rows = {word: row for row, word in enumerate(words, start=1)}  # row 0 is the start token
    table = torch.zeros(len(space), max(len(choice.options) for choice in space.choices), dtype=torch.int64)
    for position, choice in enumerate(space.choices):
        table[position, : len(choice.options)] = torch.tensor([rows[choice.kind, o] for o in choice.options])
    return table, 1 + len(rows)


class TokenPolicy(nn.Module):
    """Two-layer LSTM with an output layer for each choice and a value head (Zoph and Le 2017, sec. 3.1).

    Tokens of one kind and option share an embedding, whichever choice they answer. Every parameter starts uniform in
    [-0.1, 0.1], so that the first policy is close to uniform.

    Args:
        space: gives the choices.
        generator: draws the initial weights; the global generator is left alone.
        hidden: H, units of each layer and width of the embedding; None is `HIDDEN`.
    """

    vocabulary: Tensor

    def __init__(self, space: SearchSpace, generator: torch.Generator, hidden: int | None = None):
        super().__init__()
        vocabulary, words = _vocabulary(space)
        hidden = hidden or HIDDEN
        self.register_buffer("vocabulary", vocabulary, persistent=False)
        with torch.random.fork_rng(devices=[]):  # torch's own initial values draw from the global generator
            self.embedding = nn.Embedding(words, hidden)
            self.lstm = nn.LSTM(hidden, hidden, num_layers=2)
            self.value = nn.Linear(hidden, 1)
        self.weight = nn.Parameter(torch.empty(*vocabulary.shape, hidden))
        self.bias = nn.Parameter(torch.empty(vocabulary.shape))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-0.1, 0.1, generator=generator)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher-forced evaluation of whole sequences in one LSTM call.

        Args:
            tokens: (N, T) int64.

        Returns:
            the log-probabilities of all options, (N, T, K), of one that a choice lacks the least number that there is;
            and the values, (N, T): at t the normalised reward expected after the tokens before t.
        """
        words = self.vocabulary.gather(1, tokens.T)  # (T, N): so the LSTM wants them
        before = nn.functional.pad(words[:-1], (0, 0, 1, 0))  # the start token, then all but the last
        states, _ = self.lstm(self.embedding(before))
        # (T, K, N): a softmax over an axis that is not the last is vectorised
        logits = torch.baddbmm(self.bias[:, :, None], self.weight, states.transpose(1, 2))
        logits = logits.masked_fill((self.vocabulary == 0)[:, :, None], torch.finfo(logits.dtype).min)
        return logits.log_softmax(dim=1).permute(2, 0, 1), self.value(states).squeeze(-1).T

    @torch.inference_mode()
    def sample(
        self, generator: torch.Generator, temperatures: Sequence[float] = (1.0,)
    ) -> tuple[np.ndarray, np.ndarray]:
        """A sequence for each temperature, drawn token by token together, and the tokens' log-probabilities.

        Args:
            generator: draws the tokens.
            temperatures: N numbers that divide the logits, which the log-probabilities take into account.

        Returns:
            tokens, int64 (N, T), and their log-probabilities in nats, float (N, T).
        """
        vocabulary, weight = self.vocabulary.numpy(), self.weight.numpy()
        bias = self.bias.masked_fill(self.vocabulary == 0, -torch.inf).numpy()[:, :, None]
        given, lower, upper = self._layers(len(temperatures))
        heat = np.array(temperatures, bias.dtype)
        races = self.bias.new_empty(*self.vocabulary.shape, len(heat)).exponential_(generator=generator)
        # Gumbel noise: that token is drawn whose logit is largest with it, and with it times the temperature alike.
        lead = bias - heat * races.clamp(min=TINY).log_().numpy()
        logits, tokens = np.empty_like(lead), np.empty((len(lead), len(heat)), np.int64)
        word = np.zeros(len(heat), np.int64)
        for t, token in enumerate(tokens):
            lower.step(given.take(word, axis=1))
            upper.step()
            np.matmul(weight[t], upper.hidden, out=logits[t])
            np.add(logits[t], lead[t], out=lead[t]).argmax(axis=0, out=token)
            word = vocabulary[t].take(token)
        log_probs = _log_softmax((logits + bias) / heat, axis=1)
        log_probs = np.take_along_axis(log_probs, tokens[:, None], axis=1)[:, 0]
        if not np.isfinite(log_probs).all():
            raise FloatingPointError("the policy's weights have become infinite or no numbers")
        return tokens.T, log_probs.T

    def _layers(self, count: int) -> tuple[np.ndarray, "_Layer", "_Layer"]:
        """What each word gives to the first layer's gates, (4H, words); and the layers, which step N sequences."""
        (input_1, hidden_1, bias_1), (input_2, hidden_2, bias_2) = map(_arranged, self.lstm.all_weights)
        states = np.zeros((2 * self.lstm.hidden_size, count), bias_1.dtype)
        lower = _Layer(states[: self.lstm.hidden_size], hidden_1)
        upper = _Layer(states, np.concatenate((input_2, hidden_2), axis=1), bias_2)
        return input_1 @ self.embedding.weight.numpy().T + bias_1, lower, upper


class _Layer:
    """A layer of the LSTM, stepped by hand in NumPy, whose calls cost a quarter of PyTorch's on arrays this small.

    Args:
        seen: (S, N), the hidden states that its gates see; the last H of them are its own, which it overwrites.
        weight: (4H, S), of the gates, as `_arranged` has them.
        bias: (4H, 1); None where every step is given it.
    """

    def __init__(self, seen: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None):
        size = len(weight) // 4
        self.hidden = seen[-size:]
        self._seen, self._weight, self._bias = seen, weight, bias
        self._cell = np.zeros_like(self.hidden)
        self._gates = np.empty((4 * size, seen.shape[1]), seen.dtype)
        self._logistic = self._gates[: 3 * size]
        self._entry, self._keep, self._exit, self._candidate = np.split(self._gates, 4)

    def step(self, given: np.ndarray | None = None) -> None:
        """One step further; ``given``, (4H, N), is added to the gates in the place of the bias."""
        np.matmul(self._weight, self._seen, out=self._gates)
        self._gates += self._bias if given is None else given
        np.tanh(self._gates, out=self._gates)
        self._logistic *= 0.5  # the logistic function of x is (1 + tanh(x / 2)) / 2
        self._logistic += 0.5
        self._candidate *= self._entry
        self._cell *= self._keep
        self._cell += self._candidate
        np.tanh(self._cell, out=self.hidden)
        self.hidden *= self._exit


def _arranged(layer: Sequence[Tensor]) -> list[np.ndarray]:
    """A layer's input weights, hidden weights and bias as `_Layer` wants them.

    The gates are input, forget, output and candidate, where PyTorch has the candidate third, and all but the
    candidate's are halved.
    """
    ordered = (value.numpy().reshape(4, len(value) // 4, -1)[[0, 1, 3, 2]] for value in layer)
    weights = [(value * np.array([0.5, 0.5, 0.5, 1], value.dtype)[:, None, None]) for value in ordered]
    of_inputs, of_states, *biases = (value.reshape(4 * value.shape[1], -1) for value in weights)
    return [of_inputs, of_states, sum(biases)]


def _log_softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    shifted = logits - logits.max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))
