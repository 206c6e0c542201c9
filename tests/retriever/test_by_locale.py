"""Several languages in one catalogue: each query is read by the analyser of its own locale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError, SealedError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.data.esci import Esci
from neurosearch.data.of_locale import of_locale
from neurosearch.query.analyzer import Analyzer, check_stemmers
from neurosearch.query.changes import QueryChanges
from neurosearch.query.spelling import Spelling
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.by_locale import ByLocale
from tests.data.test_esci import example, product, write
from tests.requests import ask

TITLES = {
    "us": ("running shoes", "blue mugs"),
    "es": ("zapatillas rojas", "tazas azules"),
    "jp": ("国際空港のカバン", "赤いマグカップ"),
}
ASKED = {"us": "shoe", "es": "zapatilla roja", "jp": "空港 カバン"}


def system(**members: str) -> ByLocale:
    return ByLocale(
        {name: BM25("bm25s", analyzer=Analyzer(stemmer=how)) for name, how in members.items()}
    )


@pytest.fixture
def data(tmp_path: Path) -> Artifact[Dataset]:
    """The ids A and B are products of all three locales."""
    products = [
        product(name, locale, product_title=title)
        for locale, titles in TITLES.items()
        for name, title in zip("AB", titles, strict=True)
    ]
    examples = [
        example(query_id=10 * n + m, query=ASKED[locale], product_locale=locale, split=split)
        for n, locale in enumerate(TITLES)
        for m, split in enumerate(("train", "test"))
    ]
    write(tmp_path, examples, products)
    return Esci(str(tmp_path), locale="all").dataset()


def test_ids_and_queries_say_their_locale(data: Any, runtime: Runtime) -> None:
    loaded = runtime.get(data)
    assert set(loaded.catalogue.ids) == {f"{place}:{name}" for place in TITLES for name in "AB"}
    queries = loaded.queries("test").frame
    assert dict(queries.select("locale", "text").iter_rows()) == ASKED
    pairs = opened_pairs(loaded)
    assert all(product_id.split(":")[0] == place for place, product_id in pairs)


def opened_pairs(loaded: Dataset) -> list[tuple[str, str]]:
    queries = loaded.queries("test").frame.select("query_id", "locale")
    return loaded.pool("test").join(queries, on="query_id").select("locale", "product_id").rows()


def test_each_query_is_read_in_its_own_language(data: Any, runtime: Runtime) -> None:
    recipe = system(us="english", es="spanish", jp="kuromoji")
    run = runtime.get(recipe.run(data, ask(depth=5))).frame
    queries = runtime.get(data).queries("test").frame.select("query_id", "locale")
    first = run.filter(pl.col("rank") == 1).join(queries, on="query_id")
    assert dict(first.select("locale", "product_id").iter_rows()) == {
        place: f"{place}:A" for place in TITLES
    }
    # An English stemmer leaves Spanish plurals apart, and none leaves `shoe` apart from `shoes`.
    wrong = system(us="none", es="english", jp="none")
    lost = runtime.get(wrong.run(data, ask(depth=5))).frame.join(queries, on="query_id")
    assert "us" not in lost["locale"].to_list()


def test_foreign_stemmers_are_refused(data: Any, tmp_path: Path) -> None:
    source = Esci(str(tmp_path), locale="all")
    check_stemmers(source, system(us="english", es="spanish", jp="kuromoji"))
    check_stemmers(source, system(us="porter", es="none", jp="none"))
    for members in ({"us": "spanish"}, {"es": "english"}, {"jp": "english"}, {"us": "kuromoji"}):
        with pytest.raises(InputError, match="an analyzer stems"):
            check_stemmers(source, system(**members))
    with pytest.raises(InputError, match="the data is several languages, and an analyzer stems"):
        check_stemmers(source, BM25())


def test_a_locale_without_a_member_is_refused(data: Any, shop: Any, runtime: Runtime) -> None:
    with pytest.raises(InputError, match=r"retriever\.members has us, and query .* is of locale"):
        runtime.get(system(us="english").run(data, ask(depth=5)))
    with pytest.raises(InputError, match="the queries have no such column"):
        runtime.get(system(us="english").run(shop, ask(depth=5)))
    with pytest.raises(InputError, match="members is empty"):
        ByLocale({})


def test_each_locale_learns_from_its_own_words(tmp_path: Path, runtime: Runtime) -> None:
    """`taza` and `tall` are one letter from `tazl`: each locale has a word of its own."""
    titles = {"us": ["tall shoes"] * 8, "es": ["taza roja"] * 8}
    products = [
        product(f"P{n}", locale, product_title=f"{title} {n}")
        for locale, shown in titles.items()
        for n, title in enumerate(shown)
    ]
    asked = {"us": "tazl shoes", "es": "tazl roja"}
    examples = [
        example(
            query_id=10 * n + m,
            query=asked[locale],
            product_locale=locale,
            product_id="P1",
            split=split,
        )
        for n, locale in enumerate(titles)
        for m, split in enumerate(("train", "test"))
    ]
    write(tmp_path, examples, products)
    data = Esci(str(tmp_path), locale="all").bound(runtime)
    query = Spelling().fitted(data)
    recipe = system(us="none", es="none")
    readers = recipe.processing(data, query)
    words = {
        locale: reader.reader(runtime).read([asked[locale]])[0].text
        for locale, reader in readers.items()
    }
    assert words == {"us": "tall shoes", "es": "taza roja"}
    table = runtime.get(
        QueryChanges(view.with_queries(data, "test"), "test", readers, recipe.reads_by)
    )
    assert sorted(table["read"].to_list()) == ["tall shoes", "taza roja"]
    run = runtime.get(recipe.run(data, replace(ask(depth=5), query=query))).frame
    assert all(one.split(":")[0] in titles for one in run["product_id"])
    # What a locale learns from holds no other locale's words, and no test judgments.
    part = runtime.get(of_locale(data, "es", "locale"))
    assert {one.split(":")[0] for one in part.catalogue.ids} == {"es"}
    assert part.queries("train").texts == ["tazl roja"]
    with pytest.raises(SealedError):
        part.judgments("test")
