"""Feedback of terms: the three formulas by hand; nothing at weight 0; live as in batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.feedback import Feedback, LiveTerms
from tests.requests import ask

# Three products over four terms; `red` stands in two of them, three times in all.
TERMS = LiveTerms(
    csr_matrix(np.array([[2, 1, 1, 0], [1, 0, 0, 1], [0, 0, 3, 0]])), ["red", "mug", "oak", "sofa"]
)
QUERY = {"red": 1.0, "mug": 2.0}
ROWS, SCORES = np.array([0, 1, 2]), np.array([3.0, 1.0, 0.5])
BOTH = Feedback(documents=2, terms=2)  # the third product is not read


def fed_back(recipe: Feedback) -> dict[str, float]:
    return dict(TERMS.fed_back(recipe, QUERY, ROWS, SCORES))


def test_rm3_by_hand() -> None:
    # red .75 · 2/4 + .25 · 1/2 = .5; mug and oak .75 · 1/4 = .1875; sofa .25 · 1/2 = .125.
    kept = {"red": 0.5 / 0.6875, "mug": 0.1875 / 0.6875}  # of equal weights, by name
    found = fed_back(replace(BOTH, weight=0.25))
    expected = {"red": 0.75 + 0.25 * 3 * kept["red"], "mug": 1.5 + 0.25 * 3 * kept["mug"]}
    assert found == pytest.approx(expected)
    whole = fed_back(replace(BOTH, weight=1.0))
    assert sum(whole.values()) == pytest.approx(3.0)  # what the query's weights were
    assert whole["red"] == pytest.approx(3 * kept["red"])


def test_rocchio_by_hand() -> None:
    red = (2 / np.sqrt(6) + 1 / np.sqrt(2)) / 2
    sofa = 1 / np.sqrt(2) / 2
    found = fed_back(replace(BOTH, model="rocchio", weight=0.75))
    length = np.sqrt(5)
    expected = {"red": 1 + 0.75 * length * red, "mug": 2.0, "sofa": 0.75 * length * sofa}
    assert found == pytest.approx(expected)


def test_bo1_by_hand() -> None:
    def weight(count: int, share: float) -> float:
        return float(count * np.log2((1 + share) / share) + np.log2(1 + share))

    red, mug = weight(3, 3 / 3), weight(1, 1 / 3)
    assert weight(1, 1 / 3) == weight(1, 1 / 3) > weight(1, 4 / 3)  # mug and sofa before oak
    found = fed_back(replace(BOTH, model="bo1", weight=1.0))
    assert found == pytest.approx({"red": 1 + 1.0, "mug": 2 + mug / red})


@pytest.mark.parametrize("model", ["rm3", "rocchio", "bo1"])
@pytest.mark.parametrize("engine", ["lucene", "bm25s"])
def test_live_answers_are_the_batch_s(model: str, engine: str, shop_runtime: Runtime, shop) -> None:
    recipe = Feedback(engine=engine, model=model, documents=3, terms=5, weight=0.5)
    run = shop_runtime.get(recipe.run(shop, ask(depth=20)))
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with recipe.searcher(shop, ask(depth=20), shop_runtime) as live:
        rows, scores = live.search(queries.texts, 20)
    again = Run.from_arrays(rows, scores, queries, data.catalogue, 20, floor=0.0).frame
    assert again["query_id"].equals(run.frame["query_id"])
    assert again["score"].to_numpy() == pytest.approx(run.frame["score"].to_numpy(), rel=1e-5)
    plain = shop_runtime.get(BM25(engine=engine).run(shop, ask(depth=20))).frame
    assert not plain["score"].equals(run.frame["score"])
    none = replace(recipe, weight=0.0).run(shop, ask(depth=20))
    assert shop_runtime.get(none).frame.equals(plain)


def test_a_judged_pool_is_ranked_whole(shop_runtime: Runtime, shop) -> None:
    request = replace(ask(depth=20), pool="judged", query=NoProcessing())
    recipe = Feedback(engine="bm25s", documents=3, terms=5)
    run = shop_runtime.get(recipe.run(shop, request)).frame
    plain = shop_runtime.get(BM25(engine="bm25s").run(shop, request)).frame
    assert run.height == plain.height and not run["score"].equals(plain["score"])


def test_more_than_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"weight is 1\.5; of rm3 it is a share"):
        Feedback(weight=1.5)
