"""Lucene's analyser of Japanese: segments that Lucene's own tests and documentation name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neurosearch.core.errors import InputError
from neurosearch.data.language import stems
from neurosearch.data.shop import Shop
from neurosearch.query.analyzer import Analyzer, check_stemmers
from neurosearch.query.japanese import Segmenter
from neurosearch.retriever.bm25 import BM25

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


def test_a_process_that_ended_is_one_line() -> None:
    segmenter = Segmenter()
    segmenter("空港")
    segmenter._process.kill()
    segmenter._process.wait()
    with pytest.raises(InputError, match="stemmer=none needs no Java"):
        segmenter("空港")
