"""The logs role: impressions of a split's queries, simulated or read from files.

An impression is one product in one list that was shown. Whatever a log is made of, it becomes one
frame of impressions; what was left out of it is counted by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.clicks.base import ClickLog
from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset

IMPRESSIONS = {
    "list": pl.Int64,  # number of the list, from 0
    "client": pl.String,  # who saw it; null where nobody is named
    "query_id": pl.String,
    "product_id": pl.String,
    "position": pl.Int64,  # from 1
    "clicked": pl.Boolean,
    "purchased": pl.Boolean,
    "dwell": pl.Float64,  # seconds after the click; null where unknown
    "randomised": pl.Boolean,  # the list was shown in random order
}
LEFT_OUT = "left_out.json"


@dataclass(frozen=True)
class SearchLog:
    """Attributes:
    frame: one row an impression (IMPRESSIONS), by list and position.
    left_out: how many lines were left out, by reason.
    """

    frame: pl.DataFrame
    left_out: Mapping[str, int]

    def arrays(self, ranks: int = 10) -> LoggedClicks:
        """The log as matrices.

        Args:
            ranks: K, positions that are kept.

        Returns:
            Lists, clicks and what each click is worth.

        Raises:
            InputError: the log has no impressions.
        """
        frame = self.frame.filter(pl.col("position") <= ranks)
        if frame.is_empty():
            raise InputError("the log has no impressions")
        pairs = frame.select("query_id", "product_id").unique().sort("query_id", "product_id")
        numbered = pairs.with_row_index("pair")
        frame = frame.join(numbered, on=["query_id", "product_id"], maintain_order="left")
        lists = frame["list"].rank("dense").to_numpy().astype(np.int64) - 1
        place = lists, frame["position"].to_numpy() - 1
        shape = (int(lists.max()) + 1, ranks)
        held = np.full(shape, -1, dtype=np.int64)
        held[place] = frame["pair"].to_numpy()
        clicks, bought, random = (np.zeros(shape, dtype=bool) for _ in range(3))
        clicks[place] = frame["clicked"].to_numpy()
        bought[place] = frame["purchased"].to_numpy()
        random[place] = frame["randomised"].to_numpy()
        dwell = np.full(shape, np.nan)
        dwell[place] = frame["dwell"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        log = ClickLog(held, clicks, pairs.height)
        clients = frame.filter(pl.col("clicked")).group_by("pair").agg(pl.col("client").n_unique())
        clickers = np.zeros(pairs.height, dtype=np.int64)
        clickers[clients["pair"].to_numpy()] = clients["client"].to_numpy()
        shuffled = np.asarray(random.any(axis=1))
        return LoggedClicks(log, pairs, shuffled, dwell, bought, clickers)


@dataclass(frozen=True)
class LoggedClicks:
    """Attributes:
    log: S lists of K pairs, and their clicks.
    pairs: `query_id` and `product_id` of each of the P pairs.
    randomised: S bool, lists that were shown in random order.
    dwell: S×K float64 seconds; NaN where unknown.
    purchased: S×K bool.
    clickers: P int64, distinct clients who clicked the pair.
    """

    log: ClickLog
    pairs: pl.DataFrame
    randomised: np.ndarray
    dwell: np.ndarray
    purchased: np.ndarray
    clickers: np.ndarray

    def part(self, kept: np.ndarray) -> LoggedClicks:
        """Some of the lists.

        Args:
            kept: S bool.

        Returns:
            The log of these lists; pairs keep their numbers.
        """
        log = ClickLog(self.log.pairs[kept], self.log.clicks[kept], self.log.count)
        parts = self.randomised[kept], self.dwell[kept], self.purchased[kept]
        return LoggedClicks(log, self.pairs, *parts, self.clickers)

    def with_unseen(self, pairs: pl.DataFrame) -> LoggedClicks:
        """The log with further pairs, which no list has.

        Args:
            pairs: `query_id`, `product_id`; of the log's queries alone those are added.

        Returns:
            The same lists; the pairs of the log keep their numbers.
        """
        keys = ["query_id", "product_id"]
        asked = pairs.join(self.pairs.select("query_id").unique(), on="query_id", how="semi")
        more = asked.select(keys).join(self.pairs, on=keys, how="anti").unique().sort(keys)
        whole = pl.concat([self.pairs, more])
        log = ClickLog(self.log.pairs, self.log.clicks, whole.height)
        clickers = np.concatenate([self.clickers, np.zeros(more.height, dtype=np.int64)])
        return LoggedClicks(log, whole, self.randomised, self.dwell, self.purchased, clickers)

    def worth(self, dwell: float, purchase: float, clients: int) -> np.ndarray:
        """What each click is worth.

        Args:
            dwell: seconds; a shorter stay counts as no click, an unknown one as a click.
            purchase: added to 1 for a click that ended in a purchase.
            clients: clicks of pairs that fewer clients clicked are worth nothing.

        Returns:
            S×K float64; 0 where nothing was clicked.
        """
        stayed = self.log.clicks & ~(self.dwell < dwell)
        enough = self.log.of((self.clickers >= clients).astype(np.float64)) > 0
        found: np.ndarray = (stayed & enough) * (1.0 + purchase * self.purchased)
        return found


@dataclass(frozen=True)
class Logs(Recipe):
    """Base of the logs.

    Class attributes:
        simulated: users are simulated; tables say so.
        pool: which products lists were made of, as in a `RetrievalRequest`.
    """

    simulated: ClassVar[bool] = False
    pool: ClassVar[str] = "judged"

    def log(self, data: Artifact[Dataset], split: str) -> Artifact[SearchLog]:
        """Impressions of a split's queries.

        Args:
            data: the data set, or a view of it.
            split: `train` or `dev`; nothing is learnt from the test queries' log.

        Returns:
            The log as an artifact.
        """
        raise TypeError(f"{type(self).__name__} does not say what was logged")

    def planted_examination(self, ranks: int) -> np.ndarray | None:
        """The true chances that ranks are looked at, relative to the first.

        Args:
            ranks: K.

        Returns:
            K float64, or None where it is unknown or depends on more than the rank.
        """
        return None


@dataclass(frozen=True)
class LogArtifact(Artifact[SearchLog]):
    """impressions.parquet and left_out.json. Subclasses say what is in them (`gathered`)."""

    kind: ClassVar[str] = "logs"
    data: Artifact[Dataset]
    split: str

    def gathered(self, runtime: Runtime) -> SearchLog:
        """The log.

        Args:
            runtime: devices, threads, progress and the store of artifacts.

        Returns:
            Impressions, and what was left out.
        """
        raise TypeError(f"{type(self).__name__} does not say what was logged")

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        log = self.gathered(runtime)
        frame = log.frame.select(pl.col(n).cast(t) for n, t in IMPRESSIONS.items())
        frame.sort("list", "position").write_parquet(folder / "impressions.parquet")
        (folder / LEFT_OUT).write_text(json.dumps(dict(log.left_out), indent=1), encoding="utf-8")
        lists = frame["list"].n_unique()
        return {"impressions": frame.height, "lists": lists, "left out": dict(log.left_out)}

    def load(self, folder: Path) -> SearchLog:
        left_out = json.loads((folder / LEFT_OUT).read_text("utf-8"))
        return SearchLog(pl.read_parquet(folder / "impressions.parquet", glob=False), left_out)
