"""Spelling, translations and chains: by hand, by brute force, and through BM25's two engines."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurosearch.core import view
from neurosearch.core.errors import InputError
from neurosearch.core.query import Query, Term
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.runtime import Runtime
from neurosearch.data.beir import Beir
from neurosearch.encoder.biencoder.recipe import BiEncoder
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.gain import NumericGain
from neurosearch.generator.t5_scratch import ScratchT5
from neurosearch.query.chain import Chain
from neurosearch.query.changes import QueryChanges
from neurosearch.query.distance import deletions, weighted_distance
from neurosearch.query.lexical import weighted
from neurosearch.query.none import NoProcessing
from neurosearch.query.normalize import Normalize
from neurosearch.query.spelling import Spelling
from neurosearch.query.stopwords import Stopwords
from neurosearch.query.synonyms import Synonyms
from neurosearch.query.translations import Translations
from neurosearch.query.typos import KINDS, Typos
from neurosearch.reranker.base import Fold
from neurosearch.retriever.bm25 import BM25
from neurosearch.tokenizer.rqkmeans import RQKMeans

GAIN = NumericGain("graded")
TITLES = (
    *["chainsaw with battery charger"] * 30,
    *["led bulb 60w bright white"] * 30,
    *["20-volt cordless drill kit"] * 30,
    *["garden hose reel holder"] * 25,
    *["closet maid shelf"] * 5,
    "wh-1000xm4 headphones black",
    "maiden doll",
)
TRAIN = [*["cordless 20v screwdriver"] * 6, *["bright lamp"] * 5, "garden hose"]
GOOD = [*range(60, 66), *range(30, 35), 90]


@pytest.fixture
def shop(tmp_path: Path):
    """A catalogue with words to misspell, and train queries that use other words than titles."""
    folder = tmp_path / "data"
    (folder / "qrels").mkdir(parents=True)
    products = [{"_id": f"p{n:03d}", "title": t, "text": ""} for n, t in enumerate(TITLES)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, products)))
    asked = [*TRAIN, "chainsww", "clean words here"]
    lines = [{"_id": f"q{n}", "text": f"{text}"} for n, text in enumerate(asked)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    head = "query-id\tcorpus-id\tscore\n"
    train = "".join(f"q{n}\tp{row:03d}\t1\n" for n, row in enumerate(GOOD))
    (folder / "qrels" / "train.tsv").write_text(head + train)
    test = "".join(f"q{len(TRAIN) + n}\tp000\t1\n" for n in range(2))
    (folder / "qrels" / "test.tsv").write_text(head + test)
    return Beir(path=str(folder), dev_fraction=0.0)


def read(step, data, runtime: Runtime, *texts: str) -> list[Query]:
    return step.fitted(data).reader(runtime).read(texts)


@pytest.mark.parametrize(
    ("typed", "meant", "cost"),
    [
        ("drill", "drill", 0.0),
        ("dril", "drill", 0.6),  # a doubled letter is left out
        ("drilll", "drill", 0.6),
        ("dirll", "drill", 0.7),  # i and r are swapped
        ("drell", "drill", 0.7),  # one vowel for another
        ("dtill", "drill", 0.8),  # t is beside r
        ("dmill", "drill", 1.2),
        ("drll", "drill", 1.0),
        ("brill", "drill", 1.5),  # another first letter: 1.2 + .3
        ("rdill", "drill", 1.0),  # swapped, and another first letter
        ("", "ab", 2.3),
    ],
)
def test_distances_by_hand(typed: str, meant: str, cost: float) -> None:
    assert weighted_distance(typed, meant) == pytest.approx(cost)


def plain(a: str, b: str) -> int:
    """Restricted Damerau-Levenshtein distance by its recursion."""
    if not a or not b:
        return len(a) + len(b)
    best = min(plain(a[:-1], b) + 1, plain(a, b[:-1]) + 1, plain(a[:-1], b[:-1]) + (a[-1] != b[-1]))
    if len(a) > 1 and len(b) > 1 and a[-1] == b[-2] and a[-2] == b[-1]:
        best = min(best, plain(a[:-2], b[:-2]) + 1)
    return best


words = st.text("abcde", min_size=0, max_size=6)


@settings(max_examples=150, deadline=None)
@given(words, words)
def test_distance_is_between_its_cheapest_and_its_dearest_edits(a: str, b: str) -> None:
    edits, cost = plain(a, b), weighted_distance(a, b)
    assert 0.6 * edits - 1e-9 <= cost <= 1.2 * edits + 0.3 + 1e-9
    assert weighted_distance(b, a) == pytest.approx(cost)
    assert weighted_distance(a, b, cost - 0.01) == math.inf
    assert weighted_distance(a, b, cost + 0.01) == cost
    if edits <= 2:  # words that near share a deletion: none is missed as a candidate
        assert set(deletions(a, 2)) & set(deletions(b, 2))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("chainsww with bettery", "chainsaw with battery"),
        ("Dirll kit", "drill kit"),
        ("ledbulb", "led bulb"),
        ("closet mald", "closet maid"),  # the neighbour decides against `maiden`
        ("12v wh-1000xm4 60w chainsaws", "12v wh-1000xm4 60w chainsaws"),  # known, or no words
        ('"chainsww" hsoe', '"chainsww" hose'),  # what is quoted stays
        ("zzzzqqqq", "zzzzqqqq"),
        ("screwdriver", "screwdriver"),  # of a train query
    ],
)
def test_spelling(typed: str, expected: str, shop, runtime: Runtime) -> None:
    data = shop.bound(runtime)
    (query,) = read(Spelling(), data, runtime, typed)
    assert query.text == expected
    assert query.words == typed  # lexical systems keep what was typed
    (again,) = read(Spelling(), data, runtime, query.text)
    assert again.text == query.text and not again.notes


def test_corrections_are_weighted_terms_or_replace_words(shop, runtime: Runtime) -> None:
    data = shop.bound(runtime)
    (added,) = read(Spelling(weight=0.25), data, runtime, "red chainsww")
    assert added.terms == (Term("chainsaw", 0.25),) and added.words == "red chainsww"
    assert [note.step for note in added.notes] == ["spelling"]
    assert added.notes[0].why == "chainsww → chainsaw"
    (replaced,) = read(Spelling(mode="replace"), data, runtime, "red chainsww")
    assert replaced.words == replaced.text == "red chainsaw" and not replaced.terms


def test_translations_by_hand(shop, runtime: Runtime) -> None:
    data = shop.bound(runtime)
    step = Translations(gain=GAIN, weight=0.5, pairs=3, surprise=2.0)
    query, other = read(step, data, runtime, "20v saw", "lamp shade")
    # 6 of 12 good pairs have `20v` in the query alone, with titles that all say 20-volt:
    # k = 6, P(v | u) = 1, P(v) = 6/12, surprise = 6 log 2 = 4.2.
    found = {term.token: term.weight for term in query.terms}
    assert found["20-volt"] == 0.5 and query.text == query.words == "20v saw"
    assert {term.token for term in other.terms} == {"60w", "bright", "bulb"}  # the first of equals
    table = runtime.get(step.fitted(data).learnt)
    assert set(table) == {"20v", "screwdriv", "lamp"}
    strict = Translations(gain=GAIN, surprise=6 * math.log(2) + 0.01)
    assert "20v" not in runtime.get(strict.fitted(data).learnt)


def test_a_chain_is_its_steps_in_order(shop, runtime: Runtime) -> None:
    data = shop.bound(runtime)
    steps = {
        "normalize": Normalize(),
        "spelling": Spelling(),
        "translations": Translations(gain=GAIN, surprise=2.0),
    }
    chain = Chain(order=("normalize", "spelling", "translations"), steps=steps)
    (query,) = read(chain, data, runtime, "Lamp CHAINSWW")
    assert query.text == "lamp chainsaw" and query.words == "lamp chainsww"
    assert [note.step for note in query.notes] == ["normalize", "spelling", "translations"]
    tokens = {term.token for term in query.terms}
    assert {"chainsaw", "bulb"} <= tokens
    (once,) = read(chain, data, runtime, query.text)
    assert once.text == query.text
    (typed,) = read(Chain(order=(), steps=steps), data, runtime, "Lamp CHAINSWW")
    assert typed == Query.of("Lamp CHAINSWW")
    with pytest.raises(InputError, match=r"order names 'stemming'; the steps are normalize, sp"):
        Chain(order=("stemming",), steps=steps)
    with pytest.raises(InputError, match="order names 'spelling' twice"):
        Chain(order=("spelling", "normalize", "spelling"), steps=steps)


def test_a_new_test_query_is_nothing_new_to_a_step(shop, runtime: Runtime) -> None:
    before = Spelling().fitted(shop.bound(runtime)).learnt.artifact_fingerprint
    path = Path(shop.path) / "queries.jsonl"
    path.write_text(path.read_text().replace("chainsww", "an other test query"))
    after = Spelling().fitted(Beir(path=shop.path, dev_fraction=0.0).bound(runtime)).learnt
    assert after.artifact_fingerprint == before
    path.write_text(path.read_text().replace("bright lamp", "brighter lamp"))
    changed = Spelling().fitted(Beir(path=shop.path, dev_fraction=0.0).bound(runtime)).learnt
    assert changed.artifact_fingerprint != before


def test_without_train_queries(shop, runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    (Path(shop.path) / "qrels" / "train.tsv").unlink()
    data = Beir(path=shop.path, dev_fraction=0.0).bound(runtime)
    with caplog.at_level("INFO"):
        (query,) = read(Spelling(), data, runtime, "chainsww")
    assert query.text == "chainsaw"
    assert "no train queries; learnt from the catalogue alone" in caplog.text
    with pytest.raises(
        InputError, match="translations learns from train queries, and the data has none"
    ):
        read(Translations(gain=GAIN), data, runtime, "chainsww")
    with pytest.raises(InputError, match=r"Spelling learns from a data set: take spelling\.fitted"):
        Spelling().reader(runtime)


@pytest.mark.parametrize("engine", ["lucene", "bm25s"])
def test_weighted_terms_add_their_share_of_a_score(engine: str, shop, runtime: Runtime) -> None:
    """BM25 is a sum over terms: half a weight is half of the term's own score."""
    data = shop.bound(runtime)
    system = BM25(engine=engine)

    def scores(step, text: str) -> dict[str, float]:
        request = RetrievalRequest(step.fitted(data), "test", 200)
        with system.searcher(data, request, runtime) as live:
            rows, found = live.search([text], 150)
        return {int(r): float(s) for r, s in zip(rows[0], found[0], strict=True) if r >= 0}

    whole, half = scores(NoProcessing(), "chainsaw"), scores(Spelling(weight=0.5), "chainsww")
    assert set(whole) == set(half) and len(whole) == 30
    for row, score in whole.items():
        assert half[row] == pytest.approx(score / 2, rel=1e-5)
    # The batch has what the searcher has.
    request = RetrievalRequest(Spelling(weight=0.5).fitted(data), "test", 200)
    run = runtime.get(system.run(data, request)).frame
    first = run.filter(pl.col("query_id") == f"q{len(TRAIN)}")
    assert sorted(first["score"].to_list()) == pytest.approx(sorted(half.values()), rel=1e-6)
    table = runtime.get(QueryChanges(view.with_queries(data, "test"), "test", {"": request.query}))
    assert table["read"].to_list() == ["chainsaw", "clean words here"]
    assert table["terms"].to_list() == ["chainsaw^0.5", ""]


def test_terms_add_to_words() -> None:
    from neurosearch.query.analyzer import Analyzer

    query = Query("red red mug", "red red mug", (Term("mug", 0.5), Term("cup", 0.25)))
    (words,) = weighted(Analyzer().tokenizer(), [query])
    assert words == {"red": 2.0, "mug": 1.5, "cup": 0.25}


def synonyms(folder: Path, lines: str, **options) -> Synonyms:
    path = folder / "synonyms.txt"
    path.write_text(lines, encoding="utf-8")
    return Synonyms(path=str(path), **options)


def terms_of(step, text: str, runtime: Runtime) -> dict[str, float]:
    (query,) = step.reader(runtime).read([text])
    assert query.text == query.words == text
    return {term.token: term.weight for term in query.terms}


RULES = """# one's own
quick, fast
tv => television, tele
led bulb, light lamp, torch
a\\,b => comma
loop => round
round => loop
"""


def test_synonyms_of_a_file(tmp_path: Path, runtime: Runtime) -> None:
    step = synonyms(tmp_path, RULES)
    assert terms_of(step, "fast red car", runtime) == {"quick": 0.5}
    assert terms_of(step, "tv stand", runtime) == {"televis": 1.0, "tele": 1.0}
    assert terms_of(step, "television", runtime) == {}  # an arrow points one way
    assert terms_of(step, "led bulbs 60w", runtime) == {"light": 0.5, "lamp": 0.5, "torch": 0.5}
    assert terms_of(step, "led strip", runtime) == {}
    assert terms_of(step, "loop", runtime) == {"round": 1.0}  # rules that go round go once
    assert terms_of(step, "a,b", runtime) == {"comma": 1.0}
    # OpenSearch's example: without `expand`, fast leads to quick and to nothing else.
    one = synonyms(tmp_path, "quick, fast", expand=False)
    assert terms_of(one, "fast", runtime) == {"quick": 0.5}
    assert terms_of(one, "quick", runtime) == {}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a, b\nalone\n", r"synonyms\.txt:2: a word alone has no synonym"),
        ("a => b => c", r"synonyms\.txt:1: more than one =>"),
        ("a, !!", r"synonyms\.txt:1: a side or an entry has no word .*!!"),
        ("=> b", r"synonyms\.txt:1: a side or an entry has no word"),
    ],
)
def test_bad_lines_are_named(lines: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        synonyms(tmp_path, lines)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"path is no file: /none/here"):
        Synonyms(path="/none/here")


def test_stop_words_leave_meaning(runtime: Runtime) -> None:
    read = (
        Stopwords().reader(runtime).read(["lamp for the table", "not a lamp without cord", "to be"])
    )
    assert [query.words for query in read] == ["lamp table", "not lamp without cord", "to be"]
    assert [query.text for query in read] == [
        "lamp for the table",
        "not a lamp without cord",
        "to be",
    ]
    (own,) = Stopwords(words=("lamp", "not")).reader(runtime).read(["not a lamp"])
    assert own.words == "not a"


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_error_is_one_edit(kind: str) -> None:
    texts = [f"cordless drill number{n:03d}x kit {n}" for n in range(50)] + ["12v ab-cd", "kit"]
    typed = Typos(kind=kind).process(texts)
    assert typed == Typos(kind=kind).process(texts)  # a function of the text
    assert typed[-2:] == texts[-2:]  # no word of four letters or more
    for before, after in zip(texts[:-2], typed[:-2], strict=True):
        assert plain_edits(before, after) <= 1
    changed = [a != b for a, b in zip(texts, typed, strict=True)]
    assert sum(changed) >= 45
    assert Typos(kind=kind, seed=1).process(texts) != typed


def plain_edits(a: str, b: str) -> int:
    """Edits between texts that differ in a few letters: what is between their common ends."""
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return plain(a, b)


def test_what_is_trained_sees_the_same_steps(shop, runtime: Runtime) -> None:
    data = shop.bound(runtime)
    trained = BiEncoder(gain=GAIN, query=Spelling()).trained(data)
    learnt = Spelling().fitted(data)
    assert trained.context.query == learnt and learnt.learnt in trained.inputs()
    generator = ScratchT5(gain=GAIN, query=Spelling())
    ids = RQKMeans(Hashing(dimensions=16), levels=2, codes=4).semantic_ids(data)
    assert generator.trained(data, ids).generator.query == learnt
    # Scores for LambdaMART of a fold's queries come from steps that did not see the fold.
    fold = Fold.of(data, 2, 0)
    assert learnt.fitted(fold).learnt.artifact_fingerprint != learnt.learnt.artifact_fingerprint


def test_planted_errors_are_not_learnt(shop) -> None:
    """What is asked has errors; a correction that learnt from such queries would keep them."""
    steps = {"typos": Typos(kind="transposition"), "spelling": Spelling()}
    alone = Chain(("spelling",), {"spelling": Spelling()}).fitted(shop.dataset())
    both = Chain(("typos", "spelling"), steps).fitted(shop.dataset())
    assert isinstance(alone, Chain) and isinstance(both, Chain)
    assert alone.steps["spelling"].fingerprint == both.steps["spelling"].fingerprint
