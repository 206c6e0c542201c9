"""The network of learned sparse retrieval: weights of a vocabulary's terms for a text.

SPLADE (Formal et al. 2021, 2022): token states go through a head for masked language modelling,
and a term's weight is w_j = max_i log(1 + relu(l_ij)) over the text's tokens i, so a text may have
terms that it does not contain. Without `expansion` a token has one weight, that of its own term
(uniCOIL, Lin and Ma 2021; DeepImpact's idea, Mallia et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from neurosearch.nn.highest import highest
from neurosearch.nn.taken import taken
from neurosearch.nn.text_encoder import Batch, TextTower, packed, padded
from neurosearch.nn.tokens import Tokens, batches_by_budget, tokenize

LOGITS = 8_192  # tokens whose V logits are computed at a time, at most


class VocabularyHead(nn.Module):
    """A token's state to V logits: the head of BERT's masked language modelling.

    l = E · LN(gelu(W h + c)) + b, with E the embeddings of the input. A network without such a
    head starts with W the identity and b the terms' log frequencies (`start`).
    """

    def __init__(self, width: int, vocabulary: int, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        nn.init.eye_(self.dense.weight)
        nn.init.zeros_(self.dense.bias)
        self.norm = nn.LayerNorm(width, epsilon)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """…×V logits of …×width states; `embeddings`: V×width."""
        return linear(self.shown(states), embeddings, self.bias)

    def shown(self, states: Tensor) -> Tensor:
        """…×width states as the embeddings are multiplied with them."""
        shown: Tensor = self.norm(gelu(self.dense(states)))
        return shown

    def start(self, counts: np.ndarray) -> None:
        """Set b to the centred log frequencies of the terms.

        Args:
            counts: V occurrences.
        """
        logs = np.log(counts + 1.0)
        self.bias.data.copy_(torch.from_numpy(logs - logs.mean()))

    def shift(self, highest: Tensor, terms: int) -> None:
        """Lower all logits alike, which a softmax does not see, to where texts have few terms.

        Args:
            highest: N×V, each term's highest logit over a text's tokens.
            terms: that a text is to have above 0, on average.
        """
        kept = min(terms * len(highest), highest.numel() - 1)
        values = highest.flatten()
        self.bias.data -= values.kthvalue(len(values) - kept).values


class TermTower(nn.Module):
    """Texts to term weights."""

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.tower = TextTower(shape.model, "cls")
        config = self.tower.network.config
        self.dimensions = self.embeddings.shape[0]
        if shape.expansion:
            epsilon = getattr(config, "layer_norm_eps", 1e-12)
            self.head: nn.Module = VocabularyHead(config.hidden_size, self.dimensions, epsilon)
        else:
            self.head = nn.Linear(config.hidden_size, 1)
            nn.init.ones_(self.head.bias)  # every token counts at first
        self._shape = shape
        self.register_buffer("special", torch.zeros(self.dimensions, dtype=torch.bool), False)
        self.special: Tensor
        self.special[special_tokens(self.tower.tokenizer)] = True
        self.register_buffer("idf", torch.zeros(self.dimensions))
        self.idf: Tensor

    @property
    def embeddings(self) -> Tensor:
        """V×width embeddings of the tokens, which the head uses again."""
        weight: Tensor = self.tower.network.get_input_embeddings().weight
        return weight

    def tokens(self, texts: Sequence[str], side: int) -> Tokens:
        """Tokens of queries (side 0) or products (1)."""
        return tokenize(self.tower.tokenizer, texts, self._shape.max_lengths[side])

    def start(self, products: Tokens) -> None:
        """Set the inverse document frequencies that inference-free queries are weighted with."""
        text = np.repeat(np.arange(len(products)), products.lengths)
        pairs = np.unique(text * self.dimensions + products.ids)
        found = np.bincount(pairs % self.dimensions, minlength=self.dimensions)
        idf = np.log1p((len(products) - found + 0.5) / (found + 0.5))
        self.idf.copy_(torch.from_numpy(idf))
        self.idf[self.special] = 0.0

    def forward(self, tokens: Tokens, side: int, budget: int, device: torch.device) -> Tensor:
        """N×V float32 weights in the order of `tokens`, with a graph where one is on."""
        if self._packs(side, device):
            lots = batches_by_budget(tokens.lengths, budget, is_packed=True)
            parts, found = [], []
            for lot in lots:
                mine, highest = self._packed(tokens.take(lot), device)
                parts.append(lot[mine])
                found.append(highest)
            weights = weights_of(torch.cat(found))
        else:
            parts = self._batches(tokens, budget)
            shown = [self._weights(tokens.take(rows), side, device) for rows in parts]
            weights = torch.cat(shown)
        order = np.argsort(np.concatenate(parts))
        return taken(weights, torch.from_numpy(order).to(device))

    def sparse(self, tokens: Tokens, side: int, budget: int, device: torch.device) -> Any:
        """The same as an N×V SciPy CSR matrix, without ever holding N×V numbers."""
        from scipy.sparse import csr_matrix, vstack

        parts = self._batches(tokens, budget)
        matrices = [
            csr_matrix(self._weights(tokens.take(rows), side, device).cpu().numpy())
            for rows in parts
        ]
        return vstack(matrices, format="csr")[np.argsort(np.concatenate(parts))]

    @staticmethod
    def _batches(tokens: Tokens, budget: int) -> list[np.ndarray]:
        return batches_by_budget(tokens.lengths, min(budget, LOGITS))

    def _packs(self, side: int, device: torch.device) -> bool:
        """Whether texts go through the network unpadded, all in one call."""
        by_idf = side == 0 and self._shape.queries == "idf"
        half = torch.is_autocast_enabled(device.type) or self.embeddings.dtype == torch.bfloat16
        vocabulary = isinstance(self.head, VocabularyHead)
        return vocabulary and not by_idf and self.tower.packs(device, half)

    def _packed(self, tokens: Tokens, device: torch.device) -> tuple[np.ndarray, Tensor]:
        """N rows of `tokens`, and N×V: the terms' highest logits over those texts' tokens."""
        assert isinstance(self.head, VocabularyHead)
        states = self.head.shown(self.tower.states(packed(tokens, device))[1])
        parts, found = self._batches(tokens, LOGITS), []
        for rows in parts:
            lengths = tokens.lengths[rows]
            place = np.arange(int(lengths.max()))[None, :]
            places = np.where(place < lengths[:, None], tokens.offsets[rows][:, None] + place, -1)
            rows_of = torch.from_numpy(places).to(device, non_blocking=True)
            found.append(highest(states, rows_of, self.embeddings, self.head.bias))
        return np.concatenate(parts), torch.cat(found)

    def _weights(self, tokens: Tokens, side: int, device: torch.device) -> Tensor:
        batch = padded(tokens, device)
        assert batch.mask is not None
        if side == 0 and self._shape.queries == "idf":
            weights = torch.zeros(len(tokens), self.dimensions, device=device)
            return weights.scatter_(1, batch.tokens, batch.mask.float()) * self.idf
        return weights_of(self.highest(batch))

    def highest(self, batch: Batch) -> Tensor:
        """B×V: each term's highest logit over a text's tokens; padded texts."""
        assert batch.mask is not None
        states, there = self.tower.states(batch)[1], batch.mask.bool()
        if isinstance(self.head, VocabularyHead):
            every = torch.arange(there.numel(), device=there.device).view(there.shape)
            shown, places = self.head.shown(states).flatten(0, 1), every.masked_fill(~there, -1)
            return highest(shown, places, self.embeddings, self.head.bias)
        scores = self.head(states)[..., 0].float()
        scores = scores.masked_fill(~there | self.special[batch.tokens], 0.0)
        zeros = torch.zeros(len(scores), self.dimensions, device=scores.device)
        return zeros.scatter_reduce(1, batch.tokens, scores, "amax")


def weights_of(highest: Tensor) -> Tensor:
    """Float32 weights log(1 + relu(l)) of highest logits; the maximum came first, as this is
    monotone, and is so of B×V numbers."""
    return torch.log1p(torch.relu(highest.float()))


def special_tokens(tokenizer: Any) -> list[int]:
    """Tokens that stand for no text: what is put around every text, padding, masks, the unknown."""
    added = tokenizer.get_added_tokens_decoder()
    named = [tokenizer.token_to_id(name) for name in ("[PAD]", "[UNK]", "[MASK]")]
    marked = [number for number, token in added.items() if token.special]
    return sorted({*tokenizer.encode("").ids, *marked, *(n for n in named if n is not None)})
