"""What a learner of rankings sees of a pair: words, and scores of models.

Words (`lexical`); models: what the first stage said and, where it fuses lists, what each of its
members said; cosines of encoders, scores of other re-rankers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import pair_cosines
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.pair_words import Lexical

FIRST = ("first score", "first rank", "first share")


@dataclass(frozen=True)
class Features(Artifact[pl.DataFrame]):
    """features.parquet: `query_id`, `product_id`, and a Float32 column a feature.

    `cosines`: (vectors of queries, of products) by name; `scored`: runs of the candidates by name;
    `legs`: the lists that the first stage fused, by name; `analyzer`: of words.
    """

    kind: ClassVar[str] = "features"
    candidates: Artifact[Run]
    data: Artifact[Dataset]
    request: RetrievalRequest
    cosines: Mapping[str, tuple[Artifact[Embeddings], Artifact[Embeddings]]]
    scored: Mapping[str, Artifact[Run]]
    analyzer: Analyzer
    legs: Mapping[str, Artifact[Run]]

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data, run = runtime.get(self.data), runtime.get(self.candidates)
        queries = self.request.processed(data, runtime)
        pairs = numbered_pairs(run, queries.ids, data.catalogue.ids)
        query, row = pairs["query"].to_numpy(), pairs["row"].to_numpy()
        columns: dict[str, Any] = of_first_stage(pairs)
        words = Lexical(data.catalogue.all_texts(("title",)), self.analyzer)
        columns |= words.features(queries.texts, query, row)
        for name, (query_side, shown) in self.cosines.items():
            vectors = runtime.get(query_side).vectors, runtime.get(shown).vectors
            columns[f"cosine {name}"] = pair_cosines(*vectors, query, row)
        for name, leg in self.legs.items():
            found = numbered_pairs(runtime.get(leg), queries.ids, data.catalogue.ids)
            columns |= of_leg(name, pairs, found)
        columns |= agreement(list(self.legs), columns)
        frame = pairs.select("query_id", "product_id").with_columns(
            pl.Series(name, values, pl.Float32) for name, values in columns.items()
        )
        keys = ["query_id", "product_id"]
        for name, scored in self.scored.items():
            scores = runtime.get(scored).frame.select(
                *keys, pl.col("score").cast(pl.Float32).alias(f"score {name}")
            )
            frame = frame.join(scores, on=keys, how="left", maintain_order="left")
        frame.write_parquet(folder / "features.parquet")
        facts = [name for name in frame.columns if name not in keys]
        (folder / "features.json").write_text(json.dumps(facts), encoding="utf-8")
        return {"pairs": frame.height, "features": len(facts)}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "features.parquet", glob=False)


def of_first_stage(pairs: pl.DataFrame) -> dict[str, np.ndarray]:
    """Score, rank, and score as a share of the query's best, by their names among the features.

    `pairs`: `query`, `score`, `rank`.
    """
    best = pl.col("score").max().over("query")
    message = pairs.select("score", "rank", share=pl.col("score") / best.clip(1e-9))
    columns = (message[name].to_numpy() for name in ("score", "rank", "share"))
    return dict(zip(FIRST, columns, strict=True))


def of_leg(name: str, pairs: pl.DataFrame, found: pl.DataFrame) -> dict[str, np.ndarray]:
    """What a member of the first stage said of pairs: score, rank, standard score of its list.

    Args:
        name: of the member.
        pairs: `query`, `row`.
        found: the member's list: `query`, `row`, `score`, `rank`.

    Returns:
        Float64 columns by name, nan where the member did not find the product.
    """
    score = pl.col("score")
    standard = (score - score.mean().over("query")) / score.std(ddof=0).over("query").clip(1e-9)
    said = found.select("query", "row", "score", pl.col("rank").cast(pl.Float64), z=standard)
    known = pairs.select("query", "row").join(
        said, on=["query", "row"], how="left", maintain_order="left"
    )
    return {
        f"leg {name} {what}": known[what].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        for what in ("score", "rank", "z")
    }


def agreement(legs: Sequence[str], columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How many members have a product among their first ten, and their best rank of it.

    Args:
        legs: names of the members; none for no such columns.
        columns: with those of `of_leg`.

    Returns:
        Columns by name.
    """
    if not legs:
        return {}
    ranks = np.stack([columns[f"leg {name} rank"] for name in legs])
    ranks = np.where(np.isnan(ranks), np.inf, ranks)
    best = ranks.min(axis=0)
    return {
        "legs agree": (ranks <= 10).sum(axis=0).astype(np.float64),
        "legs best rank": np.where(np.isfinite(best), best, np.nan),
    }
