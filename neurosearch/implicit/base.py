"""The implicit role: what clicks say of the relevance of pairs, in place of people's judgments.

Trained recipes (bi-encoders, ColBERT, learned sparse encoders, LambdaMART, cross-encoders) have a
field `implicit`; where it is set, their train judgments are these labels. Losses that are linear in
the labels (listwise softmax, the positives of contrast) then are the counterfactual losses of the
literature: a sum over sessions of c / θ times the loss of a pair is the loss times the pair's sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import PRODUCTS, Dataset, Judgments, places_of
from neurosearch.core.view import DataSource, View
from neurosearch.evaluation.gain import Gain, NumericGain
from neurosearch.logs.base import LoggedClicks, Logs, SearchLog
from neurosearch.propensity.base import Features, Propensity
from neurosearch.propensity.harvest import Harvest
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.pair_words import Lexical

CLICK_GAIN = NumericGain("clicks", offset=0.0, relevant_from=0.5)
FOLDS = 5  # of queries, for what is predicted of a pair without its own clicks
SELECT = ("clicks", "labels")


@dataclass(frozen=True)
class Implicit(Recipe):
    """What a training learns from, instead of the train judgments."""

    @property
    def pool(self) -> str:
        """Where the candidates of a training come from, as in a `RetrievalRequest`."""
        return "catalogue"

    def judged(self, data: Artifact[Dataset]) -> Artifact[Dataset] | None:
        """The data set with other labels.

        Args:
            data: the data set, or a view of it.

        Returns:
            A data set with train and dev queries, and no test queries; None for people's labels.
        """
        return None


@dataclass(frozen=True)
class Estimator(Implicit):
    """Base of estimators of relevance from clicks.

    Attributes:
        logs: of the train queries, and of the dev queries where those select.
        propensity: how often ranks are looked at.
        ranks: positions of the log that are read.
        prior: impressions of average relevance that every pair begins with.
        dwell: seconds; a click with a shorter stay counts as none.
        purchase: what a purchase adds to a click, which is worth 1.
        clients: clicks of pairs that fewer clients clicked count as none.
        select: what the dev queries' labels are: of `clicks`, or people's `labels`.
        gain: of people's labels.
    """

    logs: Logs = field(kw_only=True)
    gain: Gain = field(kw_only=True)
    propensity: Propensity = field(default_factory=Harvest)
    ranks: int = setting(10, least=2)
    prior: float = setting(0.0, least=0)
    dwell: float = setting(0.0, least=0)
    purchase: float = setting(0.0, least=0)
    clients: int = setting(1, least=1)
    select: str = setting("clicks", choices=SELECT)

    def judged(self, data: Artifact[Dataset]) -> Artifact[Dataset]:
        source = view.learning(data)
        assert isinstance(source, View)
        dev = self.logs.log(data, "dev") if self.select == "clicks" else None
        return ClickJudged(source, self, self.logs.log(data, "train"), dev)

    @property
    def predicts_unseen(self) -> bool:
        """Whether it has labels for candidates that nobody saw."""
        return False

    @property
    def pool(self) -> str:
        return self.logs.pool

    def examination(self, logged: LoggedClicks, features: Features) -> np.ndarray:
        """How often ranks are looked at, as the train log says.

        Args:
            logged: lists and clicks.
            features: of the pairs, and their queries' numbers, for estimators that regress.

        Returns:
            K float64, relative to the first rank.
        """
        return self.propensity.examination(logged, features)

    def relevance(self, logged: LoggedClicks, theta: np.ndarray, features: Features) -> np.ndarray:
        """The estimated relevance of pairs.

        Args:
            logged: lists and clicks.
            theta: K float64, of `examination`.
            features: as there.

        Returns:
            P float64; 1 is the relevance of what is always clicked when it is looked at.
        """
        raise TypeError(f"{type(self).__name__} does not say how it estimates")

    def worth(self, logged: LoggedClicks) -> np.ndarray:
        """What each click is worth.

        Args:
            logged: lists and clicks.

        Returns:
            S×K float64.
        """
        return logged.worth(self.dwell, self.purchase, self.clients)

    def shrunk(self, hits: np.ndarray, trials: np.ndarray) -> np.ndarray:
        """Shares of pairs, with the prior.

        Args:
            hits: P float64.
            trials: P float64.

        Returns:
            P float64.
        """
        # The mean over pairs: what is shown often is better than what is hardly ever shown.
        seen = trials > 0
        mean = float((hits[seen] / trials[seen]).mean()) if seen.any() else 0.0
        found: np.ndarray = (hits + self.prior * mean) / np.maximum(trials + self.prior, 1e-12)
        return found


def taught(recipe: Any, data: Artifact[Dataset]) -> tuple[Any, Artifact[Dataset]]:
    """A trained recipe, and the data that it learns from.

    Args:
        recipe: with fields `implicit` and `gain`.
        data: the data set, or a view of it.

    Returns:
        Both as they are; with `implicit`, a recipe that reads labels of clicks, and such data.
    """
    judged = None if recipe.implicit is None else recipe.implicit.judged(data)
    return (recipe, data) if judged is None else (replace(recipe, gain=CLICK_GAIN), judged)


def pool_of(recipe: Any) -> str:
    """Where a trained re-ranker's candidates come from.

    Args:
        recipe: with a field `implicit`.

    Returns:
        `catalogue`, or `judged` where lists of judged products were logged.
    """
    return "catalogue" if recipe.implicit is None else str(recipe.implicit.pool)


def from_clicks(recipe: Any) -> str:
    """What a label says of a recipe that learns from clicks.

    Args:
        recipe: with a field `implicit`.

    Returns:
        Such as `, IPS`; '' for people's labels.
    """
    return "" if recipe.implicit is None else f", {recipe.implicit.label()}"


@dataclass(frozen=True)
class ClickJudged(DataSource):
    """Data whose train judgments are numbers from clicks, with the log as its sessions."""

    whole: View
    recipe: Estimator
    train: Artifact[SearchLog]
    dev: Artifact[SearchLog] | None

    def part_digest(self, part: str) -> str:
        if part == PRODUCTS or part.startswith("queries/"):
            return self.whole.whole.part_digest(part)
        return super().part_digest(part)

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        data = runtime.get(self.whole)
        labels: list[pl.DataFrame] = []
        facts: dict[str, Any] = {}
        sources = (("train", self.train), ("dev", self.dev))
        ranks = self.recipe.ranks
        logs = {name: runtime.get(one).arrays(ranks) for name, one in sources if one is not None}
        # The dev queries' users have the same position bias.
        train = logs["train"]
        theta = self.recipe.examination(train, lambda: word_features(data, "train", train.pairs))
        facts["examination"] = [round(float(chance), 4) for chance in theta]
        for split in ("train", "dev"):
            if split not in logs:
                frame = self._peoples(data.judgments(split))
            else:
                frame, scale = self._clicked(data, split, logs[split], theta)
                facts[f"{split}: worth of 1"] = scale
            labels.append(frame.with_columns(split=pl.lit(split)))
        pl.concat(labels).write_parquet(folder / "judgments.parquet")
        queries = [data.queries(split).frame for split in ("train", "dev")]
        pl.concat(queries).write_parquet(folder / "queries.parquet")
        sessions(runtime.get(self.train).frame).write_parquet(folder / "behaviour.parquet")
        view.write_derived(folder, data)
        return facts

    def load(self, folder: Path) -> Dataset:
        return view.load_derived(folder)

    def _clicked(
        self, data: Dataset, split: str, logged: LoggedClicks, theta: np.ndarray
    ) -> tuple[pl.DataFrame, float]:
        """Labels of a log's pairs, from 0 to 1, and the relevance that 1 stands for."""
        if self.recipe.predicts_unseen and self.recipe.pool == "judged":
            could = data.judgments(split).frame.select("query_id", "product_id")  # without labels
            logged = logged.with_unseen(could)
        found = self.recipe.relevance(
            logged, theta, lambda: word_features(data, split, logged.pairs)
        )
        if not np.isfinite(found).all() or found.max() <= 0:
            raise InputError(
                f"the clicks on {split} queries say nothing: there is none that counts"
            )
        # A few pairs that were clicked at a rank nobody looks at must not set the scale.
        scale = max(float(np.quantile(found, 0.99)), 1e-9)
        share = np.clip(found / scale, 0.0, 1.0)
        text = pl.Series("label", share).round(4).cast(pl.String)
        return logged.pairs.with_columns(text), scale

    def _peoples(self, judgments: Judgments) -> pl.DataFrame:
        graded = self.recipe.gain.graded(judgments)
        share = (pl.col("gain") / graded["gain"].max()).round(4).cast(pl.String)
        return graded.select("query_id", "product_id", label=share)


def word_features(data: Dataset, split: str, pairs: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Words in common and the like.

    Args:
        data: with products and the split's queries.
        split: of the queries.
        pairs: `query_id`, `product_id`.

    Returns:
        P×F float64, and P int64, the number of each pair's query.
    """
    queries = data.queries(split)
    known = pairs.join(
        places_of(queries.ids, "query_id", "query"), on="query_id", maintain_order="left"
    ).join(
        places_of(data.catalogue.ids, "product_id", "row"), on="product_id", maintain_order="left"
    )
    numbers = known["query"].to_numpy()
    rows, place = np.unique(known["row"].to_numpy(), return_inverse=True)
    titles = data.catalogue.all_texts(("title",))
    words = Lexical([titles[row] for row in rows], Analyzer())
    columns = words.features(queries.texts, numbers, place)
    return np.stack(list(columns.values()), axis=1).astype(np.float64), numbers


def sessions(frame: pl.DataFrame) -> pl.DataFrame:
    """A log in the form of a data set's sessions.

    Args:
        frame: impressions.

    Returns:
        `session`, `step`, `query_id`, `product_id`, `event`, `position`.
    """

    def events() -> Iterator[pl.DataFrame]:
        for name, kept in (("impression", True), ("click", "clicked"), ("purchase", "purchased")):
            some = frame if kept is True else frame.filter(pl.col(str(kept)))
            yield some.select(
                session="list",
                query_id="query_id",
                product_id="product_id",
                event=pl.lit(name),
                position="position",
            )

    whole = pl.concat(list(events())).sort("session", "position", maintain_order=True)
    return whole.with_columns(step=pl.int_range(pl.len()).over("session"))
