"""A judge that agrees fills holes in a table of its own; any other one is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pytest

import neurosearch as ns
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Judgments
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.filled import BY_MODEL, FilledProtocol, agreement, refusal
from neurosearch.evaluation.latency import LatencyProtocol
from neurosearch.evaluation.metrics import per_query
from neurosearch.evaluation.opened import opened
from neurosearch.judge.umbrela import Umbrela, grade_of
from neurosearch.query.chain import Chain
from neurosearch.query.none import NoProcessing
from neurosearch.query.rewrite import Rewrite
from neurosearch.reranker.llm import LLM
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.reranked import Reranked
from neurosearch.writer.base import Writer
from tests.requests import ask

GAIN = ns.gain("shop")
LABELS = ("I", "C", "S", "E")
BM25S = BM25(engine="bm25s")


@dataclass(frozen=True)
class Teller(Writer):
    """Knows what people said of dev's pairs, and calls all others irrelevant; or says nonsense."""

    known: tuple[tuple[str, str, str], ...]
    nonsense: str = ""

    def write(
        self,
        prompts: Sequence[str],
        runtime: Runtime,
        samples: int = 1,
        failures: float = 0.0,
        is_live: bool = False,
    ) -> list[list[str]]:
        grades = {(query, title): grade for query, title, grade in self.known}
        found = []
        for prompt in prompts:
            query = prompt.split("Search: ")[1].split("\n")[0]
            title = prompt.split("Product: ")[1].split("\n")[0]
            found.append([self.nonsense or grades.get((query, title), "0")])
        return found

    def label(self) -> str:
        return "teller"


@pytest.fixture(scope="module")
def teller(shop: Any, shop_runtime: Runtime) -> Teller:
    data = opened(shop_runtime.get(shop))
    texts = dict(data.queries("dev").frame.select("query_id", "text").iter_rows())
    titles = dict(zip(data.catalogue.ids, data.catalogue.all_texts(("title",)), strict=True))
    known = [
        (texts[query], titles[product], str(LABELS.index(label)))
        for query, product, label in data.judgments("dev").frame.iter_rows()
    ]
    return Teller(tuple(known))


def judge(writer: Writer, **options: Any) -> Umbrela:
    limits = {"least_pairs": 20, "labels": LABELS, "fields": ("title",)}
    return Umbrela(writer=writer, **{**limits, **options})


def protocol(judge_: Umbrela, **options: Any) -> FilledProtocol:
    off = LatencyProtocol(queries=0)
    return FilledProtocol(GAIN, judge=judge_, latency=off, **options)


def test_a_judge_that_knows_agrees(teller: Teller, shop: Any, shop_runtime: Runtime) -> None:
    facts = shop_runtime.get(agreement(judge(teller), shop, GAIN))
    assert facts["kappa of grades"] == facts["kappa of relevance"] == 1.0
    assert refusal(facts, judge(teller)) is None
    assert facts["graded"] == facts["pairs"]


def test_holes_are_filled_and_people_s_labels_kept(
    teller: Teller, shop: Any, shop_runtime: Runtime
) -> None:
    every = replace(teller, nonsense="3")  # judged by another artifact: it would agree by chance
    mine = judge(every, least_kappa=-1.0, least_pairs=1)
    found = shop_runtime.get(protocol(mine).metrics(BM25S, shop, NoProcessing()))
    plain = shop_runtime.get(CatalogueProtocol(GAIN).metrics(BM25S, shop, NoProcessing()))
    data = opened(shop_runtime.get(shop))
    run = shop_runtime.get(BM25S.run(shop, ask(depth=200)))
    people = data.judgments("test").frame
    top = run.frame.filter(pl.col("rank") <= 10).select("query_id", "product_id")
    holes = top.join(people, on=["query_id", "product_id"], how="anti")
    labels = pl.concat([people, holes.with_columns(label=pl.lit("E"))])
    queries = data.queries("test")
    again = per_query(run, queries, Judgments("test", labels), GAIN, ("nDCG@10",))
    assert found["nDCG@10"].to_list() == pytest.approx(again["nDCG@10"].to_list())
    assert found["nDCG@10"].to_list() != plain["nDCG@10"].to_list()
    share = 100 * holes.height / top.height
    weights = top.group_by("query_id").len()["len"].to_numpy()
    assert len(set(weights)) >= 1
    assert found[BY_MODEL].to_numpy().mean() == pytest.approx(share, abs=5)
    assert protocol(mine).protocol == "filled by teller"


@pytest.mark.parametrize(
    "nonsense, options, message",
    [
        ("", {"least_pairs": 10_000}, r"\d+ graded pairs of dev, 10000 are needed"),
        ("0", {}, "kappa with people is .* on dev, 0.4 is needed"),
        ("good", {}, "0 graded pairs of dev, 20 are needed"),
    ],
)
def test_a_judge_that_does_not_agree_is_refused(
    nonsense: str,
    options: dict[str, Any],
    message: str,
    teller: Teller,
    shop: Any,
    shop_runtime: Runtime,
) -> None:
    mine = judge(replace(teller, nonsense=nonsense), **options)
    with pytest.raises(InputError, match=message):
        shop_runtime.get(protocol(mine).metrics(BM25S, shop, NoProcessing()))


def test_a_model_does_not_judge_itself(teller: Teller, shop: Any) -> None:
    system = Reranked(BM25S, LLM(teller), GAIN, depth=5, weight=1.0)
    with pytest.raises(InputError, match="teller is a part of the system: a model"):
        protocol(judge(teller)).metrics(system, shop, NoProcessing())
    with pytest.raises(InputError, match="a model does not judge itself"):
        protocol(judge(teller)).metrics(BM25S, shop, Chain(("r",), {"r": Rewrite(teller)}))


@pytest.mark.parametrize(
    "answer, grade",
    [("2", 2), ("Grade: 3", 3), ("3/3", None), ("between 1 and 2", None), ("4", None), ("", None),
     ("1.5", None), ("0\n3", 0)],
)  # fmt: skip
def test_the_grade_of_an_answer(answer: str, grade: int | None) -> None:
    assert grade_of(answer) == grade


def test_bad_settings(teller: Teller) -> None:
    with pytest.raises(InputError, match="labels must be 4 labels"):
        judge(teller, labels=("0", "1"))
    with pytest.raises(InputError, match=r"does not say where \{product\} goes"):
        judge(teller, prompt="{query}")
