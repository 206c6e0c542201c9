"""ColBERT: tokens, expansion, training's gradient, the whole path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.encoder.colbert.embeddings import pooled
from neurosearch.encoder.colbert.network import TokenTower
from neurosearch.encoder.colbert.recipe import ColBERT
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.gain import LabelGain
from neurosearch.index.multivector import MultiVector
from neurosearch.loss.base import Targets
from neurosearch.loss.infonce import InfoNCE
from neurosearch.nn.ragged import Ragged
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.late_interaction import LateInteraction
from neurosearch.training.gather import row_order
from neurosearch.training.schedule import Schedule
from tests.requests import ask

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
CPU = torch.device("cpu")


def colbert(model: str, **options) -> ColBERT:
    small = {
        "markers": (None, None),
        "dimensions": 16,
        "expansion": False,
        "batch_size": 32,
        "schedule": Schedule(epochs=6, lr=3e-3, validations=1, patience=0),
    }
    return ColBERT(gain=GAIN, model=model, **{**small, **options})


def run(tower: TokenTower, texts: list[str], side: int, budget: int = 2048) -> Ragged:
    with torch.inference_mode():
        return tower.eval()(tower.tokens(texts, side), side, budget, CPU, False)


TEXTS = ["red desk lamp", "a lamp, 40 w - red!", "chair", "blue cotton shirt for men"]


def test_token_vectors_do_not_depend_on_the_batch(tiny_model: str) -> None:
    tower = TokenTower(colbert(tiny_model).shape)
    whole = run(tower, TEXTS, 1)
    assert torch.allclose(whole.vectors.norm(dim=1), torch.ones(len(whole.vectors)), atol=1e-5)
    for number, text in enumerate(TEXTS):
        alone = run(tower, [text], 1)
        own = whole.vectors[whole.offsets[number] : whole.offsets[number + 1]]
        assert torch.allclose(own, alone.vectors, atol=1e-5)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=12).flatmap(
        lambda counts: st.tuples(st.just(counts), st.permutations(range(len(counts))))
    )
)
def test_tokens_find_their_place_again(case: tuple[list[int], list[int]]) -> None:
    """Tokens of texts in any order, put in the order of the texts."""
    counts, texts = case
    sent = [(text, token) for text in texts for token in range(counts[text])]
    back = row_order(np.array(texts), np.array(counts), np.arange(len(texts)))
    assert [sent[place] for place in back] == sorted(sent)


def test_punctuation_of_products_is_not_scored(tiny_model: str) -> None:
    skips, keeps = (
        TokenTower(colbert(tiny_model, skip_punctuation=x).shape) for x in (True, False)
    )
    text = TEXTS[1]
    tokens = keeps.tokens([text], 1)
    marks = [keeps.tokenizer.id_to_token(int(t)) in {",", "-", "!"} for t in tokens.ids]
    assert keeps.scored(tokens, 1)[0] - skips.scored(tokens, 1)[0] == sum(marks) > 0
    assert skips.scored(tokens, 0)[0] == len(tokens.ids)  # of queries it is


def test_expansion_fills_queries_up(tiny_model: str) -> None:
    plain, expanded = (
        TokenTower(colbert(tiny_model, expansion=x, query_max_length=12).shape)
        for x in (False, True)
    )
    expanded.load_state_dict(plain.state_dict())
    one, two = run(plain, TEXTS, 0), run(expanded, TEXTS, 0)
    assert np.diff(two.offsets).tolist() == [12] * 4
    # Nothing attends to what was filled in: real tokens keep their vectors.
    for number in range(4):
        begin, end = one.offsets[number], one.offsets[number + 1]
        start = two.offsets[number]
        own = two.vectors[start : start + end - begin]
        assert torch.allclose(one.vectors[begin:end], own, atol=1e-5)


def test_markers_say_which_side_a_text_is_of(tiny_model: str) -> None:
    tower = TokenTower(colbert(tiny_model, markers=("[UNK]", "[SEP]"), query_max_length=6).shape)
    plain = TokenTower(colbert(tiny_model, query_max_length=5).shape)
    for side, marker in enumerate(("[UNK]", "[SEP]")):
        found, without = tower.tokens(TEXTS, side), plain.tokens(TEXTS, side)
        for number in range(4):
            own = found.ids[found.offsets[number] : found.offsets[number + 1]]
            assert own[1] == tower.tokenizer.token_to_id(marker)
            if side == 0:
                rest = without.ids[without.offsets[number] : without.offsets[number + 1]]
                assert np.delete(own, 1).tolist() == rest.tolist()
    with pytest.raises(InputError, match=r"no token '\[unused0\]'"):
        TokenTower(colbert(tiny_model, markers=("[unused0]", None)).shape)


def test_the_loss_is_infonce_over_maxsim() -> None:
    rng = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(9, 4, generator=rng), dim=1)
    asked = Ragged(unit[:4], np.array([0, 1, 4]))
    shown = Ragged(unit[4:], np.array([0, 2, 3, 5]))
    own = torch.eye(2, 3, dtype=torch.bool)
    targets = Targets(own, torch.zeros(2, 3, dtype=torch.bool), torch.full((2, 3), float("nan")))
    loss = InfoNCE(temperature=0.5).objective()(asked, shown, targets)
    scores = np.zeros((2, 3))
    for q in range(2):
        for d in range(3):
            a = unit[:4][asked.offsets[q] : asked.offsets[q + 1]].numpy()
            b = unit[4:][shown.offsets[d] : shown.offsets[d + 1]].numpy()
            scores[q, d] = (a @ b.T).max(axis=1).mean()
    logits = scores / 0.5
    expected = np.mean([np.log(np.exp(logits[i]).sum()) - logits[i, i] for i in range(2)])
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_gradcache_gives_the_whole_batch_gradient(
    tiny_model: str, shop: Artifact[Dataset], shop_runtime: Runtime, tmp_path: Path
) -> None:
    gradients = []
    for chunk in (0, 7):
        trained = colbert(tiny_model, chunk=chunk).trained(shop)
        module = trained.module(tmp_path, shop_runtime)
        module.eval()  # no dropout
        module.optimizers = lambda: SimpleOptimizer()
        module.lr_schedulers = lambda: SimpleOptimizer()
        module.manual_backward = lambda loss: loss.backward()
        module.log = lambda *_: None
        module._pairs = module._batches.pairs
        module._schedule = Schedule(clip=1e9)
        module.training_step(0, 0)
        gradients.append(module.towers.projection.weight.grad.clone())
    assert float(gradients[0].abs().max()) > 0
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


class SimpleOptimizer:
    def zero_grad(self) -> None: ...

    def step(self) -> None: ...


def test_the_whole_path(tiny_model: str, shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    encoder = colbert(tiny_model)
    protocol = CatalogueProtocol(GAIN, depth=100)
    system = LateInteraction(encoder=encoder)
    metrics = shop_runtime.get(protocol.metrics(system, shop, NoProcessing()))
    assert metrics["scored %"].mean() == 100
    assert metrics["nDCG@10"].mean() > 0.1  # at random .02
    request = protocol.request(NoProcessing())
    batch = shop_runtime.get(system.run(shop, request)).frame
    texts = shop_runtime.get(shop).queries("test").texts[:3]
    with system.searcher(shop, request, shop_runtime) as searcher:
        rows, _ = searcher.search(texts, 5)
    ids = shop_runtime.get(shop).catalogue.ids
    for number, query in enumerate(shop_runtime.get(shop).queries("test").ids[:3]):
        wanted = batch.filter(query_id=query)["product_id"].to_list()[:5]
        assert len(set(ids.gather(rows[number]).to_list()) & set(wanted)) >= 4  # float16 ties
    judged = shop_runtime.get(system.run(shop, ask(pool="judged")))
    joined = judged.frame.join(batch, on=["query_id", "product_id"], suffix="_all")
    assert joined["score"].to_numpy() == pytest.approx(joined["score_all"].to_numpy(), abs=2e-3)
    small = LateInteraction(encoder=encoder, index=MultiVector(bits=2, centroids=64, probes=1))
    found = shop_runtime.get(protocol.metrics(small, shop, NoProcessing()))
    assert found["nDCG@10"].mean() > metrics["nDCG@10"].mean() - 0.15
    assert 0 < found["scored %"].mean() <= 100


def test_pooling_keeps_clusters() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(8)[:3]
    near = np.repeat(centres, 3, axis=0) + 0.01 * rng.normal(size=(9, 8))
    single = np.ones((1, 8)) / 8**0.5
    vectors = np.concatenate([near, single])
    found, offsets = pooled(vectors, np.array([0, 9, 10]), 3)
    assert offsets.tolist() == [0, 3, 4]
    assert np.sort(np.abs(found[:3] @ centres.T).max(axis=0)) == pytest.approx(1, abs=1e-3)
    assert found[3] == pytest.approx(single[0])
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(4))
