"""The policy network: an LSTM that writes a token sequence, each token conditioned on those before it.

Notation: N sequences, T choices (positions), K the largest number of options a choice has, H hidden units. Position t
sees the tokens of the positions before t, embedded; an option that its choice lacks has logit minus infinity.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

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
            self.lstm = nn.LSTM(hidden, hidden, num_layers=2, batch_first=True)
            self.value = nn.Linear(hidden, 1)
        self.weight = nn.Parameter(torch.empty(*vocabulary.shape, hidden))
        self.bias = nn.Parameter(torch.empty(vocabulary.shape))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-0.1, 0.1, generator=generator)

    def forward(self, tokens: Tensor) -> tuple[Categorical, Tensor]:
        """Teacher-forced evaluation of whole sequences in one LSTM call.

        Args:
            tokens: (N, T) int64.

        Returns:
            the distributions of the tokens, batch shape (N, T) over K options; and the values, (N, T): at t the
            normalised reward expected after the tokens before t.
        """
        words = self.vocabulary[torch.arange(tokens.shape[1]), tokens]
        before = nn.functional.pad(words[:, :-1], (1, 0))  # the start token, then all but the last
        states, _ = self.lstm(self.embedding(before))
        logits = torch.einsum("nth,tkh->ntk", states, self.weight) + self.bias
        logits = logits.masked_fill(self.vocabulary == 0, -torch.inf)
        return Categorical(logits=logits, validate_args=False), self.value(states).squeeze(-1)

    @torch.inference_mode()
    def sample(
        self, generator: torch.Generator, temperatures: Sequence[float] = (1.0,)
    ) -> tuple[np.ndarray, np.ndarray]:
        """A sequence for each temperature, drawn token by token together, and the tokens' log-probabilities.

        The cells are stepped by hand and in NumPy, whose calls cost a quarter of PyTorch's on arrays this small.

        Args:
            generator: draws the tokens.
            temperatures: N numbers that divide the logits, which the log-probabilities take into account.

        Returns:
            tokens, int64 (N, T), and their log-probabilities in nats, float (N, T).
        """
        (input_0, hidden_0, *biases_0), (input_1, hidden_1, *biases_1) = map(_halved, self.lstm.all_weights)
        first = self.embedding.weight.numpy() @ input_0 + sum(biases_0)  # a word's part of the gates
        both_1, bias_1, vocabulary = np.concatenate((input_1, hidden_1)), sum(biases_1), self.vocabulary.numpy()
        weight, bias = self.weight.numpy(), self.bias.masked_fill(self.vocabulary == 0, -torch.inf).numpy()
        count, heat = len(temperatures), np.array(temperatures, bias.dtype)[:, None]
        races = self.bias.new_empty(len(bias), count, bias.shape[1]).exponential_(generator=generator)
        lead = -races.clamp(min=TINY).log_().numpy()  # Gumbel noise: the largest sum with a logit wins
        hidden = self.lstm.hidden_size
        cell_0, cell_1 = np.zeros((2, count, hidden), bias.dtype)
        states = np.zeros((count, 2 * hidden), bias.dtype)  # hidden states of both layers beside each other
        h_0, h_1 = states[:, :hidden], states[:, hidden:]
        words = np.zeros(count, np.int64)
        tokens, logits = np.empty((count, len(bias)), np.int64), np.empty((count, *bias.shape), bias.dtype)
        for t, ahead in enumerate(lead):
            _lstm_cell(first[words] + h_0 @ hidden_0, cell_0, h_0)
            _lstm_cell(states @ both_1 + bias_1, cell_1, h_1)
            logits[:, t] = logit = (h_1 @ weight[t].T + bias[t]) / heat
            tokens[:, t] = token = (logit + ahead).argmax(axis=1)
            words = vocabulary[t, token]
        log_probs = np.take_along_axis(_log_softmax(logits), tokens[:, :, None], axis=2)[:, :, 0]
        if not np.isfinite(log_probs).all():
            raise FloatingPointError("the policy's weights have become infinite or no numbers")
        return tokens, log_probs


def _halved(layer: Sequence[Tensor]) -> list[np.ndarray]:
    """A layer's weights, transposed, and biases, those of the logistic gates halved, as `_lstm_cell` wants them."""
    gates = len(layer[0]) // 4
    scale = layer[0].new_full((4 * gates,), 0.5)
    scale[2 * gates : 3 * gates] = 1
    return [(value.t() * scale).numpy() for value in layer]


def _lstm_cell(gates: np.ndarray, cell: np.ndarray, hidden: np.ndarray) -> None:
    """Overwrites the cell and hidden states, (N, H).

    Args:
        gates: (N, 4H), before their non-linearities, in torch's order, those of the logistic function halved: it is
            (1 + tanh(x / 2)) / 2.
        cell: (N, H).
        hidden: (N, H).
    """
    size = cell.shape[1]
    parts = np.tanh(gates)
    candidate = parts[:, 2 * size : 3 * size].copy()
    parts *= 0.5
    parts += 0.5
    cell *= parts[:, size : 2 * size]
    cell += parts[:, :size] * candidate
    np.multiply(parts[:, 3 * size :], np.tanh(cell), out=hidden)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
