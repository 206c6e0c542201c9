"""Encoders: against sentence-transformers, packing, resumption after a kill."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder import base
from neurosearch.encoder.base import Encoder, Texts, encode_resumably
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.sentence import Sentence
from neurosearch.nn.pretrained import local_folder, weights_digest
from neurosearch.nn.tokens import BATCHES, batches_by_budget
from neurosearch.query.none import NoProcessing

TEXTS = ["red mug", "a very long title about a stainless steel travel mug " * 8, "sofa", ""]


def test_minilm_is_sentence_transformers_minilm(runtime: Runtime) -> None:
    from sentence_transformers import SentenceTransformer

    folder = local_folder("sentence-transformers/all-MiniLM-L6-v2")
    assert folder is not None
    theirs = SentenceTransformer(str(folder), device="cpu")
    theirs.max_seq_length = 128
    ours = Sentence().live(runtime).encode(TEXTS)
    assert ours == pytest.approx(theirs.encode(TEXTS), abs=1e-5)
    assert np.linalg.norm(ours, axis=1) == pytest.approx(1, abs=1e-5)


def test_batching_changes_no_vector(runtime: Runtime) -> None:
    alone = Runtime(outputs=runtime.outputs, device="cpu", tokens_per_batch=1, progress=False)
    together = Sentence().live(runtime).encode(TEXTS)
    assert together == pytest.approx(Sentence().live(alone).encode(TEXTS), abs=1e-5)


def test_a_text_is_cut_at_max_length(runtime: Runtime) -> None:
    short = Sentence(max_length=8).live(runtime)
    assert short.encode([TEXTS[1]]) == pytest.approx(short.encode([TEXTS[1] + " more"]))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 2000))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    for is_packed in (False, True):
        batches = batches_by_budget(np.array(lengths), budget, is_packed)
        assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
        for batch in batches:
            widths = [lengths[row] for row in batch]
            tokens = sum(widths) if is_packed else len(widths) * max(widths)
            assert len(batch) == 1 or tokens <= budget


@given(st.lists(st.integers(1, 12), min_size=1, max_size=9), st.integers(200, 400))
def test_padding_and_batches_cost_least(lengths: list[int], budget: int) -> None:
    """Against every way to cut the sorted texts; the budget is no limit to nine of them."""
    ordered, own = sorted(lengths, reverse=True), budget // BATCHES

    def cost(parts: list[list[int]]) -> int:
        return sum(len(part) * max(part) + own for part in parts)

    ways = []
    for cuts in itertools.product([False, True], repeat=len(ordered) - 1):
        ends = [n + 1 for n, cut in enumerate(cuts) if cut]
        borders = itertools.pairwise([0, *ends, len(ordered)])
        ways.append(cost([ordered[a:b] for a, b in borders]))
    batches = batches_by_budget(np.array(lengths), budget)
    assert cost([[lengths[row] for row in batch] for batch in batches]) == min(ways)


def test_packed_batches_are_full() -> None:
    batches = batches_by_budget(np.array([3, 5, 2, 4]), 9, is_packed=True)
    assert [batch.tolist() for batch in batches] == [[1, 3], [0, 2]]


def test_prefixes_and_fields_reach_the_encoder(runtime: Runtime, shop_runtime, shop) -> None:
    encoder = Hashing(fields=("title", "brand"), separator=" | ", product_prefix="p: ")
    vectors = shop_runtime.get(encoder.product_embeddings(shop)).vectors
    catalogue = shop_runtime.get(shop).catalogue
    first = next(catalogue.batches(["title", "brand"])).row(0)
    expected = encoder.live(runtime).encode([f"p: {first[0]} | {first[1]}"])
    assert np.asarray(vectors[:1]) == pytest.approx(expected)
    asked = Hashing(query_prefix="q: ").query_embeddings(shop, "test", NoProcessing())
    text = shop_runtime.get(shop).queries("test").texts[0]
    assert np.asarray(shop_runtime.get(asked).vectors[:1]) == pytest.approx(
        Hashing().live(runtime).encode([f"q: {text}"])
    )


@dataclass(frozen=True)
class Failing(Encoder):
    """Hashes; dies after a number of shards, as a killed process would."""

    after: int = 1_000_000

    def live(self, runtime: Runtime, weights: Path | None = None):
        inner = Hashing(dimensions=8).live(runtime)
        calls: list[int] = []
        after = self.after

        class Live:
            dimensions = 8
            encoded = calls

            def lengths(self, texts):
                return inner.lengths(texts)

            def encode(self, texts):
                if len(calls) == after:
                    raise KeyboardInterrupt
                calls.append(len(texts))
                return inner.encode(texts)

            def stream(self, collections):
                return map(self.encode, collections)

        return Live()


def whole_of(texts: list[str]) -> Texts:
    """A collection that is in memory."""
    return Texts(len(texts), [texts])


def test_a_killed_encoding_goes_on_where_it_was(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "SHARD", 10)
    texts = [f"text number {n} {'x' * (n % 7)}" for n in range(45)]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    encode_resumably(Failing().live(runtime), "e", whole_of(texts), whole, runtime, "texts")
    with pytest.raises(KeyboardInterrupt):
        encode_resumably(
            Failing(after=3).live(runtime), "e", whole_of(texts), cut, runtime, "texts"
        )
    assert not (cut / "embeddings.json").exists()
    second = Failing().live(runtime)
    details = encode_resumably(second, "e", whole_of(texts), cut, runtime, "texts")
    assert details["resumed"] == 30
    assert second.encoded == [10, 5]
    assert np.array_equal(np.load(whole / "vectors.npy"), np.load(cut / "vectors.npy"))
    assert json.loads((cut / "embeddings.json").read_text())["encoder"]


def test_a_torn_file_is_started_again(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "vectors.npy").write_bytes(b"\x93NUM")
    (tmp_path / "journal.txt").write_text("0 1.5\n")
    live = Hashing(dimensions=8).live(runtime)
    assert (
        encode_resumably(live, "e", whole_of(["a", "b"]), tmp_path, runtime, "texts")["resumed"]
        == 0
    )


def test_a_model_that_nobody_has_is_named(runtime: Runtime, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"model='no-such/model'"):
        Sentence(model="no-such/model").live(runtime)


def test_weights_count_by_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "README.md").write_text(name)
    assert weights_digest(str(tmp_path / "a")) == weights_digest(str(tmp_path / "b"))
    assert weights_digest("all-MiniLM-L6-v2") == weights_digest(
        "sentence-transformers/all-MiniLM-L6-v2"
    )
    assert weights_digest("intfloat/e5-small-v2").startswith("hub:intfloat/e5-small-v2@")


def test_wrong_pooling_is_refused() -> None:
    with pytest.raises(InputError, match=r"pooling must be one of mean, cls"):
        Sentence(pooling="median")


def test_vectors_of_another_precision_are_refused(tiny_model: str, shop_runtime, shop) -> None:
    """bf16 makes other vectors than fp32: other identities, and an index takes only its own."""
    from neurosearch.index.flat import Flat

    full, half = (Sentence(model=tiny_model, max_length=16, precision=p)
                  for p in ("fp32", "bf16"))  # fmt: skip
    assert full.identity(shop) != half.identity(shop)
    index = shop_runtime.get(Flat().build(full.product_embeddings(shop)))
    queries = {
        encoder: shop_runtime.get(encoder.query_embeddings(shop, "dev", NoProcessing()))
        for encoder in (full, half)
    }
    assert np.abs(queries[full].vectors - queries[half].vectors).max() > 1e-4
    index.search(queries[full], 5)
    with pytest.raises(InputError, match="but was asked with vectors of encoder"):
        index.search(queries[half], 5)


def test_a_bit_that_flips_between_attempts_is_noticed(
    runtime: Runtime, tmp_path: Path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(base, "SHARD", 10)
    texts = [f"text number {n}" for n in range(45)]
    with pytest.raises(KeyboardInterrupt):
        encode_resumably(
            Failing(after=3).live(runtime), "e", whole_of(texts), tmp_path, runtime, "texts"
        )
    path = tmp_path / "vectors.npy"
    content = bytearray(path.read_bytes())
    written = np.load(path)
    row = int(np.flatnonzero(written.any(axis=1))[0])
    content[len(content) - written[row:].nbytes + 3] ^= 64
    path.write_bytes(content)
    second = Failing().live(runtime)
    details = encode_resumably(second, "e", whole_of(texts), tmp_path, runtime, "texts")
    assert details["resumed"] == 20 and "is damaged: encoding it again" in caplog.text
    whole = Failing().live(runtime).encode(texts)
    assert np.array_equal(np.load(path), whole)


def test_a_loaded_encoder_puts_its_own_prefixes(runtime: Runtime, shop) -> None:
    encoder = Hashing(query_prefix="query: ", product_prefix="passage: ")
    plain = Hashing().live(runtime)
    loaded = encoder.loaded(runtime, shop)
    assert loaded.encode(TEXTS) == pytest.approx(plain.encode([f"query: {t}" for t in TEXTS]))
    products = loaded.for_products()
    wanted = plain.encode([f"passage: {t}" for t in TEXTS])
    assert products.encode(TEXTS) == pytest.approx(wanted)
    (streamed,) = products.stream([TEXTS])
    assert streamed == pytest.approx(wanted)
    assert loaded.lengths(["a"])[0] == plain.lengths(["query: a"])[0]
