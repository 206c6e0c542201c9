"""Exported encoders give the same vectors, and the same run, in sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sentence_transformers import SentenceTransformer

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
    assert done.returncode == 1 and "can't be exported: bi-encoders can" in done.stderr
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    words = ["retriever=dense/finetuned", "debug=tiny", "task=export"]
    done = run([*words, f"task.folder={tmp_path}/mine"], {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert "holds other files" in done.stderr
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
