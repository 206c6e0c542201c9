"""A job's files give other evaluators the table's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import pytrec_eval

from tests.commands import run


def test_trec_eval_gives_the_same_means(tmp_path: Path) -> None:
    words = ["retriever=bm25", "debug=tiny", "retriever.engine=bm25s"]
    done = run([*words, "evaluation.latency.queries=0"], {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    (job,) = tmp_path.glob("jobs/adhoc/*")
    with (job / "qrels.trec").open() as qrels, (job / "run.trec").open() as lists:
        judged, ranked = pytrec_eval.parse_qrel(qrels), pytrec_eval.parse_run(lists)
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10"})
    theirs = [values["ndcg_cut_10"] for values in evaluator.evaluate(ranked).values()]
    metrics = pl.read_parquet(job / "metrics.parquet")
    mean = metrics["nDCG@10"].mean()
    # trec_eval leaves out queries without an answer.
    assert sum(theirs) / metrics.height == pytest.approx(mean, abs=1e-4) and mean > 0.1
    result = json.loads((job / "mteb.json").read_text())
    (scores,) = result["scores"]["test"]
    assert scores["ndcg_at_10"] == scores["main_score"] == pytest.approx(mean)
    assert scores["recall_at_100"] == pytest.approx(metrics["Recall@100"].mean())
    assert result["task_name"] == "shop" and result["dataset_revision"]


def test_the_record_names_each_model(tiny_model: str, tmp_path: Path) -> None:
    words = ["retriever=dense", "debug=tiny", f"retriever.encoder.model={tiny_model}"]
    done = run([*words, "evaluation.latency.queries=0"], {"NEUROSEARCH_OUTPUTS": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("jobs/adhoc/*/record.json")
    assert json.loads(path.read_text())["models"] == {tiny_model: f"folder {tiny_model}"}
