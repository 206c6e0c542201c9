"""SIMULATED logs: users of a known kind see the judged products of a split's queries.

A system ranks a query's judged products; normal noise moves products between ranks, as changes of
a live system do. Users click by the products' grades, stay longer with better ones (log-normal),
and buy some of the best. So bias, users and grades are planted, and what is estimated from the
clicks can be held against them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest, Retriever
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, judgments_of, queries_of
from neurosearch.evaluation.gain import Gain
from neurosearch.logs.base import LogArtifact, Logs, SearchLog
from neurosearch.query.none import NoProcessing
from neurosearch.users.base import Users
from neurosearch.users.pbm import PBMUsers

BUYS = (0.0, 0.02, 0.1, 0.5)  # chance of a purchase after a click, by grade
STAYS = 8.0  # median seconds after a click on the worst grade; each grade doubles it
AGAIN = 0.7  # chance that a client searches again
BLOCK = 20_000  # lists that are drawn at a time


@dataclass(frozen=True)
class Simulated(Logs):
    """Attributes:
    users: how they click.
    ranker: whose order of the judged products is shown.
    lists: of the train queries; dev has as many for each of its queries.
    shown: products of a list.
    noise: standard deviation of what is added to scores, in those of a query's scores.
    shuffled: share of the lists that are shown in random order.
    gain: by which judgments become four grades.
    """

    simulated: ClassVar[bool] = True
    users: Users = field(default_factory=PBMUsers)
    ranker: Retriever = field(kw_only=True)
    gain: Gain = field(kw_only=True)
    lists: int = setting(20_000, least=1)
    shown: int = setting(10, least=2)
    noise: float = setting(0.5, least=0)
    shuffled: float = setting(0.0, least=0, most=1)
    seed: int = 0

    def log(self, data: Artifact[Dataset], split: str) -> Artifact[SearchLog]:
        if split not in ("train", "dev"):
            raise InputError(f"logs: nothing is simulated for the {split} queries")
        request = RetrievalRequest(NoProcessing(), split, 200, "judged")
        train = view.only(data, queries_of("train"))
        judged = view.only(data, queries_of(split), judgments_of(split))
        return SimulatedLog(judged, split, self, self.ranker.run(data, request), train)

    def planted_examination(self, ranks: int) -> np.ndarray | None:
        if not isinstance(self.users, PBMUsers):
            return None
        return self.users.looked(ranks)

    def label(self) -> str:
        return f"simulated ({self.users.label()})"


@dataclass(frozen=True)
class SimulatedLog(LogArtifact):
    recipe: Simulated
    run: Artifact[Run]
    train: Artifact[Dataset]

    def gathered(self, runtime: Runtime) -> SearchLog:
        recipe, data = self.recipe, runtime.get(self.data)
        queries = data.queries(self.split)
        count = recipe.lists
        if self.split != "train":
            share = len(queries) / len(runtime.get(self.train).queries("train"))
            count = max(1, round(recipe.lists * share))
        rng = np.random.default_rng([recipe.seed, len(self.split)])
        pools = Pools.of(data, self.split, recipe.gain, runtime.get(self.run))
        client = np.repeat(np.arange(count), rng.geometric(1 - AGAIN, size=count))[:count]
        frames = []
        with runtime.progressing("lists of users", count) as done:
            for start in range(0, count, BLOCK):
                who = client[start : start + BLOCK]
                frames.append(self._drawn(pools, who, start, rng))
                done(len(who))
        return SearchLog(pl.concat(frames), {})

    def _drawn(
        self, pools: Pools, client: np.ndarray, start: int, rng: np.random.Generator
    ) -> pl.DataFrame:
        """The impressions of some lists."""
        recipe, size = self.recipe, len(client)
        query = rng.integers(len(pools.query_ids), size=size)
        there = pools.rows[query] >= 0
        scores = pools.scores[query] + recipe.noise * rng.normal(size=there.shape)
        random = rng.random(size) < recipe.shuffled
        scores = np.where(random[:, None], rng.random(there.shape), scores)
        order = np.argsort(np.where(there, -scores, np.inf), axis=1)[:, : recipe.shown]
        grades = np.take_along_axis(pools.grades[query], order, axis=1)
        rows = np.take_along_axis(pools.rows[query], order, axis=1)
        clicks = recipe.users.clicks(grades, rng) & (rows >= 0)
        best = np.maximum(grades, 0)
        stays = rng.lognormal(np.log(STAYS * 2.0**best), 1.0)
        bought = clicks & (rng.random(clicks.shape) < np.array(BUYS)[best])
        line, place = np.nonzero(rows >= 0)
        at = line, place
        return pl.DataFrame(
            {
                "list": start + line,
                "client": pl.Series([f"c{number}" for number in client[line]]),
                "query_id": pools.query_ids.gather(query[line]),
                "product_id": pools.product_ids.gather(rows[at]),
                "position": place + 1,
                "clicked": clicks[at],
                "purchased": bought[at],
                "dwell": np.where(clicks[at], stays[at], np.nan),
                "randomised": random[line],
            }
        ).with_columns(pl.col("dwell").fill_nan(None))


@dataclass(frozen=True)
class Pools:
    """Judged products of Q queries, padded to the largest pool.

    Attributes:
        query_ids: Q.
        product_ids: of all products.
        rows: Q×M places in `product_ids`; -1 beyond a pool's end.
        grades: Q×M int64, 0 to 3; -1 beyond the end.
        scores: Q×M float64 of the ranker, standardised within a query.
    """

    query_ids: pl.Series
    product_ids: pl.Series
    rows: np.ndarray
    grades: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, data: Dataset, split: str, gain: Gain, run: Run) -> Pools:
        """From judgments and a run.

        Args:
            data: with the split's queries and judgments.
            split: of the queries.
            gain: grades are thirds of its largest value.
            run: of the ranker, over the judged products.

        Returns:
            The pools of queries with two judged products or more.
        """
        graded = gain.graded(data.judgments(split))
        share = pl.col("gain") / max(float(graded["gain"].to_numpy().max()), 1e-12)
        scored = run.frame.select("query_id", "product_id", "score")
        frame = graded.with_columns(grade=(share * 3).round().cast(pl.Int64)).join(
            scored, on=["query_id", "product_id"], how="left", maintain_order="left"
        )
        frame = frame.filter(pl.len().over("query_id") >= 2)
        if frame.is_empty():
            raise InputError(f"logs: no {split} query has two judged products")
        score = pl.col("score").fill_null(pl.col("score").min()).fill_null(0.0)
        centred = score - score.mean()
        deviation = score.std().fill_null(0.0)
        frame = frame.with_columns(
            pl.when(deviation > 0).then(centred / deviation).otherwise(0.0).over("query_id")
            .alias("score"),
            place=pl.int_range(pl.len()).over("query_id"),
            query=pl.col("query_id").rank("dense").cast(pl.Int64) - 1,
        )  # fmt: skip
        names = frame["query_id"].unique().sort()
        products = frame["product_id"].unique().sort()
        row = frame["product_id"].rank("dense").to_numpy().astype(np.int64) - 1
        at = frame["query"].to_numpy(), frame["place"].to_numpy()
        shape = (len(names), int(at[1].max()) + 1)
        rows, grades = (np.full(shape, -1, dtype=np.int64) for _ in range(2))
        scores = np.zeros(shape)
        rows[at], grades[at], scores[at] = row, frame["grade"].to_numpy(), frame["score"].to_numpy()
        return cls(names, products, rows, grades, scores)
