"""The network of cross-encoders: pairs of token lists as one input, a score for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurosearch.core.errors import InputError
from neurosearch.core.ragged import offsets_of
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Catalogue
from neurosearch.nn.pooling import pool, pool_packed
from neurosearch.nn.pretrained import WHOLE, declared_kind, model_folder, model_source
from neurosearch.nn.taken import taken
from neurosearch.nn.text_encoder import (
    check_length,
    check_vocabulary,
    load_pretrained,
    load_tokenizer,
    packed,
    packs,
    padded,
)
from neurosearch.nn.tokens import Tokens, batches_by_budget, tokenize

CLASSES = (0.0, 1 / 3, 2 / 3, 1.0)  # shares of the gain


class CrossTower(nn.Module):
    """An encoder and a linear head over the mean of its token states."""

    def __init__(self, recipe: Any) -> None:
        super().__init__()
        self.network, self.tokenizer = load_pretrained(recipe.model, "reranker.model")
        config = self.network.config
        check_length(self.network, *recipe.longest)
        self.check_specials(recipe.model)
        self.segments = getattr(config, "type_vocab_size", 1) > 1
        self.head = nn.Linear(config.hidden_size, recipe.outputs)
        self.register_buffer("worth", torch.tensor(CLASSES), persistent=False)
        self.worth: Tensor

    def check_specials(self, model: str) -> None:
        """Raise InputError for a tokenizer that does not put one token before and after a text."""
        specials = len(self.tokenizer.encode("").ids)
        if specials != 2:
            raise InputError(
                f"reranker.model={model!r}: its tokenizer adds {specials} tokens to a text; one "
                "before and one after it are needed"
            )

    def tokens(self, texts: Sequence[str], longest: int, second: bool) -> Tokens:
        """Tokens of the first text, special ones around it; of the second without the first."""
        tokens = tokenize(self.tokenizer, texts, longest)
        if not second:
            return tokens
        keep = np.ones(len(tokens.ids), dtype=bool)
        keep[tokens.offsets[:-1]] = False
        lengths = tokens.lengths - 1
        return Tokens(tokens.ids[keep], offsets_of(lengths))

    def forward(self, pairs: Tokens, firsts: np.ndarray, device: Any, half: bool) -> Tensor:
        """N×outputs of N pairs, the first `firsts` tokens of each being the query's."""
        if not packs(self.network, device, half):
            batch = padded(pairs, device)
            assert batch.mask is not None
            later = np.arange(batch.longest)[None, :] >= firsts[:, None]
            segments = torch.from_numpy(later.astype(np.int64)).to(device)
            return self.outputs(batch.tokens, batch.mask, segments)
        batch, lengths = packed(pairs, device), pairs.lengths
        within = np.arange(len(pairs.ids)) - np.repeat(pairs.offsets[:-1], lengths)
        options = {"position_ids": batch.positions, "max_length_q": batch.longest}
        options["cu_seq_lens_q"] = batch.bounds
        if self.segments:
            later = (within >= np.repeat(firsts, lengths))[None]
            options["token_type_ids"] = torch.from_numpy(later.astype(np.int64)).to(device)
        states = self.network(input_ids=batch.tokens, **options).last_hidden_state
        assert batch.bounds is not None
        pooled = pool_packed(states[0], batch.bounds, ("mean",))
        scores: Tensor = self.head(pooled.to(self.head.weight.dtype)).float()
        return scores

    def outputs(self, tokens: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """B×outputs of padded pairs, whose second texts have segment 1."""
        options: dict[str, Any] = {"attention_mask": mask}
        if self.segments:
            options["token_type_ids"] = segments
        states = self.network(input_ids=tokens, **options).last_hidden_state
        pooled = pool(states, mask, ("mean",))
        scores: Tensor = self.head(pooled.to(self.head.weight.dtype)).float()
        return scores

    def scores(self, outputs: Tensor) -> Tensor:
        """N: the logit, or the expected gain of the classes."""
        if outputs.shape[1] == 1:
            return outputs[:, 0]
        # In whole floats: under autocast a product of matrices would be halves again.
        return (outputs.float().softmax(dim=1) * self.worth.float()).sum(dim=1)

    def of_pairs(
        self,
        queries: Tokens,
        products: Tokens,
        pairs: tuple[np.ndarray, np.ndarray],
        budget: int,
        device: Any,
        half: bool,
    ) -> Tensor:
        """P×outputs of P (query, product) pairs, batch by batch."""
        query, row = pairs
        lengths = queries.lengths[query] + products.lengths[row]
        batches = batches_by_budget(lengths, budget, packs(self.network, device, half))
        scores = []
        for part in batches:
            query_tokens, shown = queries.take(query[part]), products.take(row[part])
            both = Tokens.joined(query_tokens, shown)
            order = np.arange(2 * len(part)).reshape(2, -1).T.ravel()  # query, product, query…
            mixed = both.take(order)
            whole = Tokens(mixed.ids, mixed.offsets[::2])
            scores.append(self(whole, query_tokens.lengths, device, half))
        back = torch.from_numpy(np.argsort(np.concatenate(batches))).to(device)
        return taken(torch.cat(scores), back)


class PublishedTower(CrossTower):
    """A published cross-encoder, which goes on from its own head.

    Raises:
        InputError: its head has several labels, or the objective needs a head of its own.
    """

    def __init__(self, recipe: Any) -> None:
        from transformers import AutoModelForSequenceClassification

        nn.Module.__init__(self)
        with model_source("reranker.model", recipe.model) as source:
            self.network = AutoModelForSequenceClassification.from_pretrained(source, **WHOLE)
            self.tokenizer = load_tokenizer(source)
        config = self.network.config
        if config.num_labels != 1 or recipe.outputs > 1:
            raise InputError(
                f"reranker.model={recipe.model!r} has a head of {config.num_labels} labels: a "
                "training goes on from heads of one, with another objective than `classes`"
            )
        check_length(self.network, *recipe.longest)
        self.check_specials(recipe.model)
        check_vocabulary(self.tokenizer, config, recipe.model)
        single, pair = self.tokenizer.encode("a"), self.tokenizer.encode("a", "a")
        self.segments = getattr(config, "type_vocab_size", 1) > 1 and any(pair.type_ids)
        self._doubled = len(pair) == 2 * len(single)  # RoBERTa's two separators between texts
        self._pad = config.pad_token_id or 0

    def tokens(self, texts: Sequence[str], longest: int, second: bool) -> Tokens:
        if not second or not self._doubled:
            return super().tokens(texts, longest, second)
        tokens = tokenize(self.tokenizer, texts, longest)
        ids = tokens.ids.copy()
        ids[tokens.offsets[:-1]] = self.tokenizer.encode("").ids[-1]
        return Tokens(ids, tokens.offsets)

    def forward(self, pairs: Tokens, firsts: np.ndarray, device: Any, half: bool) -> Tensor:
        batch = padded(pairs, device, self._pad)
        assert batch.mask is not None
        later = np.arange(batch.longest)[None, :] >= firsts[:, None]
        later &= np.arange(batch.longest)[None, :] < pairs.lengths[:, None]
        segments = torch.from_numpy(later.astype(np.int64)).to(device)
        return self.outputs(batch.tokens, batch.mask, segments)

    def outputs(self, tokens: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        options: dict[str, Any] = {"attention_mask": mask}
        if self.segments:
            options["token_type_ids"] = segments
        scores: Tensor = self.network(input_ids=tokens, **options).logits.float()
        return scores


def cross_tower(recipe: Any) -> CrossTower:
    """The network before training: a published head goes on, any other model gets a new one."""
    _, names = declared_kind(model_folder(recipe.model, "reranker.model"))
    classifies = any(name.endswith("ForSequenceClassification") for name in names)
    return PublishedTower(recipe) if classifies else CrossTower(recipe)


class LiveCross:
    """A trained cross-encoder on the runtime's device."""

    def __init__(self, recipe: Any, folder: Path, runtime: Runtime) -> None:
        from safetensors.torch import load_model

        self._recipe, self._runtime = recipe, runtime
        self.device = runtime.torch_device()
        self._half = recipe.precision == "bf16"
        tower = cross_tower(recipe)
        load_model(tower, str(folder / "cross.safetensors"))
        precision = torch.bfloat16 if self._half else torch.float32
        self.tower = tower.to(self.device, precision).eval()

    def queries(self, texts: Sequence[str]) -> Tokens:
        return self.tower.tokens(texts, self._recipe.query_max_length, False)

    def products(self, catalogue: Catalogue) -> Tokens:
        return self.tower.tokens(
            catalogue.all_texts(self._recipe.fields, self._recipe.separator),
            self._recipe.product_max_length,
            True,
        )

    def scores(
        self, queries: Tokens, products: Tokens, query: np.ndarray, row: np.ndarray
    ) -> np.ndarray:
        """P float32 scores, in slices of pairs."""
        return self._read(queries, products, query, row, self.tower.scores)

    def shares(
        self, queries: Tokens, products: Tokens, query: np.ndarray, row: np.ndarray
    ) -> np.ndarray:
        """P×outputs float64 probabilities of classes, in slices of pairs."""

        def likely(outputs: Tensor) -> Tensor:
            return outputs.double().softmax(dim=1)

        return self._read(queries, products, query, row, likely)

    def _read(
        self,
        queries: Tokens,
        products: Tokens,
        query: np.ndarray,
        row: np.ndarray,
        said: Callable[[Tensor], Tensor],
    ) -> np.ndarray:
        budget, parts = self._runtime.batch_budget(self.device), []
        size = 65_536 if self.device.type == "cuda" else 2_048
        with self._runtime.progressing("reading pairs", len(query)) as advance:
            for start in range(0, len(query), size):
                pairs = query[start : start + size], row[start : start + size]
                with torch.inference_mode():
                    outputs = self.tower.of_pairs(
                        queries, products, pairs, budget, self.device, self._half
                    )
                    parts.append(said(outputs).cpu().numpy())
                advance(len(pairs[0]))
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
