"""Re-rankers: interpolation by hand, pairs as transformers reads them, folds that do not leak."""

from __future__ import annotations

import http.server
import json
import threading
from dataclasses import replace
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import torch

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import RetrievalRequest
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, Queries
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.gain import LabelGain
from neurosearch.fusion.convex import Convex
from neurosearch.query.analyzer import Analyzer
from neurosearch.query.none import NoProcessing
from neurosearch.query.pair_words import Lexical
from neurosearch.reranker.base import Candidates, Fold
from neurosearch.reranker.biencoder import BiEncoderReranker
from neurosearch.reranker.cross_encoder.network import CrossTower
from neurosearch.reranker.cross_encoder.recipe import CrossEncoder
from neurosearch.reranker.cross_encoder.training import CrossModule, list_loss
from neurosearch.reranker.lambdamart import LambdaMART
from neurosearch.reranker.llm import LLM, grade_of
from neurosearch.retriever.bm25 import BM25
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.hybrid import Hybrid
from neurosearch.retriever.random import Random
from neurosearch.retriever.reranked import GRID, Reranked, interpolated, scaled
from neurosearch.retriever.teacher import Teacher
from neurosearch.training.schedule import Schedule
from neurosearch.writer.endpoint import Endpoint as Written
from tests.requests import ask

GAIN = LabelGain(
    "esci", {"E": 1, "S": 0.1, "C": 0.01, "I": 0}, {"E": 3, "S": 2, "C": 1, "I": 0}, ("E",)
)
FIRST = BM25(engine="bm25s")
REQUEST = ask(depth=100)


def run_of(rows: dict[str, list[tuple[str, float]]]) -> tuple[Run, Queries]:
    queries = Queries("test", pl.DataFrame({"query_id": list(rows), "text": list(rows)}))
    pairs = [(q, p, s) for q, found in rows.items() for p, s in found]
    frame = pl.DataFrame(pairs, ["query_id", "product_id", "score"], orient="row")
    return Run.from_frame(frame, queries), queries


def test_interpolation_by_hand() -> None:
    first, queries = run_of({"q": [("a", 9.0), ("b", 7.0), ("c", 5.0), ("d", 1.0)]})
    scored, _ = run_of({"q": [("a", -1.0), ("b", 3.0), ("c", 1.0)]})
    # Within a, b, c: first 1, .5, 0; scored 0, 1, .5; d was not re-ranked and stays last.
    for weight, wanted in ((0.0, "abcd"), (1.0, "bcad"), (0.5, "bacd")):
        found = interpolated(first, scored, weight, queries).frame
        assert "".join(found["product_id"]) == wanted, weight
    tied = interpolated(first, scored, 0.5, queries).frame["score"].to_list()[:3]
    assert tied == pytest.approx([2.75, 2.5, 2.25])
    alone = scaled(np.array([[9.0, 7.0, 5.0, -np.inf]]))
    assert alone[0, :3].tolist() == [1.0, 0.5, 0.0] and alone[0, 3] == -np.inf


def cross(model: str, **options) -> CrossEncoder:
    small = {
        "query_max_length": 16,
        "product_max_length": 32,
        "batch_queries": 8,
        "schedule": Schedule(epochs=6, lr=2e-3, validations=1, patience=0),
    }
    return CrossEncoder(gain=GAIN, model=model, **{**small, **options})


def test_pairs_are_read_as_transformers_reads_them(tiny_model: str) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tower = CrossTower(cross(tiny_model)).eval()
    asked = ["red desk lamp", "chair", "blue cotton shirt for men"]
    shown = ["a lamp 40 w", "oak chair with arms and a cushion", "shirt"]
    queries, products = tower.tokens(asked, 16, False), tower.tokens(shown, 32, True)
    pairs = np.array([0, 1, 2, 0]), np.array([1, 1, 0, 2])
    with torch.inference_mode():
        found = tower.of_pairs(queries, products, pairs, 60, torch.device("cpu"), False)
    theirs = PreTrainedTokenizerFast(
        tokenizer_file=f"{tiny_model}/tokenizer.json",
        pad_token="[PAD]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    theirs.backend_tokenizer.no_truncation()
    theirs.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    texts = [asked[q] for q in pairs[0]], [shown[d] for d in pairs[1]]
    inputs = theirs(*texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = tower.network(**inputs).last_hidden_state
        mask = inputs["attention_mask"][:, :, None]
        expected = tower.head((states * mask).sum(1) / mask.sum(1))
    assert torch.allclose(found, expected, atol=1e-5)


def test_objectives_are_their_formulas() -> None:
    rng = np.random.default_rng(0)
    scores, shares = rng.normal(size=(3, 4)), rng.choice([0, 1 / 3, 1.0], (3, 4))
    shares[:, 0] = 1.0
    known = np.ones((3, 4), bool)
    known[1, 3] = False
    outputs = torch.tensor(scores)[:, :, None]
    as_tensors = torch.tensor(shares), torch.tensor(known)
    p = 1 / (1 + np.exp(-scores))
    bce = -(shares * np.log(p) + (1 - shares) * np.log(1 - p))[known].mean()
    assert float(list_loss("pointwise", outputs, *as_tensors)) == pytest.approx(bce)
    pairs = [
        np.log1p(np.exp(-(scores[q, i] - scores[q, j])))
        for q in range(3)
        for i in range(4)
        for j in range(4)
        if shares[q, i] > shares[q, j] and known[q, i] and known[q, j]
    ]
    assert float(list_loss("ranknet", outputs, *as_tensors)) == pytest.approx(np.mean(pairs))
    lists = []
    for q in range(3):
        own = known[q]
        wanted = np.exp(shares[q, own] / 0.25) / np.exp(shares[q, own] / 0.25).sum()
        logits = scores[q, own] - np.log(np.exp(scores[q, own]).sum())
        lists.append(-(wanted * logits).sum())
    assert float(list_loss("listwise", outputs, *as_tensors)) == pytest.approx(np.mean(lists))
    logits = torch.tensor(rng.normal(size=(3, 4, 4)))
    classes = np.rint(shares * 3).astype(int)
    normal = torch.log_softmax(logits, dim=2).numpy()
    chosen = np.take_along_axis(normal, classes[:, :, None], axis=2)[:, :, 0]
    assert float(list_loss("classes", logits, *as_tensors)) == pytest.approx(-chosen[known].mean())
    better = outputs.clone()
    better[:, 0] += 5
    assert list_loss("lambda", better, *as_tensors) < list_loss("lambda", outputs, *as_tensors)


def test_lists_hold_what_was_judged_and_what_the_first_stage_finds(
    tiny_model: str, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    data = shop_runtime.get(shop)
    pools = [
        shop_runtime.get(Candidates(FIRST.run(shop, ask(split, depth=200)), 50))
        for split in ("train", "dev")
    ]
    recipe = cross(tiny_model)
    module = CrossModule(recipe, data, NoProcessing(), *pools, shop_runtime)
    queries, rows, shares = module.draw(3)
    assert [(x == y).all() for x, y in zip(module.draw(3), (queries, rows, shares), strict=True)]
    ids, graded = data.catalogue.ids, GAIN.graded(data.judgments("train"))
    train = data.queries("train").ids
    worth = {(q, p): g for q, p, g in graded.select("query_id", "product_id", "gain").rows()}
    found = set(pools[0].frame.select("query_id", "product_id").rows())
    for query, own, share in zip(queries, rows, shares, strict=True):
        name = train[int(query)]
        best = max(g for (q, _), g in worth.items() if q == name)
        for place, row in enumerate(own):
            if row < 0:
                continue
            pair = (name, ids[int(row)])
            if place < recipe.judged:
                assert share[place] == pytest.approx(worth[pair] / 1.0)
            else:
                assert pair not in worth and pair in found and share[place] == 0
        assert share[: recipe.judged].max() == pytest.approx(best)


def test_a_cross_encoder_learns(
    tiny_model: str, shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    protocol = CatalogueProtocol(GAIN, depth=100)

    def ndcg(system) -> float:
        return shop_runtime.get(protocol.metrics(system, shop, NoProcessing()))["nDCG@10"].mean()

    short = replace(cross(tiny_model), schedule=Schedule(epochs=0.01, lr=1e-9, patience=0))
    trained, untrained = (
        Reranked(FIRST, x, GAIN, weight=1.0, depth=20) for x in (cross(tiny_model), short)
    )
    assert ndcg(trained) > ndcg(untrained)
    # Below BM25 so small a model earns no weight; below a random order it does.
    below = replace(trained, retriever=Random(), depth=100)
    weight = shop_runtime.get(
        replace(below, weight=None)._tuned(shop, protocol.request(NoProcessing()))
    )
    # By brute force: the system of each weight, evaluated on dev; the least of the best.
    dev = replace(protocol, split="dev")
    scores = {}
    for tried in GRID:
        system = replace(below, weight=tried)
        metrics = shop_runtime.get(dev.metrics(system, shop, NoProcessing()))
        scores[tried] = metrics["nDCG@10"].mean()
    assert weight == min(w for w in GRID if scores[w] == max(scores.values()))
    assert scores[weight] > scores[0.0]
    # The live system answers as the batch does.
    tuned = replace(trained, weight=None)
    request = protocol.request(NoProcessing())
    batch = shop_runtime.get(tuned.run(shop, request)).frame
    data = shop_runtime.get(shop)
    queries = data.queries("test")
    with tuned.searcher(shop, request, shop_runtime) as searcher:
        rows, _ = searcher.search(queries.texts[:4], 10)
    for number, query in enumerate(queries.ids[:4]):
        wanted = batch.filter(query_id=query)["product_id"].to_list()[:10]
        found = data.catalogue.ids.gather(rows[number][rows[number] >= 0]).to_list()
        assert len(set(found) & set(wanted)) >= len(wanted) - 1


def test_a_folds_lists_are_combined_as_the_whole_systems(shop: Artifact[Dataset]) -> None:
    """Members are the fold's own; the weights that join them are those of the whole system."""
    members = {"words": FIRST, "vectors": Dense(encoder=Hashing(dimensions=16))}
    system = Hybrid(members, Convex(norm="min-max", step=0.5), GAIN)
    request = RetrievalRequest(NoProcessing(), "test", 200)
    whole = system.run(shop, request)
    recipe = LambdaMART(gain=GAIN, folds=2, min_data=5)
    trained = recipe.trained(shop, NoProcessing(), system)
    for number, features in enumerate(trained.train):
        held = features.candidates.run
        fold = Fold.of(shop, 2, number)
        assert held.fitted.artifact_fingerprint == whole.fitted.artifact_fingerprint
        legs = {name: run.artifact_fingerprint for name, run in system.legs(fold, request).items()}
        assert {name: run.artifact_fingerprint for name, run in held.runs.items()} == legs
        assert legs != {name: run.artifact_fingerprint for name, run in whole.runs.items()}


def test_folds_hold_out_what_they_score(shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    whole = set(shop_runtime.get(shop).queries("train").ids)
    held = []
    for number in range(3):
        data = shop_runtime.get(Fold(shop, 3, number))
        train, test = (set(data.queries(split).ids) for split in ("train", "test"))
        assert not train & test and train | test == whole
        assert set(data.judgments("train").frame["query_id"]) <= train
        assert len(data.catalogue) == len(shop_runtime.get(shop).catalogue)
        held.append(test)
    assert set.union(*held) == whole and sum(map(len, held)) == len(whole)


def test_lexical_features_by_hand() -> None:
    queries = ["red desk lamp", "40w bulb"]
    titles = ["Red lamp for a desk", "LED bulb 40w 60w", "chair"]
    query, row = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 0])
    words = Lexical(titles, Analyzer())
    found = words.features(queries, query, row)
    # One query at a time says the same: words that no title has are not in the catalogue's terms.
    for number, asked in enumerate(["red desk zyx lamp", "40w bulb"]):
        mine = query == number
        alone = words.features([asked], np.zeros(mine.sum(), dtype=np.int64), row[mine])
        whole = words.features(["q7 red", asked], np.ones(mine.sum(), dtype=np.int64), row[mine])
        for name, values in alone.items():
            assert values == pytest.approx(whole[name]), name
    assert found["coverage"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert found["idf coverage"] == pytest.approx([1, 0, 1, 0])
    assert found["first term"].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert found["bigrams"].tolist()[:2] == [0.0, 0.0]  # the same words in another order
    assert found["numbers asked"].tolist()[:2] == [0.0, 0.0]
    assert found["numbers found"].tolist()[2] == 1.0
    assert found["query terms"].tolist()[:2] == [3.0, 3.0]
    assert found["bm25"][0] > 0 and found["bm25"][1] == 0


def test_trees_learn_and_say_what_mattered(shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    encoders = {"hashing": Hashing()}
    recipe = LambdaMART(gain=GAIN, encoders=encoders, folds=2, min_data=5, trees=60)
    system = Reranked(FIRST, recipe, GAIN, weight=1.0, depth=50)
    protocol = CatalogueProtocol(GAIN, depth=100)
    metrics = shop_runtime.get(protocol.metrics(system, shop, NoProcessing()))
    plain = shop_runtime.get(protocol.metrics(FIRST, shop, NoProcessing()))
    assert metrics["nDCG@10"].mean() > plain["nDCG@10"].mean() - 0.05
    # Live texts are scored as the batch is.
    request, data = protocol.request(NoProcessing()), shop_runtime.get(shop)
    candidates = Candidates(FIRST.run(shop, request), 50)
    scored = shop_runtime.get(recipe.scores(candidates, shop, request, FIRST)).frame
    pairs = numbered_pairs(
        shop_runtime.get(candidates), data.queries("test").ids, data.catalogue.ids
    )
    keys = ["query_id", "product_id"]
    wanted = pairs.select(keys).join(scored, on=keys, how="left", maintain_order="left")["score"]
    live = recipe.live(shop, request, FIRST, shop_runtime)
    found = live(data.queries("test").texts, pairs.select("query", "row", "score", "rank"))
    assert found == pytest.approx(wanted.to_numpy(), abs=1e-5)
    trained = recipe.trained(shop, NoProcessing(), FIRST)
    manifest = shop_runtime.store.manifest(trained)
    assert manifest is not None
    # Labels are tenths of the largest gain, and worth what they say: linear, as the metric is.
    model = (shop_runtime.get(trained) / "trees.txt").read_text()
    assert "[label_gain: 0,1,2,3,4,5,6,7,8,9,10]" in model
    shares = manifest["details"]["importance"]
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    assert "cosine hashing" in shares and "first score" in shares
    with pytest.raises(InputError, match=r"folds must be 0, or at least 2"):
        LambdaMART(gain=GAIN, folds=1)


def test_a_bigger_biencoder_is_dense_retrieval_of_the_candidates(
    shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    encoder = Hashing()
    system = Reranked(FIRST, BiEncoderReranker(encoder), GAIN, weight=1.0, depth=30)
    found = shop_runtime.get(system.run(shop, REQUEST)).frame.filter(pl.col("rank") <= 5)
    dense = shop_runtime.get(Dense(encoder).run(shop, ask(depth=500))).frame
    candidates = shop_runtime.get(Candidates(FIRST.run(shop, REQUEST), 30)).frame
    keys = ["query_id", "product_id"]
    wanted = dense.join(candidates.select(keys), on=keys, how="semi")
    for query in found["query_id"].unique()[:10]:
        scores = dict(wanted.filter(query_id=query).select("product_id", "score").rows())
        order = [scores[p] for p in found.filter(query_id=query)["product_id"]]
        assert order == sorted(order, reverse=True)
        assert order[0] == pytest.approx(max(scores.values()))


def test_a_bigger_biencoder_scores_live_queries(
    shop: Artifact[Dataset], shop_runtime: Runtime
) -> None:
    recipe, data = BiEncoderReranker(Hashing()), shop_runtime.get(shop)
    candidates = Candidates(FIRST.run(shop, REQUEST), 20)
    scored = shop_runtime.get(recipe.scores(candidates, shop, REQUEST, FIRST)).frame
    queries, ids = data.queries("test"), data.catalogue.ids
    pairs = numbered_pairs(shop_runtime.get(candidates), queries.ids, ids)
    keys = ["query_id", "product_id"]
    wanted = pairs.select(keys).join(scored, on=keys, how="left", maintain_order="left")["score"]
    live = recipe.live(shop, REQUEST, FIRST, shop_runtime)
    assert live(queries.texts, pairs) == pytest.approx(wanted.to_numpy(), abs=1e-6)


def test_a_teacher_scores_what_was_judged(shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    teacher = Teacher(FIRST, BiEncoderReranker(Hashing()), depth=5)
    train = shop_runtime.get(teacher.run(shop, ask("train")))
    data = shop_runtime.get(shop)
    judged = set(data.judgments("train").frame.select("query_id", "product_id").rows())
    assert judged <= set(train.frame.select("query_id", "product_id").rows())
    test = shop_runtime.get(teacher.run(shop, REQUEST))
    assert test.frame.group_by("query_id").len()["len"].max() <= 5  # nothing judged is added


class Endpoint(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        type(self).asked.append(prompt)
        # A grade of 0 is what a refusal, which has no content, is worth.
        answer = f"Score: {len(prompt) % 11}" if len(prompt) % 11 else None
        told = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_) -> None: ...


def test_a_language_model_is_asked_once(shop: Artifact[Dataset], shop_runtime: Runtime) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    Endpoint.asked.clear()
    try:
        writer = Written(model="grader", endpoint=url, budget=200, most_tokens=8)
        llm = LLM(writer)
        system = Reranked(FIRST, llm, GAIN, weight=1.0, depth=3)
        run = shop_runtime.get(system.run(shop, REQUEST))
        data = shop_runtime.get(shop)
        pairs = numbered_pairs(run, data.queries("test").ids, data.catalogue.ids)
        top = pairs.filter(pl.col("rank") <= 3)
        assert len(Endpoint.asked) == len(set(Endpoint.asked)) == top.height
        titles = [t for b in data.catalogue.texts(("title",)) for t in b]
        texts = data.queries("test").texts
        prompts = [
            llm.prompt.replace("{query}", texts[q]).replace("{product}", titles[r])
            for q, r in top.select("query", "row").rows()
        ]
        graded = top.with_columns(pl.Series("grade", [len(p) % 11 for p in prompts]))
        for _, own in graded.group_by("query_id"):
            grades = own.sort("rank")["grade"].to_list()
            assert grades == sorted(grades, reverse=True)
        # Another depth asks about the new products only, within its budget.
        before = len(Endpoint.asked)
        with pytest.raises(InputError, match=r"writer\.budget=1; nothing was asked"):
            shop_runtime.get(
                Reranked(FIRST, LLM(replace(writer, budget=1)), GAIN, weight=1.0, depth=4).run(
                    shop, REQUEST
                )
            )
        assert len(Endpoint.asked) == before
        shop_runtime.get(
            Reranked(FIRST, LLM(replace(writer, budget=99)), GAIN, weight=1.0, depth=4).run(
                shop, REQUEST
            )
        )
        assert before < len(Endpoint.asked) <= before + len(data.queries("test"))
        # The budget is of the model's, not of a split's or a run's.
        spent = len(Endpoint.asked)
        with pytest.raises(InputError, match=rf"{spent} were spent before, writer\.budget=99"):
            shop_runtime.get(
                Reranked(FIRST, LLM(replace(writer, budget=99)), GAIN, weight=1.0, depth=9).run(
                    shop, REQUEST
                )
            )
    finally:
        server.shutdown()
        server.server_close()
    # Kept answers need no endpoint.
    shop_runtime.get(Reranked(FIRST, llm, GAIN, weight=1.0, depth=2).run(shop, REQUEST))
    # Bare grades, grades beside their scale, refusals.
    answers = {"7": 7, "7/10": 7, "Out of 10: 7": 7, "10": 10, "": 0, "10/10": 10, "no idea": 0}
    for answer, grade in answers.items():
        assert grade_of(answer) == grade, answer


def test_a_dead_endpoint_is_told_before_the_first_stage(
    shop: Artifact[Dataset], runtime: Runtime
) -> None:
    writer = Written(model="grader", endpoint="http://127.0.0.1:9/v1", timeout=2.0)
    away = Reranked(FIRST, LLM(writer), GAIN, weight=1.0)
    with pytest.raises(InputError, match=r"endpoint=http://127\.0\.0\.1:9/v1"):
        runtime.get(away.run(shop, REQUEST))
    assert {event["kind"] for event in runtime.store.events} == {"data"}


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda m: cross(m, objective="best"), r"objective must be one of"),
        (lambda m: cross(m, judged=1, drawn=0), "a list has two products or more"),
        (
            lambda m: Reranked(FIRST, cross(m), GAIN, depth=0),
            r"depth must be at least 1",
        ),
        (lambda m: Reranked(FIRST, cross(m), GAIN, weight=2.0), r"weight must be at"),
        (lambda m: LLM(Written(model="x"), prompt="no"), r"does not say where \{query\} goes"),
        (lambda m: CrossTower(cross(m, product_max_length=500)), "but the model reads 64"),
    ],
)
def test_bad_settings_are_refused(tiny_model: str, make, told: str) -> None:
    with pytest.raises(InputError, match=told):
        make(tiny_model)
