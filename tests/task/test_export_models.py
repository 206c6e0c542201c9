"""Exported encoders give the same vectors, and the same run, in sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertModel, T5ForConditionalGeneration

from neurosearch.core.errors import InputError
from neurosearch.evaluation.gain import NumericGain
from neurosearch.generator.base import CodeModelFiles
from neurosearch.generator.network import path_scores
from neurosearch.generator.t5 import T5
from neurosearch.nn.tokens import tokenize
from neurosearch.task.export import TAGS, _check_place
from tests.commands import run

TRAINED = ["retriever=dense/finetuned", "debug=tiny", "retriever.encoder.product_max_length=24"]
TRAINED += ["evaluation.latency.queries=0", "retriever.encoder.query_max_length=24"]


@pytest.mark.parametrize(
    "more", [[], ["retriever.encoder.projection=16", "retriever.encoder.query_prefix='red '"]]
)
def test_the_run_is_the_same(more: list[str], tiny_model: str, tmp_path: Path) -> None:
    words = [*TRAINED, f"retriever.encoder.model={tiny_model}", *more]
    places = {"NEUROSEARCH_OUTPUTS": str(tmp_path)}
    assert run(words, places).returncode == 0
    done = run([*words, "task=export"], places)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "exports" / "adhoc"
    model = SentenceTransformer(str(folder), device="cpu")
    (data,) = (p.parent for p in tmp_path.glob("artifacts/data/*/products.parquet"))
    products = pl.read_parquet(data / "products.parquet")
    queries = pl.read_parquet(data / "queries.parquet").filter(pl.col("split") == "test")
    shown = model.encode_document(products["title"].to_list())
    scores = model.encode_query(queries["text"].to_list()) @ shown.T
    (job,) = tmp_path.glob("jobs/adhoc/*/run.parquet")
    stored = pl.read_parquet(job)
    place = {product: n for n, product in enumerate(products["product_id"])}
    for n, query in enumerate(queries["query_id"]):
        first = stored.filter(pl.col("query_id") == query).sort("rank").head(20)
        own = first["score"].to_numpy()
        theirs = scores[n, [place[product] for product in first["product_id"]]]
        assert theirs == pytest.approx(own, abs=2e-5)
        best = np.sort(scores[n])[::-1][:20]
        assert best == pytest.approx(own, abs=2e-5)
    card = (folder / "README.md").read_text()
    assert "## Measured" in card and "nDCG@10" in card and "SIMULATED" in card


def test_two_towers_are_two_folders(tiny_model: str, tmp_path: Path) -> None:
    words = [*TRAINED, f"retriever.encoder.model={tiny_model}", "task=export"]
    words += ["retriever.encoder.towers=query_product", f"task.folder={tmp_path}/two"]
    done = run(words, {"NEUROSEARCH_OUTPUTS": str(tmp_path / "o")})
    assert done.returncode == 0, done.stderr
    sides = [SentenceTransformer(str(tmp_path / "two" / s), device="cpu").encode(["red lamp"])
             for s in ("query", "product")]  # fmt: skip
    assert not np.allclose(*sides, atol=1e-4)
    assert "No job has measured" in (tmp_path / "two" / "README.md").read_text()


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    done = run(["retriever=bm25", "task=export"], {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert done.returncode == 1 and "can't be exported: bi-encoders, ColBERT" in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    words = ["retriever=dense/finetuned", "debug=tiny", "task=export"]
    done = run([*words, f"task.folder={tmp_path}/mine"], {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert "holds other files" in done.stderr
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    (tmp_path / "mine" / "README.md").write_text("# My project")
    done = run([*words, f"task.folder={tmp_path}/mine"], {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert "holds other files" in done.stderr
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_files_of_others_outlive_an_earlier_export(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(f"tags: [x, {TAGS}]")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")
    (tmp_path / ".exported").write_text("README.md\nmodel/weights\n")
    _check_place(tmp_path)
    (tmp_path / "model" / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match=r"model/notes\.txt is not of the earlier export"):
        _check_place(tmp_path)


@pytest.fixture(scope="module")
def marked_model(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model whose vocabulary also has the two markers of ColBERT."""
    folder = tmp_path_factory.mktemp("marked")
    tokenizer = json.loads((Path(tiny_model) / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    for marker in ("[unused0]", "[unused1]"):
        vocabulary[marker] = len(vocabulary)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    network = BertModel.from_pretrained(tiny_model)
    torch.manual_seed(1)
    network.resize_token_embeddings(len(vocabulary))
    network.save_pretrained(folder)
    return str(folder)


def scores_of(outputs: Path) -> pl.DataFrame:
    """The one run that jobs of `outputs` recorded."""
    (path,) = outputs.glob("jobs/adhoc/*/run.parquet")
    return pl.read_parquet(path, glob=False).sort("query_id", "product_id")


def same(first: pl.DataFrame, second: pl.DataFrame, tolerance: float) -> None:
    joined = first.join(second, on=["query_id", "product_id"], suffix="_other")
    assert joined.height > 0.99 * first.height == 0.99 * second.height  # the last ranks may tie
    difference = (joined["score"] - joined["score_other"]).abs()
    assert difference.max() < tolerance
    assert joined["score"].std() > 10 * tolerance  # what is equal is not all one number


@pytest.mark.parametrize(
    "more",
    [
        [],
        [
            "retriever.encoder.expansion=true",
            "retriever.encoder.skip_punctuation=false",
        ],
    ],
)
def test_colbert_gives_the_same_run(more: list[str], marked_model: str, tmp_path: Path) -> None:
    words = ["retriever=late_interaction", "debug=tiny", "evaluation.latency.queries=0"]
    trained = [*words, f"retriever.encoder.model={marked_model}", *more]
    own = {"NEUROSEARCH_OUTPUTS": str(tmp_path / "own")}
    assert run(trained, own).returncode == 0
    done = run([*trained, "task=export", f"task.folder={tmp_path}/model", "task.onnx=int8"], own)
    assert done.returncode == 0, done.stderr
    vectors = asked(tmp_path / "model" / "model.onnx")
    assert np.allclose(np.linalg.norm(vectors, axis=2), 1, atol=1e-3) and len(vectors) == 2
    theirs = {"NEUROSEARCH_OUTPUTS": str(tmp_path / "theirs")}
    published = "encoder@retriever.encoder=colbert/published"
    done = run([*words, published, f"retriever.encoder.model={tmp_path}/model"], theirs)
    assert done.returncode == 0, done.stderr
    # Token vectors are stored as halves.
    same(scores_of(tmp_path / "own"), scores_of(tmp_path / "theirs"), 1e-3)
    assert "PyLate" in (tmp_path / "model" / "README.md").read_text()


def test_a_cross_encoder_gives_the_same_run(tiny_model: str, tmp_path: Path) -> None:
    words = ["retriever=reranked/bm25_cross", "debug=tiny", "evaluation.latency.queries=0"]
    words += ["retriever.weight=1", "retriever.retriever.engine=bm25s"]
    trained = [*words, f"retriever.reranker.model={tiny_model}"]
    trained += ["retriever.reranker.product_max_length=40"]
    own = {"NEUROSEARCH_OUTPUTS": str(tmp_path / "own")}
    assert run(trained, own).returncode == 0
    done = run([*trained, "task=export", f"task.folder={tmp_path}/model", "task.onnx=fp32"], own)
    assert done.returncode == 0, done.stderr
    assert asked(tmp_path / "model" / "model.onnx").shape == (2,)
    theirs = {"NEUROSEARCH_OUTPUTS": str(tmp_path / "theirs")}
    published = "reranker@retriever.reranker=published"
    done = run([*words, published, f"retriever.reranker.model={tmp_path}/model"], theirs)
    assert done.returncode == 0, done.stderr
    same(*(uncut(scores_of(tmp_path / x), tiny_model, tmp_path) for x in ("own", "theirs")), 1e-4)


def uncut(run: pl.DataFrame, model: str, outputs: Path) -> pl.DataFrame:
    """The lists in which no text was cut: the library cuts pairs, NeuroSearch each text."""
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    (data,) = (p.parent for p in (outputs / "own").glob("artifacts/data/*/products.parquet"))
    for name, column, limit in (("queries", "text", 24), ("products", "title", 40)):
        frame = pl.read_parquet(data / f"{name}.parquet")
        lengths = [
            len(encoding.ids) for encoding in tokenizer.encode_batch(frame[column].to_list())
        ]
        key = "query_id" if name == "queries" else "product_id"
        long = frame.filter(pl.Series(lengths) > limit)[key].to_list()
        touched = run.filter(pl.col(key).is_in(long))["query_id"].unique().to_list()
        run = run.filter(~pl.col("query_id").is_in(touched))
    assert run["query_id"].n_unique() >= 4
    return run


def asked(path: Path) -> np.ndarray:
    """What an ONNX file gives for two padded texts, or pairs."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    tokens = np.array([[2, 7, 9, 3, 8, 3], [2, 7, 3, 8, 3, 0]])
    feed = {"input_ids": tokens, "attention_mask": (tokens > 0).astype(np.int64)}
    feed["token_type_ids"] = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]])
    known = {value.name for value in session.get_inputs()}
    (found,) = session.run(None, {name: value for name, value in feed.items() if name in known})
    return np.asarray(found)


def test_an_index_and_its_ids(tiny_model: str, tmp_path: Path) -> None:
    words = ["retriever=dense", "debug=tiny", f"retriever.encoder.model={tiny_model}"]
    done = run([*words, "task=export"], {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "exports" / "adhoc"
    index = faiss.read_index(str(folder / "index.faiss"))
    ids = json.loads((folder / "ids.json").read_text())
    (data,) = (p.parent for p in tmp_path.glob("artifacts/data/*/products.parquet"))
    products = pl.read_parquet(data / "products.parquet")
    assert ids == products["product_id"].to_list() and len(ids) == index.ntotal
    model = SentenceTransformer(tiny_model, device="cpu")
    title = products["title"][7]
    vector = model.encode([title], normalize_embeddings=True)
    scores, rows = index.search(vector, 3)
    assert scores[0, 0] == pytest.approx(1, abs=1e-4)
    assert products["title"][int(rows[0, 0])] == title


def test_the_part_is_chosen_by_its_address(tiny_model: str, tmp_path: Path) -> None:
    words = ["retriever=hybrid", "debug=tiny", "task=export", "task.part=members.lexical.encoder"]
    done = run(words, {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert done.returncode == 1
    assert "task.part='members.lexical.encoder' is none of members.dense.index" in done.stderr


def test_a_generator_gives_the_same_scores(tiny_t5: str, tmp_path: Path) -> None:
    words = ["retriever=generative", "debug=tiny", "generator@retriever.generator=t5"]
    words += [f"retriever.generator.model={tiny_t5}", "retriever.generator.batch_size=32"]
    words += ["encoder@retriever.tokenizer.encoder=hashing", "retriever.tokenizer.codes=8"]
    done = run([*words, "task=export", f"task.folder={tmp_path}/t5"],
               {"NEUROSEARCH_OUTPUTS": str(tmp_path / "o")})  # fmt: skip
    assert done.returncode == 0, done.stderr
    model = T5ForConditionalGeneration.from_pretrained(tmp_path / "t5").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "t5")
    index = json.loads((tmp_path / "t5" / "index.json").read_text())
    (trained,) = (tmp_path / "o").glob("artifacts/generator/*/generator.safetensors")
    sizes = json.loads(trained.with_name("generator.json").read_text())["sizes"]
    gain = NumericGain("any")
    files = CodeModelFiles(T5(gain=gain, model=tiny_t5), trained.parent, tuple(sizes))
    ours = files.network()
    texts, ids = ["red lamp", "blue cotton shirt"], list(index.values())[:2]
    codes = np.array([[int(code[3:-1]) for code in levels] for levels in ids])
    tokens = tokenize(ours.reader.tokenizer, texts, 32)
    wanted = path_scores(ours, tokens, np.arange(2), codes, torch.device("cpu"))
    begin = np.cumsum([0, *files.sizes]) + tokenizer.convert_tokens_to_ids("<a_0>")
    for text, levels, scores in zip(texts, ids, wanted, strict=True):
        batch = tokenizer(text, return_tensors="pt")
        written = tokenizer.convert_tokens_to_ids(levels)
        read = torch.tensor([[model.config.decoder_start_token_id, *written[:-1]]])
        with torch.inference_mode():
            logits = model(input_ids=batch["input_ids"], decoder_input_ids=read).logits[0]
        for level, token in enumerate(written):
            first, last = begin[level], begin[level + 1]
            score = logits[level, first:last].log_softmax(-1)[token - first]
            assert float(score) == pytest.approx(scores[level], abs=1e-4)
