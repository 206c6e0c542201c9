"""Training examples: queries and their products (retrieval), products' own words (indexing).

Indexing examples are drawn anew at every step, from the tokens of a product's text, cut at words:
the whole text, a span, or a few words of it in their order, which reads like a keyword query
(the representations that DSI-QG, Zhuang et al. 2022, found queries to need). Which examples step s
of seed r has is a function of (r, s), so a resumed training sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.ragged import offsets_of
from neurosearch.core.recipe import Recipe
from neurosearch.nn.tokens import Tokens


@dataclass(frozen=True)
class Crops(Recipe):
    """Shares of what an indexing example shows of its product's text, and how much of it.

    Attributes:
        whole, span, keywords: relative shares.
        pseudo: of generated queries (see `doc2query`), where there are any.
        shortest, longest: words of a span or of keywords.
    """

    whole: float = 1.0
    span: float = 1.0
    keywords: float = 2.0
    pseudo: float = 2.0
    shortest: int = 1
    longest: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = (self.whole, self.span, self.keywords, self.pseudo)
        if min(shares) < 0 or sum(shares[:3]) <= 0:
            raise InputError(f"generator.crops: shares must be positive, not {shares}")
        if not 1 <= self.shortest <= self.longest:
            message = f"shortest={self.shortest}, longest={self.longest}"
            raise InputError(f"generator.crops: {message}: 1 <= shortest <= longest")


@dataclass(frozen=True)
class Words:
    """Tokens of texts without special ones, and the word of its text that each belongs to."""

    tokens: Tokens
    word: np.ndarray
    before: np.ndarray  # special tokens that the encoder wants around a text
    after: np.ndarray

    @classmethod
    def of(cls, tokenizer: Any, texts: Sequence[str], max_length: int, prefix: str = "") -> Words:
        """The texts cut at `max_length` tokens, special ones and the `prefix` counted."""
        tokenizer.no_padding()
        tokenizer.no_truncation()
        around = tokenizer.encode(f"{prefix}a")
        text = [i for i, special in enumerate(around.special_tokens_mask) if not special][-1]
        before = np.array(around.ids[:text], dtype=np.int64)
        after = np.array(around.ids[text + 1 :], dtype=np.int64)
        room = max_length - len(before) - len(after)
        encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        lengths = np.array([min(len(e.ids), room) for e in encoded], dtype=np.int64)
        offsets = offsets_of(lengths)
        ids = np.fromiter(chain.from_iterable(e.ids[:room] for e in encoded), np.int64, offsets[-1])
        words = chain.from_iterable(e.word_ids[:room] for e in encoded)
        return cls(Tokens(ids, offsets), np.fromiter(words, np.int64, offsets[-1]), before, after)

    def crop(self, rows: np.ndarray, crops: Crops, rng: np.random.Generator) -> Tokens:
        """One example of each of these texts, special tokens around it."""
        tokens = self.tokens.take(rows)
        spread = np.repeat(self.tokens.offsets[rows] - tokens.offsets[:-1], tokens.lengths)
        word = self.word[spread + np.arange(len(tokens.ids))]
        text = np.repeat(np.arange(len(rows)), tokens.lengths)
        last = np.zeros(len(rows), dtype=np.int64)
        np.maximum.at(last, text, word)
        words = last + 1
        shares = np.array([crops.whole, crops.span, crops.keywords])
        kind = rng.choice(3, len(rows), p=shares / shares.sum())
        count = np.minimum(rng.integers(crops.shortest, crops.longest + 1, len(rows)), words)
        first = (rng.random(len(rows)) * (words - count + 1)).astype(np.int64)
        in_span = (word >= first[text]) & (word < (first + count)[text])
        # A word is among the keywords where its random key is among the `count` least.
        starts = offsets_of(words)
        keys = rng.random(starts[-1])
        owner = np.repeat(np.arange(len(rows)), words)
        order = np.lexsort((keys, owner))
        rank = np.empty(len(keys), dtype=np.int64)
        rank[order] = np.arange(len(keys)) - np.repeat(starts[:-1], words)
        drawn = rank[starts[text] + word] < count[text]
        keep = np.select([kind[text] == 0, kind[text] == 1], [np.ones_like(drawn), in_span], drawn)
        return self._around(tokens.ids[keep], np.bincount(text[keep], minlength=len(rows)))

    def _around(self, ids: np.ndarray, lengths: np.ndarray) -> Tokens:
        """Texts of `lengths` tokens with the special ones about them."""
        full = lengths + len(self.before) + len(self.after)
        offsets = offsets_of(full)
        filled = np.empty(offsets[-1], dtype=np.int64)
        inner = np.zeros(offsets[-1], dtype=bool)
        begin = offsets[:-1] + len(self.before)
        text = np.repeat(np.arange(len(lengths)), lengths)
        within = np.arange(len(ids)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        inner[begin[text] + within] = True
        filled[inner] = ids
        for place, token in enumerate(self.before):
            filled[offsets[:-1] + place] = token
        for place, token in enumerate(self.after[::-1], 1):
            filled[offsets[1:] - place] = token
        return Tokens(filled, offsets)


@dataclass
class ExampleBatches:
    """What each step sees.

    Attributes:
        queries: tokens of the train queries.
        pairs: (query, row) arrays of the positive pairs.
        words: of the products' texts.
        pseudo: tokens of generated queries and the row of each, or None.
        index_ratio: indexing examples for one of retrieval.
    """

    queries: Tokens
    pairs: tuple[np.ndarray, np.ndarray]
    words: Words
    pseudo: tuple[Tokens, np.ndarray] | None
    crops: Crops
    batch_size: int
    index_ratio: float
    seed: int

    @property
    def indexing(self) -> int:
        """How many of a batch are indexing examples."""
        return round(self.batch_size * self.index_ratio / (1 + self.index_ratio))

    def draw(self, step: int) -> tuple[Tokens, np.ndarray, np.ndarray]:
        """(texts, product row of each, query of each or -1 for indexing): retrieval first."""
        rng = np.random.default_rng([self.seed, step])
        query, row = self.pairs
        indexing = self.indexing
        chosen = self._next("pairs", len(query), self.batch_size - indexing, step)
        parts = [self.queries.take(query[chosen])]
        rows, queries = [row[chosen]], [query[chosen]]
        generated = 0
        if self.pseudo is not None:
            shares = self.crops
            total = shares.whole + shares.span + shares.keywords + shares.pseudo
            generated = round(indexing * shares.pseudo / total)
            places = self._next("pseudo", len(self.pseudo[1]), generated, step)
            parts.append(self.pseudo[0].take(places))
            rows.append(self.pseudo[1][places])
        titles = self._next("words", len(self.words.tokens), indexing - generated, step)
        parts.append(self.words.crop(titles, self.crops, rng))
        rows.append(titles)
        queries.append(np.full(indexing, -1, dtype=np.int64))
        return Tokens.joined(*parts), np.concatenate(rows), np.concatenate(queries)

    def _next(self, what: str, total: int, count: int, step: int) -> np.ndarray:
        """`count` of `total` numbers: a permutation is gone through before the next begins."""
        places = np.arange(step * count, (step + 1) * count)
        epochs = places // total
        numbers = np.empty(count, dtype=np.int64)
        for epoch in np.unique(epochs):
            order = np.random.default_rng([self.seed, len(what), int(epoch)]).permutation(total)
            numbers[epochs == epoch] = order[places[epochs == epoch] % total]
        return numbers
