"""No choice of data meets the stemmer of another language without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurosearch.core.errors import InputError
from neurosearch.data.beir import Beir
from neurosearch.data.esci import Esci
from neurosearch.data.language import stemmer_of
from neurosearch.data.shop import Shop
from neurosearch.query.analyzer import Analyzer, check_stemmers
from neurosearch.query.none import NoProcessing
from neurosearch.query.spelling import Spelling
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.bm25_tuned import TunedBM25
from neurosearch.task.base import build
from tests.evaluation.test_ties import GAIN
from tests.test_conf import CHOICES, NEEDED, composed


def test_stemmers_of_languages() -> None:
    assert stemmer_of("spanish") == "spanish" and stemmer_of("german") == "german"
    assert stemmer_of("japanese") == stemmer_of("klingon") == "none"


@pytest.mark.parametrize("locale, stemmer", [("us", "english"), ("es", "spanish"), ("jp", "none")])
def test_configs_follow_the_data(locale: str, stemmer: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NEUROSEARCH_DATA", str(tmp_path))
    (tmp_path / "esci").mkdir()
    words = ["data=esci", f"data.locale={locale}", "query=chain", "retriever=hybrid/convex_tuned"]
    config = composed(*words, f"paths.outputs={tmp_path}")
    assert config.retriever.members.sparse.base.analyzer.stemmer == stemmer
    assert config.query.steps.spelling.analyzer.stemmer == stemmer
    config = composed("data=shop", "data.language=german", "retriever=reranked/lambdamart")
    assert config.retriever.reranker.analyzer.stemmer == "german"


@pytest.mark.parametrize("choice", [name for group, name in CHOICES if group == "data"])
def test_every_data_set_gets_its_own_stemmer(choice: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NEUROSEARCH_DATA", str(tmp_path))
    given = NEEDED.get(f"data={choice}", [])
    config = composed(f"data={choice}", *given, f"paths.outputs={tmp_path}")
    data, retriever = (build(config, role) for role in ("data", "retriever"))
    check_stemmers(data, retriever)
    assert (data.language or data.own_language()) == "english"


def test_another_stemmer_is_refused() -> None:
    spanish, german = Esci(path="esci", locale="es"), Beir(path="beir", language="german")
    check_stemmers(spanish, BM25(analyzer=Analyzer(stemmer="spanish")), NoProcessing())
    check_stemmers(german, BM25(analyzer=Analyzer(stemmer="none")))
    check_stemmers(Shop(), BM25(analyzer=Analyzer(stemmer="porter")))
    for data, recipe in [
        (spanish, BM25()),
        (german, TunedBM25(base=BM25(), gain=GAIN)),
        (german, Spelling()),
    ]:
        with pytest.raises(InputError, match=r"the data is (spanish|german), and an analyzer ste"):
            check_stemmers(data, recipe)
    with pytest.raises(InputError, match="the data is english, and an analyzer stems german"):
        check_stemmers(Shop(), BM25(analyzer=Analyzer(stemmer="german")))


def test_a_language_is_no_other_data_set() -> None:
    assert Beir(path=".", language="german").variant() == Beir(path=".").variant()
