"""What retrieval metrics don't say of a generator, query by query.

* validity: share of the ten best unconstrained sequences that are IDs of the catalogue;
* prefix@l: whether the first l codes of the best constrained ID are those of a relevant product,
  and `any prefix@l` of one of the ten best;
* CE@l: cross-entropy (nats) of the l-th codes of the relevant products, their prefixes given;
* Recall@10 of relevant products that some train query has as relevant (seen), and of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.artifact import Artifact
from neurosearch.data import view
from neurosearch.generator.base import CodeModelFiles
from neurosearch.generator.live import LiveGenerator
from neurosearch.retriever.base import Topics
from neurosearch.runtime import Runtime
from neurosearch.types import Dataset, Run, SemanticIds

BEAM = 10
METRICS = ("validity", "Recall@10 seen", "Recall@10 unseen")
BY_LEVEL = ("prefix", "any prefix", "CE")  # with @l after it


@dataclass(frozen=True)
class GenerationMetrics(Artifact[pl.DataFrame]):
    """generation.parquet: `query_id` and a Float64 column a metric, null where it is undefined."""

    kind: ClassVar[str] = "generation"
    data: Artifact[Dataset]
    topics: Topics
    ids: Artifact[SemanticIds]
    trained: Artifact[CodeModelFiles]
    run: Artifact[Run]

    @classmethod
    def of(
        cls,
        data: Artifact[Dataset],
        topics: Topics,
        ids: Artifact[SemanticIds],
        trained: Artifact[CodeModelFiles],
        run: Artifact[Run],
    ) -> GenerationMetrics:
        """The metrics of a run; they need the split's judgments, and what train has judged."""
        judged = view.learning(data, topics.split, "train")
        return cls(judged, topics, ids, trained, run)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        from neurosearch.generator.network import path_scores

        data, ids = runtime.get(self.data), runtime.get(self.ids)
        queries = self.topics.queries(data)
        files = runtime.get(self.trained)
        model = LiveGenerator(files, ids, runtime)
        gain = files.generator.gain
        order = queries.frame.select("query_id").with_row_index("query")
        numbers = pl.DataFrame({"product_id": data.catalogue.ids}).with_row_index("row")

        def relevant(split: str) -> pl.DataFrame:
            judged = gain.graded(data.judgments(split)).filter("relevant")
            return judged.join(numbers, on="product_id")

        good = relevant(queries.split).join(order, on="query_id").sort("query", "row")
        asked, rows = good["query"].to_numpy(), good["row"].to_numpy()
        columns: dict[str, Any] = {}
        texts = model.asked(queries, data.catalogue)
        free = model.search(texts, BEAM, constrained=False)
        columns["validity"] = (free.nodes >= 0).mean(axis=1)
        bound = model.search(texts, BEAM)
        codes = np.asarray(ids.codes)[rows]
        losses = -path_scores(model.network, model.tokens(texts), asked, codes, model.device)
        count = np.bincount(asked, minlength=len(queries))
        for level in range(codes.shape[1]):
            depth = level + 1
            same = (bound.codes[asked, :, :depth] == codes[:, None, :depth]).all(axis=2)
            for name, hit in (("prefix", same[:, 0]), ("any prefix", same.any(axis=1))):
                hits = np.zeros(len(queries))
                np.maximum.at(hits, asked, hit.astype(float))
                columns[f"{name}@{depth}"] = np.where(count > 0, hits, np.nan)
            columns[f"CE@{depth}"] = _means(losses[:, level], asked, count)
        seen = np.isin(rows, relevant("train")["row"].to_numpy())
        top = runtime.get(self.run).frame.filter(pl.col("rank") <= 10)
        keys = ["query_id", "product_id"]
        hit = good.join(top.select(*keys, hit=pl.lit(1.0)), on=keys, how="left").sort(
            "query", "row"
        )
        hits = hit["hit"].fill_null(0.0).to_numpy()
        for name, those in (("seen", seen), ("unseen", ~seen)):
            among = np.bincount(asked[those], minlength=len(queries))
            columns[f"Recall@10 {name}"] = _means(hits[those], asked[those], among)
        frame = pl.DataFrame({"query_id": queries.ids, **columns}).fill_nan(None)
        frame.write_parquet(folder / "generation.parquet")
        means = frame.drop("query_id").mean().row(0, named=True)
        return {name: value if value is None else round(value, 4) for name, value in means.items()}

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "generation.parquet")


def _means(values: np.ndarray, query: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Q means of the values of each query, NaN where it has none."""
    sums = np.bincount(query, weights=values, minlength=len(count))
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)
