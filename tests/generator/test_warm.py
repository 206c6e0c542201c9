"""A decoder that begins as the ranking by codes, and a teacher's prefixes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.sentence import Sentence
from neurosearch.evaluation.gain import LabelGain
from neurosearch.generator.beam import beam_search
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.trie import Trie
from neurosearch.generator.warm import Warm
from neurosearch.generator.warm_network import WarmDecoder
from neurosearch.generator.warm_training import Taught, WarmModule
from neurosearch.negatives.base import NegativeLists
from neurosearch.retriever.dense import Dense
from neurosearch.tokenizer.codewords import CodeVectors
from neurosearch.tokenizer.rqkmeans import RQKMeans
from neurosearch.training.schedule import Schedule

SHAPE = Shape(width=16, heads=2, head_width=8, feed=32, layers=2, dropout=0.0)


def begun(rng: np.random.Generator) -> tuple[WarmDecoder, CodeVectors, SemanticIds]:
    codes = np.unique(rng.integers(0, 6, (200, 3)), axis=0).astype(np.int32)
    ids = SemanticIds(codes, (6, 6, 6), 3)
    books = tuple(rng.normal(size=(6, 16)).astype(np.float32) for _ in range(3))
    words = CodeVectors(np.zeros(16, np.float32), books)
    torch.manual_seed(0)
    decoder = WarmDecoder(ids.sizes, SHAPE, 16, 16, 20.0).eval()
    decoder.take(words)
    return decoder, words, ids


def test_before_training_its_order_is_that_of_the_codes() -> None:
    rng = np.random.default_rng(3)
    decoder, words, ids = begun(rng)
    queries = rng.normal(size=(5, 16)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    memory = torch.from_numpy(np.concatenate([queries[:, None], rng.normal(size=(5, 4, 16))], 1))
    memory, mask = memory.float(), torch.ones(5, 5, dtype=torch.bool)
    trie = Trie.of(ids)
    with torch.inference_mode():
        found = beam_search(decoder.decoding(memory, mask), trie, trie.leaves)
    expected = queries @ words.decode(ids.codes).T
    for query in range(5):
        order = expected[query][np.lexsort(ids.codes.T[::-1])][found.nodes[query].numpy()]
        assert np.all(np.diff(order) <= 1e-5)
        # A softmax's normaliser depends on the query alone: differences are those of the codes.
        gaps = np.diff(found.scores[query].numpy())
        assert gaps == pytest.approx(20.0 * np.diff(order), abs=1e-3)


def test_teacher_forcing_says_what_decoding_says() -> None:
    rng = np.random.default_rng(4)
    decoder, _, ids = begun(rng)
    for head in decoder.heads.parameters():  # as after some training
        torch.nn.init.normal_(head)
    memory = torch.from_numpy(rng.normal(size=(3, 5, 16))).float()
    mask = torch.ones(3, 5, dtype=torch.bool)
    trie = Trie.of(ids)
    with torch.inference_mode():
        found = beam_search(decoder.decoding(memory, mask), trie, 4)
        for place in range(4):
            codes = found.codes[:, place]
            logits = decoder(memory, mask, codes)
            total = sum(
                values.log_softmax(-1).gather(1, codes[:, level : level + 1])[:, 0]
                for level, values in enumerate(logits)
            )
            assert found.scores[:, place].numpy() == pytest.approx(total.numpy(), abs=1e-4)


def test_a_prefix_is_worth_the_best_product_below_it() -> None:
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [2, 2, 2]])
    lists = NegativeLists.of(np.array([0, 0, 0, 1, 1]), np.array([0, 1, 3, 2, 3]), 2)
    taught = Taught(lists, np.array([3.0, 5.0, 1.0, 2.0, 7.0], np.float32), codes)
    best = taught.best(np.array([0, 0, 0, 1]), np.array([0, 2, 4, 3]))
    # Query 0 of product 0: below "0" the best is 5, below "0 0" 5, product 0 itself 3.
    assert best[0].tolist() == [5.0, 5.0, 3.0]
    assert best[1].tolist() == [5.0, 1.0, 1.0]  # "0 1" has no product of the list: its least score
    assert best[2].tolist() == [1.0, 1.0, 1.0]
    assert best[3].tolist() == [7.0, 7.0, 7.0]


def test_pairs_are_of_the_candidates() -> None:
    codes = np.zeros((30, 2), np.int64)
    query = np.repeat([0, 1], [3, 20])
    row = np.concatenate([[4, 5, 6], np.arange(7, 27)])
    taught = Taught(NegativeLists.of(query, row, 2), np.linspace(1, 0, 23, dtype=np.float32), codes)
    own = np.array([[28, -1], [29, 29]])
    rng = np.random.default_rng(0)
    asked = np.tile([0, 1], 500)
    first, second = taught.pairs(asked, own, rng)
    assert set(first[asked == 0]) == {4, 5, 6}
    assert set(first[asked == 1]) == set(range(7, 17))  # the ten best
    assert set(second[asked == 0]) == {4, 5, 6, 28}
    assert set(second[asked == 1]) == {*range(7, 27), 29}


def test_killed_after_its_turning_point_it_ends_the_same(
    tiny_model: str, shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates of its own beam and the fitted factor are in the resume point."""
    encoder = Sentence(model=tiny_model)
    schedule = Schedule(epochs=1.0, lr=1e-3, validations=2, patience=0)
    shape = Shape(width=32, heads=2, head_width=16, feed=32, layers=1)
    gain = LabelGain(
        "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
    )
    recipe = Warm(
        gain=gain,
        encoder=encoder,
        schedule=schedule,
        shape=shape,
        batch_size=64,
        teacher=Dense(encoder=Hashing(dimensions=64)),
        candidates=20,
        refreshes=1,
    )
    ids = RQKMeans(encoder=encoder, levels=2, codes=16).semantic_ids(shop)
    whole = Runtime(outputs=tmp_path / "whole", device="cpu", progress=False)
    expected = load_file(whole.get(recipe.trained(shop, ids)).folder / "generator.safetensors")

    killed = Runtime(
        outputs=tmp_path / "killed", device="cpu", progress=False, checkpoint_seconds=0
    )
    calls = 0
    plain = WarmModule.training_step

    def dying(self: WarmModule, step: int, batch_idx: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:  # of eight steps, the margins begin with the fifth
            raise KeyboardInterrupt
        plain(self, step, batch_idx)

    monkeypatch.setattr(WarmModule, "training_step", dying)
    with pytest.raises(BaseException):  # noqa: B017  (Lightning has an exception of its own)
        killed.get(recipe.trained(shop, ids))
    before = calls
    found = load_file(killed.get(recipe.trained(shop, ids)).folder / "generator.safetensors")
    assert calls - before < 4  # it resumed
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_training_that_makes_it_worse_keeps_the_start(
    tiny_model: str, shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Sentence(model=tiny_model)
    recipe = Warm(
        gain=LabelGain(
            "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
        ),
        encoder=encoder,
        schedule=Schedule(epochs=1.0, lr=1e-2, validations=2, patience=0),
        shape=Shape(width=32, heads=2, head_width=16, feed=32, layers=1),
        batch_size=64,
    )
    ids = RQKMeans(encoder=encoder, levels=2, codes=16).semantic_ids(shop)

    def trained(scores: list[float], folder: str) -> tuple[dict[str, torch.Tensor], str]:
        """Weights and curve of a training whose validations are given."""
        left = iter(scores)
        monkeypatch.setattr(WarmModule, "validate", lambda _: next(left))
        runtime = Runtime(outputs=tmp_path / folder, device="cpu", progress=False)
        made = runtime.get(recipe.trained(shop, ids)).folder
        assert not list(left)  # one before the first step, two after some
        return load_file(made / "generator.safetensors"), (made / "curves.csv").read_text()

    start, curve = trained([0.5, 0.4, 0.3], "falling")
    assert "0.5" in curve.splitlines()[1]
    again, _ = trained([0.5, 0.4, 0.45], "falling again")
    moved, _ = trained([0.1, 0.2, 0.3], "rising")
    assert all(torch.equal(start[name], again[name]) for name in start)
    assert any(not torch.equal(start[name], moved[name]) for name in start)
