"""Inner products of vectors come apart into words, MaxSim into tokens and their best matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurosearch.core.artifact import Artifact
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import Encoder
from neurosearch.explainer.base import Explain, Explanation, Part, Scene, sorted_parts
from neurosearch.retriever.late_interaction import LateInteraction

LONGEST = 256  # tokens of a text, where the encoder names no number
SHOWN = 5  # words of a product that are named; the others are one part


class WordShares:
    """The words of texts, and what they add to the texts' vectors; None where nothing comes apart.

    `products`: whether products are read by the same network as queries.
    """

    def __init__(self, encoder: Encoder, tower: Any) -> None:
        self._encoder, self._tower = encoder, tower
        self.products = getattr(encoder, "towers", "shared") == "shared"

    @classmethod
    def of(cls, encoder: Encoder, scene: Scene) -> WordShares | None:
        """Load the network once more, on the CPU.

        Args:
            encoder: of the system.
            scene: data, request and runtime.

        Returns:
            The words' shares, or None where the encoder's vectors do not come apart.
        """
        if not encoder.has_network:
            return None
        from neurosearch.nn.token_shares import comes_apart

        trained: Artifact[Any] | None = encoder.trained(scene.data)
        weights = None if trained is None else scene.runtime.get(trained)
        tower = encoder.tower(weights)
        return cls(encoder, tower.float().cpu().eval()) if comes_apart(tower) else None

    def __call__(self, text: str, side: int) -> tuple[list[str], np.ndarray]:
        """W words of a query (side 0) or a product (1), and their W×D shares."""
        from neurosearch.nn.token_shares import word_shares

        shape = getattr(self._encoder, "shape", None)
        longest = shape.max_lengths[side] if shape else getattr(self._encoder, "max_length", None)
        longest = longest or LONGEST
        return word_shares(self._tower, self._encoder.prefixes[side], text, longest)


def cosine_parts(
    shares: WordShares,
    products: Embeddings,
    texts: Sequence[str],
    asked: tuple[list[str], np.ndarray],
    row: int,
    factor: float = 1.0,
) -> list[Part]:
    """An inner product's parts by words of the query, and each one's by words of the product.

    Args:
        shares: of the encoder.
        products: their vectors.
        texts: of all products, by row.
        asked: words of the query and their shares.
        row: of the product.
        factor: of all parts.

    Returns:
        One part a word, the largest first.
    """
    words, own = asked
    values = factor * (own @ np.asarray(products.vectors[row], dtype=np.float32))
    table, named = None, list[str]()
    if shares.products:
        named, shown = shares(texts[row], 1)
        table = factor * (own @ shown.T)
    parts = []
    for place, (word, value) in enumerate(zip(words, values, strict=True)):
        below: list[Part] = []
        if table is not None:
            best = np.argsort(-np.abs(table[place]), kind="stable")[:SHOWN]
            below = [Part(named[n], float(table[place, n])) for n in best]
            rest = float(value) - sum(part.value for part in below)
            below.append(Part("all else", rest))
        parts.append(Part(word, float(value), parts=tuple(below)))
    return list(sorted_parts(parts))


def late_parts(system: LateInteraction, live: Any, scene: Scene) -> Explain:
    """Explain MaxSim: a query token's best match, over the number of tokens.

    Args:
        system: the retriever.
        live: its searcher.
        scene: data, request and runtime.

    Returns:
        A function that explains.
    """
    products = scene.runtime.get(system.encoder.product_tokens(scene.data))
    catalogue = scene.runtime.get(scene.data).catalogue
    texts = catalogue.all_texts(system.encoder.fields, system.encoder.separator)
    tower = getattr(live.live, "tower", None)

    def names(text: str, side: int, count: int) -> list[str]:
        if tower is None:
            return [f"token {number}" for number in range(1, count + 1)]
        ids = tower.tokens([text], side).ids
        if side == 1:
            ids = ids[tower.kept.cpu().numpy()[ids]]
        known = [tower.tokenizer.id_to_token(int(number)) for number in ids][:count]
        # Queries may be filled up with masks; pooled products have fewer vectors than tokens.
        if side == 1 and len(ids) != count:
            return [f"token {number}" for number in range(1, count + 1)]
        return known + ["[MASK]"] * (count - len(known))

    def explain(text: str, rows: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        (read,) = live.query.texts([text])
        typed, _ = live.live.encode([read], 0)
        asked = live.joined([read]).of(0) if hasattr(live, "joined") else typed
        named, found = names(read, 0, len(typed)), []
        named += [f"fed back {number}" for number in range(1, len(asked) - len(typed) + 1)]
        for row, score in zip(rows, scores, strict=True):
            shown = products.of(int(row))
            matches = np.asarray(asked, dtype=np.float32) @ shown.T
            best = matches.argmax(axis=1)
            there = names(texts[int(row)], 1, len(shown))
            parts = [
                Part(name, float(matches[n, best[n]]) / len(asked), f"→ {there[best[n]]}")
                for n, name in enumerate(named)
            ]
            how = "each token's best match in the product, over the number of tokens"
            found.append(Explanation(float(score), sorted_parts(parts), how=how))
        return found

    return explain
