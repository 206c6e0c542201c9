"""Categories of queries by hand: shares of gains, neighbours, entropy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix, save_npz

import neurosearch as ns
from neurosearch.core.errors import InputError
from neurosearch.core.query import Query
from neurosearch.core.runtime import Runtime
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.intent import Intent, Meanings

CATEGORIES = ["fruit > apple", "phones"]
TOKENS = ["appl", "green", "phone"]


def meanings(folder: Path) -> Meanings:
    """Train: `apple` (1 to fruit, 3 to phones), `green apple` (fruit), `phone` (phones)."""
    half = np.sqrt(0.5)
    save_npz(folder / "queries.npz", csr_matrix([[1, 0, 0], [half, half, 0], [0, 0, 1.0]]))
    save_npz(folder / "gains.npz", csr_matrix([[1.0, 3.0], [2.0, 0.0], [0.0, 1.0]]))
    np.save(folder / "idf.npy", np.ones(3))
    names = {"categories": CATEGORIES, "tokens": TOKENS}
    (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")
    return Meanings.load(folder, Analyzer().tokenizer())


def test_a_train_query_has_its_own_gains(tmp_path: Path) -> None:
    found = meanings(tmp_path).of("apples", 10, 0.5)
    assert found == [("phones", pytest.approx(0.75)), ("fruit > apple", pytest.approx(0.25))]


def test_another_query_has_its_neighbours_by_cosine(tmp_path: Path) -> None:
    # `green red`: one known word of two, so the cosine to `green apple` is 1/√2 · 1/√2 = .5.
    learnt = meanings(tmp_path)
    assert learnt.of("green red", 10, 0.5) == [("fruit > apple", pytest.approx(1.0))]
    assert learnt.of("green red", 10, 0.51) == []
    assert learnt.of("sofa", 10, 0.0) == []
    # `green phone`: .5 to `green apple`, 1/√2 to `phone`.
    near = dict(learnt.of("green phone", 10, 0.1))
    total = 0.5 + np.sqrt(0.5)
    assert near == pytest.approx({"phones": np.sqrt(0.5) / total, "fruit > apple": 0.5 / total})
    assert learnt.of("green phone", 1, 0.1) == [("phones", pytest.approx(1.0))]


def test_a_clear_query_gets_its_category_s_words(tmp_path: Path) -> None:
    step = Intent(gain=ns.gain("shop"), boost=0.5).rewriter(meanings(tmp_path))
    clear = step(Query.of("phone"))
    assert clear.terms == () and clear.text == "phone"  # the category says nothing new
    fruit = step(Query.of("green fruits red"))
    assert fruit == Query.of("green fruits red")  # too far from any train query
    found = step(Query.of("green red"))
    assert [(t.token, t.weight) for t in found.terms] == [("appl", 0.5)]
    assert found.notes[0].why == "fruit > apple 100%"


def test_an_ambiguous_query_is_only_told_about(tmp_path: Path) -> None:
    step = Intent(gain=ns.gain("shop"), bits=0.5).rewriter(meanings(tmp_path))
    found = step(Query.of("apple"))
    assert (found.text, found.words, found.terms) == ("apple", "apple", ())
    # H(1/4) = .811 bits.
    assert found.notes[0].why == "ambiguous, 0.8 bits: phones 75%, fruit > apple 25%"
    assert found.notes[0].before == found.notes[0].after


def test_it_is_learnt_from_train(shop: Any, shop_runtime: Runtime) -> None:
    fitted = Intent(gain=ns.gain("shop")).fitted(shop)
    data = shop_runtime.get(shop)
    read = fitted.reader(shop_runtime).read(data.queries("train").texts)
    assert sum(bool(query.notes) for query in read) > 5
    again = fitted.reader(shop_runtime).read([read[0].text])
    assert again[0].terms == read[0].terms


def test_products_without_categories_are_refused(tmp_path: Path, runtime: Runtime) -> None:
    rows = {"query": ["a b", "b", "c"], "product_id": ["thing 1"] * 3, "grade": [1] * 3}
    pl.DataFrame({**rows, "split": ["train", "dev", "test"]}).write_csv(tmp_path / "judged.csv")
    pl.DataFrame({"title": ["thing 1", "thing 2"]}).write_csv(tmp_path / "products.csv")
    data = ns.TableFiles(str(tmp_path / "products.csv"), str(tmp_path / "judged.csv")).dataset()
    fitted: Any = Intent(gain=ns.gain("graded")).fitted(data)
    with pytest.raises(InputError, match="learns from categories, and the data has none"):
        runtime.get(fitted.learnt)
