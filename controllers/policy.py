"""The policy network: an LSTM that writes a token sequence, each token conditioned on those before it.

Notation: N sequences, T choices (positions), K the largest number of options a choice has, H hidden units. Position t
sees the tokens of the positions before t, embedded; an option that its choice lacks has logit minus infinity.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from search_spaces.space import SearchSpace

__all__ = ["HIDDEN", "TokenPolicy"]

HIDDEN = 32
"""Units of each layer where nothing else is said. The papers' 100 learn no more in some hundreds of proposals."""


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
    def sample(self, generator: torch.Generator, temperature: float = 1.0) -> tuple[tuple[int, ...], Tensor]:
        """One sequence, drawn token by token, and the tokens' log-probabilities in nats, (T,).

        The logits are divided by ``temperature``, which the log-probabilities take into account.

        The cells are stepped by hand: a call of `torch.nn.LSTM` for a single token takes four times as long.
        """
        (input_0, hidden_0, *biases_0), (input_1, hidden_1, *biases_1) = self.lstm.all_weights
        first = torch.addmm(biases_0[0] + biases_0[1], self.embedding.weight, input_0.T)  # a word's part of the gates
        bias_1 = biases_1[0] + biases_1[1]
        bias = self.bias.masked_fill(self.vocabulary == 0, -torch.inf)
        word, tokens, log_probs = 0, [], []
        h_0, c_0, h_1, c_1 = self.bias.new_zeros(4, self.lstm.hidden_size)
        for t, words in enumerate(self.vocabulary.tolist()):
            h_0, c_0 = _lstm_cell(torch.addmv(first[word], hidden_0, h_0), c_0)
            gates = torch.addmv(torch.addmv(bias_1, input_1, h_0), hidden_1, h_1)
            h_1, c_1 = _lstm_cell(gates, c_1)
            log_prob = (torch.addmv(bias[t], self.weight[t], h_1) / temperature).log_softmax(dim=0)
            token = int(torch.multinomial(log_prob.exp(), 1, generator=generator))
            tokens.append(token)
            log_probs.append(log_prob[token])
            word = words[token]
        return tuple(tokens), torch.stack(log_probs)


def _lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """The new hidden and cell states, (H,), from the gates before their non-linearities, (4H,), in torch's order."""
    enter, forget, new, out = gates.view(4, -1).unbind()
    cell = torch.addcmul(forget.sigmoid() * cell, enter.sigmoid(), new.tanh())
    return out.sigmoid() * cell.tanh(), cell
