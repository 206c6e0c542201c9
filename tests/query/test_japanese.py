"""Lucene's analyser of Japanese: segments that Lucene's own tests and documentation name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.data.language import stems
from neurosearch.data.shop import Shop
from neurosearch.query.analyzer import Analyzer, check_stemmers
from neurosearch.query.japanese import Segmenter
from neurosearch.retriever.bm25 import BM25

REAL = Path(os.environ.get("NEUROSEARCH_DATA", "nowhere")) / "esci_rows"
KUROMOJI = Analyzer(stemmer="kuromoji")


def test_words_are_segmented() -> None:
    tokens = KUROMOJI.tokenizer().tokens
    # Lucene's TestJapaneseAnalyzer: many students failed the exam (base form, no particles).
    assert tokens("多くの学生が試験に落ちた。") == ["多く", "学生", "試験", "落ちる"]
    assert set(tokens("関西国際空港")) >= {"関西", "国際", "空港"}
    assert tokens("赤い マグカップ") == ["赤い", "マグカップ"]
    # Words in Latin letters are ours: folded, not stemmed.
    assert tokens("WH-1000XM4 cables") == ["wh-1000xm4", "wh", "1000xm4", "cables"]


def test_bigrams_stay_the_default() -> None:
    assert Analyzer(stemmer="none").tokenizer().tokens("空港") == ["空港"]
    assert Analyzer(stemmer="none").tokenizer().tokens("国際空港") == ["国際", "際空", "空港"]


def test_it_is_for_japanese_alone() -> None:
    assert stems("kuromoji", "japanese") and not stems("kuromoji", "english")
    system = BM25(analyzer=KUROMOJI)
    check_stemmers(replace(Shop(), language="japanese"), system)
    with pytest.raises(InputError, match="the data is english, and an analyzer stems kuromoji"):
        check_stemmers(Shop(), system)


@pytest.mark.skipif(not REAL.is_dir(), reason="NEUROSEARCH_DATA has no esci_rows")
def test_real_products_are_found(runtime: Runtime) -> None:
    """The word of a title's middle finds its product, where bigrams would want its neighbours."""
    from neurosearch.data.esci import Esci
    from tests.requests import ask

    data = Esci(str(REAL), locale="jp", corpus="judged").dataset()
    catalogue = runtime.get(data).catalogue
    system = BM25(engine="bm25s", analyzer=KUROMOJI)
    titles = catalogue.all_texts(("title",))
    tokenizer = KUROMOJI.tokenizer()
    with system.searcher(data, ask("test", depth=10), runtime) as live:
        for row in (0, len(titles) // 2):
            words = [token for token in tokenizer.tokens(titles[row]) if not token.isascii()]
            rows, _ = live.search([" ".join(words[:4])], 10)
            assert row in rows[0]


def test_a_process_that_ended_is_one_line() -> None:
    segmenter = Segmenter()
    segmenter("空港")
    segmenter._process.kill()
    segmenter._process.wait()
    with pytest.raises(InputError, match="stemmer=none needs no Java"):
        segmenter("空港")
