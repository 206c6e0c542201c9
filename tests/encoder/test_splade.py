"""Learned sparse encoders: weights, penalties, warm-up, training, and other libraries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SparseEncoder
from transformers import BertForMaskedLM

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.sentence import Sentence
from neurosearch.encoder.splade.masking import IGNORED, MaskingModule
from neurosearch.encoder.splade.network import TermTower, VocabularyHead
from neurosearch.encoder.splade.published import PublishedSplade
from neurosearch.encoder.splade.recipe import Splade
from neurosearch.encoder.splade.training import flops, mean_terms
from neurosearch.encoder.splade.warm_up import TermShape, WarmUp, load_tower
from neurosearch.evaluation.gain import LabelGain
from neurosearch.negatives.retrieved import Retrieved
from neurosearch.nn.export_sparse import save_sparse_encoder
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.sparse import Sparse
from neurosearch.training.schedule import Schedule
from tests.requests import ask

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
CPU = torch.device("cpu")
TEXTS = ["red desk lamp", "a lamp, 40 w - red!", "chair", "blue cotton shirt for men"]


def shape_of(model: str, expansion: bool = True, queries: str = "encoded") -> TermShape:
    return TermShape(12, 20, expansion, queries, model)


def tower_of(shape: TermShape, seed: int = 3) -> TermTower:
    """A tower whose head is not the one that it starts with."""
    tower = load_tower(shape, None).eval()
    torch.manual_seed(seed)
    for weight in tower.head.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return tower


def weights(tower: TermTower, texts: list[str], side: int, budget: int = 2048) -> np.ndarray:
    with torch.inference_mode():
        return tower(tower.tokens(texts, side), side, budget, CPU).numpy()


def test_weights_are_splades_formula(tiny_model: str) -> None:
    """log(1 + relu) of the highest logit, with the head written out."""
    tower = tower_of(shape_of(tiny_model))
    result = weights(tower, TEXTS, 1)
    head = tower.head
    assert isinstance(head, VocabularyHead)
    for row, text in enumerate(TEXTS):
        ids = tower.tokens([text], 1).ids
        with torch.inference_mode():
            states = tower.tower.network(torch.tensor([ids])).last_hidden_state[0]
            hidden = torch.nn.functional.gelu(states @ head.dense.weight.T + head.dense.bias)
            centred = hidden - hidden.mean(dim=1, keepdim=True)
            spread = (centred.square().mean(dim=1, keepdim=True) + 1e-12).sqrt()
            normal = centred / spread * head.norm.weight + head.norm.bias
            logits = normal @ tower.embeddings.T + head.bias
            expected = logits.clamp(min=0).log1p().max(dim=0).values
        np.testing.assert_allclose(result[row], expected.numpy(), atol=1e-5)
    assert 0 < (result > 0).mean() < 1


def test_weights_do_not_depend_on_the_batch(tiny_model: str) -> None:
    for expansion in (True, False):
        tower = tower_of(shape_of(tiny_model, expansion))
        whole = weights(tower, TEXTS, 1)
        for row, text in enumerate(TEXTS):
            np.testing.assert_allclose(weights(tower, [text], 1)[0], whole[row], atol=1e-5)
        np.testing.assert_allclose(weights(tower, TEXTS, 1, budget=8), whole, atol=1e-5)
        tokens = tower.tokens(TEXTS, 1)
        with torch.inference_mode():
            sparse = tower.sparse(tokens, 1, 8, CPU)
        np.testing.assert_allclose(sparse.toarray(), whole, atol=1e-5)


def test_packed_texts_have_the_weights_and_gradients_of_padded_ones(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All texts in one call of the network, which GPUs take."""
    tower = tower_of(shape_of(tiny_model))
    tokens, found = tower.tokens(TEXTS, 1), []
    for is_packed in (False, True):
        monkeypatch.setattr(tower.tower, "packs", lambda device, half, on=is_packed: on)
        assert tower._packs(1, CPU) is is_packed
        weights = tower(tokens, 1, 24, CPU)  # in several lots
        parameters = [*tower.head.parameters(), tower.embeddings]
        gradients = torch.autograd.grad(weights.square().sum(), parameters)
        found.append([weights.detach(), *gradients])
    for padded, packed in zip(*found, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)


def test_without_expansion_only_own_terms_have_weights(tiny_model: str) -> None:
    tower = tower_of(shape_of(tiny_model, expansion=False))
    result = weights(tower, TEXTS, 1)
    for row, text in enumerate(TEXTS):
        own = set(tower.tokens([text], 1).ids.tolist()) - {0, 1, 2, 3, 4}
        assert set(np.flatnonzero(result[row])) <= own
    assert (result > 0).any()


def test_queries_by_idf(tiny_model: str) -> None:
    """Three products, one of which has `lamp`: idf = ln(1 + (3 - 1 + .5) / (1 + .5))."""
    tower = tower_of(shape_of(tiny_model, queries="idf"))
    tower.start(tower.tokens(["lamp lamp", "red chair", "red table"], 1))
    names = {name: tower.tower.tokenizer.token_to_id(name) for name in ("lamp", "red", "shirt")}
    result = weights(tower, ["lamp red lamp", "shirt"], 0)
    assert set(np.flatnonzero(result[0])) == {names["lamp"], names["red"]}
    assert result[0, names["lamp"]] == pytest.approx(np.log(1 + 2.5 / 1.5))
    assert result[0, names["red"]] == pytest.approx(np.log(1 + 1.5 / 2.5))
    assert result[1, names["shirt"]] == pytest.approx(np.log(1 + 3.5 / 0.5))


def test_flops_by_hand() -> None:
    batch = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, 0.0]])
    assert flops(batch) == pytest.approx(2.0**2 + 0.0 + 1.0**2)


def test_texts_without_terms_or_with_all_of_them_end_a_training(tiny_model: str) -> None:
    tower = load_tower(shape_of(tiny_model), None)
    with pytest.raises(InputError, match="products have no term left"):
        mean_terms("products", 0, 2, tower)
    with pytest.raises(InputError, match="queries have all terms"):
        mean_terms("queries", 2 * tower.dimensions, 2, tower)
    assert mean_terms("queries", 6, 4, tower) == 1.5


@pytest.fixture(scope="module")
def warm(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> MaskingModule:
    runtime = Runtime(tmp_path_factory.mktemp("warm"), threads=2, progress=False)
    recipe = WarmUp(share=0.3, batch_size=8, schedule=Schedule(epochs=1, lr=3e-3))
    tower = load_tower(shape_of(tiny_model), None)
    return MaskingModule(tower, recipe, ["red desk lamp", "blue cotton shirt"] * 60, runtime)


def test_masks_are_shares_of_plain_tokens(warm: MaskingModule) -> None:
    tokens = warm._texts
    shown, wanted = warm._masked(tokens, np.random.default_rng(1))
    special = warm.tower.special.numpy()[tokens.ids]
    chosen = wanted != IGNORED
    assert not (chosen & special).any()
    assert (shown.ids[~chosen] == tokens.ids[~chosen]).all()
    assert (wanted[chosen] == tokens.ids[chosen]).all()
    assert chosen[~special].mean() == pytest.approx(0.3, abs=0.06)
    masked = shown.ids[chosen] == warm._mask
    assert masked.mean() == pytest.approx(0.8, abs=0.1)
    assert not warm.tower.special.numpy()[shown.ids[chosen & (shown.ids != warm._mask)]].any()


def test_the_head_starts_from_frequencies(warm: MaskingModule) -> None:
    bias = warm.tower.head.bias.detach().numpy()
    token = warm.tower.tower.tokenizer.token_to_id
    assert bias.mean() == pytest.approx(0, abs=1e-5)
    assert bias[token("lamp")] - bias[token("chair")] == pytest.approx(np.log(61), abs=1e-4)


def splade(model: str, **options: Any) -> Splade:
    small = {
        "batch_size": 32,
        "schedule": Schedule(epochs=6, lr=3e-3, validations=3, patience=0),
        "warm_up": None,
    }
    return Splade(gain=GAIN, model=model, **{**small, **options})


def test_training_helps_and_penalties_make_texts_sparser(
    tiny_model: str, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    facts = {}
    for penalty in (0.0, 0.05):
        encoder = splade(tiny_model, query_penalty=penalty, product_penalty=penalty)
        trained = encoder.trained(shop)
        folder = shop_runtime.store.ensure(trained)
        manifest = shop_runtime.store.manifest(trained)
        assert manifest is not None
        curve = (folder / "curves.csv").read_text()
        facts[penalty] = (manifest["details"]["best dev nDCG@10"], curve)

    def terms(curve: str) -> float:
        head, *lines = [line.split(",") for line in curve.splitlines()]
        values = [line[head.index("terms a product")] for line in lines]
        return float([value for value in values if value][-1])

    assert terms(facts[0.05][1]) < 0.8 * terms(facts[0.0][1])
    assert facts[0.0][0] > 0.08  # lists of chance: .01


def test_a_training_searches_exactly(
    tiny_model: str, shop: Artifact[Dataset], shop_runtime: Runtime, tmp_path: Path
) -> None:
    """In blocks, with pairs; the same as one product of whole matrices."""
    module = splade(tiny_model).trained(shop).module(tmp_path, shop_runtime)
    pairs = np.array([0, 3, 3]), np.array([7, 450, 499])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurosearch.encoder.splade.training.QUERIES", 16)
        patch.setattr("neurosearch.encoder.splade.training.PRODUCTS", 128)
        places, scores, known = module._mined_scores(9, pairs)
    with torch.inference_mode():
        tower = module.towers.eval()
        queries = tower(module._queries, 0, 2048, CPU)
        dense = queries @ tower(module._products, 1, 2048, CPU).T
    np.testing.assert_allclose(scores, dense.topk(9).values, rtol=1e-4)
    found = np.take_along_axis(dense.numpy(), places, 1)
    np.testing.assert_allclose(scores, found, rtol=1e-4)
    np.testing.assert_allclose(known, dense[pairs], rtol=1e-4)


def test_live_lists_are_the_batch_lists(
    tiny_model: str, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    system = Sparse(encoder=splade(tiny_model, query_penalty=0.05, product_penalty=0.05))
    request = ask(depth=100)
    run = shop_runtime.get(system.run(shop, request))
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with system.searcher(shop, request, shop_runtime) as searcher:
        rows, scores = searcher.search(queries.texts[:5], 10)
    for number, query in enumerate(queries.ids.to_list()[:5]):
        batch = run.frame.filter(query_id=query).head(10)
        found = rows[number][rows[number] >= 0]
        np.testing.assert_allclose(batch["score"].to_numpy(), scores[number][: len(found)], 1e-4)
        assert set(batch["product_id"]) == set(data.catalogue.ids.gather(found))
    diagnosis = system.diagnosis(shop, request)
    assert diagnosis is not None
    counts = shop_runtime.get(diagnosis)
    assert (counts["query terms"] > 0).all() and (counts["postings read"] > 0).all()


@pytest.mark.parametrize("queries", ["encoded", "idf"])
def test_exported_weights_are_the_same_in_sentence_transformers(
    queries: str, tiny_model: str, tmp_path: Path, runtime: Runtime
) -> None:
    shape = shape_of(tiny_model, queries=queries)
    tower = tower_of(shape)
    tower.start(tower.tokens(TEXTS, 1))
    save_sparse_encoder(tower, shape, tmp_path / "model")
    theirs = SparseEncoder(str(tmp_path / "model"), device="cpu")
    for side, encode in enumerate((theirs.encode_query, theirs.encode_document)):
        expected = encode(TEXTS, convert_to_sparse_tensor=False).numpy()
        np.testing.assert_allclose(weights(tower, TEXTS, side), expected, atol=1e-5)
    # And back again, as a published model.
    live = PublishedSplade(model=str(tmp_path / "model")).shape.live(None, "fp32", runtime)
    for side in (0, 1):
        matrix = live.encode(TEXTS, side)
        np.testing.assert_allclose(matrix.toarray(), weights(tower, TEXTS, side), atol=1e-5)
        assert matrix.has_sorted_indices


def test_a_masked_language_model_is_read_as_splade(
    tiny_model: str, tmp_path: Path, runtime: Runtime
) -> None:
    tower = tower_of(shape_of(tiny_model))
    save_sparse_encoder(tower, shape_of(tiny_model), tmp_path / "whole")
    model = BertForMaskedLM.from_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "plain")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "plain" / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    live = PublishedSplade(model=str(tmp_path / "plain")).shape.live(None, "fp32", runtime)
    np.testing.assert_allclose(live.encode(TEXTS, 1).toarray(), weights(tower, TEXTS, 1), atol=1e-5)


def test_other_kinds_are_refused(tiny_model: str, runtime: Runtime) -> None:
    with pytest.raises(InputError, match="no SparseEncoder, and no masked language model"):
        PublishedSplade(model=tiny_model).shape.live(None, "fp32", runtime)


def test_it_trains_in_half_precision_with_negatives_mined_on_the_way(
    tiny_model: str, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    zero_shot = Dense(encoder=Sentence(model=tiny_model))
    negatives = Retrieved(retriever=zero_shot, per_query=1, last=20, refresh_every=1)
    schedule = Schedule(epochs=2, lr=1e-3, validations=1, patience=0, precision="bf16")
    encoder = splade(tiny_model, negatives=negatives, schedule=schedule)
    folder = shop_runtime.store.ensure(encoder.trained(shop))
    assert list(folder.glob("mined-0-1.npz"))


def test_the_warm_up_learns_to_predict_masked_tokens(
    tiny_model: str, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    schedule = Schedule(epochs=15, lr=3e-3, patience=0)
    warm_up = WarmUp(batch_size=64, held_out=0.2, terms=30, schedule=schedule)
    artifact = splade(tiny_model, warm_up=warm_up).trained(shop).start
    shop_runtime.store.ensure(artifact)
    manifest = shop_runtime.store.manifest(artifact)
    assert manifest is not None
    assert manifest["details"]["best masked accuracy"] > 0.1
    tower = load_tower(splade(tiny_model).shape, shop_runtime.get(artifact)).eval()
    titles = shop_runtime.get(shop).catalogue.all_texts(("title",))
    assert (weights(tower, titles, 1) > 0).sum(axis=1).mean() == pytest.approx(30, rel=0.2)


def test_a_longer_training_of_queries_by_idf_shares_the_warm_up(
    tiny_model: str, shop: Artifact[Dataset]
) -> None:
    encoder = splade(tiny_model, warm_up=WarmUp())
    other = replace(encoder, queries="idf", query=NoProcessing())
    assert encoder.trained(shop).start == other.trained(shop).start
    assert encoder.trained(shop).artifact_fingerprint != other.trained(shop).artifact_fingerprint
