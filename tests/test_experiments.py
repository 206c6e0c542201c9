"""Every experiment runs end to end at toy size and gives what its expected.yaml says.

`make expected` rewrites the files from runs (UPDATE_EXPECTED=1).
"""

from __future__ import annotations

import csv
import importlib
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml

from tests.commands import run

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
METRICS = (
    "nDCG@10",
    "Recall@100",
    "judged@10",
    "collision_rate",
    "neighbour_consistency",
    "exact@10 %",
    "topic 40 %",
    "micro-F1",
    "macro-F1",
)
TOY = ["debug=tiny", "runtime.threads=1", "runtime.progress=false"]
FEW = "evaluation.resamples=200"  # the marks of a toy say nothing
# Generators that saw few batches: another processor's rounding moves the tails of their lists.
WIDE = {"generative": 0.1, "main": 0.1}
UNTESTED = ("tokenizers", "mmq", "drift_power")  # tables without queries to test
# What else makes an experiment a toy: fewer seeds, and a network of two small layers to train.
SMALL = ["retriever.encoder.model=TINY", "retriever.encoder.batch_size=32"]
CODES = "retriever.tokenizer.codes=16"
PREFIXES = ["encoder@retriever.tokenizer.encoder=hashing", CODES]
WRITER = [
    *(CODES, "retriever.generator.batch_size=64", "retriever.generator.schedule.epochs=2"),
    *("retriever.tokenizer.encoder.model=TINY", "retriever.generator.encoder.model=TINY"),
    *(f"retriever.{part}.encoder.batch_size=32" for part in ("tokenizer", "generator")),
]
# Two views without a network; pictures of half the side.
VIEWS = [f"encoder@tokenizer.encoder.{view}=hashing" for view in ("text", "image")]
LATE = [
    *("retriever.encoder.model=TINY", "retriever.encoder.markers=[null,null]"),
    *("retriever.encoder.batch_size=32", "retriever.encoder.dimensions=16"),
]
TEACHER = "retriever.members.late.encoder.teacher"
PICTURES = ["seed=0", "data.images=true", "data.n_products=500"]
MORE = {
    "queries": [
        "retriever=bm25,hybrid/convex",
        "query.order=[],[normalize,spelling,words,translations]",
    ],
    "hyde": ["encoder@retriever.encoder=hashing", "retriever=dense,hyde/template"],
    # Without a network: titles are "written" again.
    "expansion": [
        *("seed=0", "retriever=expanded/all,expanded", "query.order=[]"),
        *("writer@retriever.expansion.writer=template",),
        *("encoder@retriever.expansion.filter=hashing", 'evaluation.baseline="query.order=[]"'),
    ],
    "relax": ["retriever=bm25,relaxed", "query.order=[],[spelling,words]"],
    "intent": ["retriever=bm25", "query.order=[],[intent]"],
    "colbert_feedback": [*LATE, "retriever.documents=3", "retriever.beta=0.0,0.5"],
    "hyde_titles": [
        *("seed=0,1", "encoder@retriever.encoder=hashing", "retriever=hyde/titles"),
        *("retriever.writer.shape.model=TINY", "retriever.writer.schedule.epochs=1"),
        "retriever.writer.shape.heads=2",
        'evaluation.baseline="retriever=hyde/titles"',
    ],
    "vector_feedback": [
        *("encoder@retriever.encoder=hashing", "retriever.documents=3", "retriever.beta=0.0,0.3"),
    ],
    "sparse": [
        *("seed=0", *SMALL, "retriever=sparse,sparse/inference_free,sparse/own_terms"),
        'evaluation.baseline="retriever=sparse"',
    ],
    "typos": ["query.order=[],[spelling],[deletion],[deletion,spelling]"],
    "baselines": ["retriever=random,bm25,hybrid/convex,oracle"],
    "feedback": ["retriever=bm25,feedback,feedback/bo1"],
    "finetuned": ["seed=0", "retriever=bm25,dense/finetuned"],
    "fusion_alpha": ["retriever.fusion.weights={dense:0.2,sparse:0.8},{dense:1.0,sparse:0.0}"],
    "fusion_k": ["retriever.fusion.k=0,60,500"],
    "losses": ["seed=0", *SMALL, "loss@retriever.encoder.loss=infonce,matryoshka,cosine,listnet"],
    "negatives": [
        *("seed=0", *SMALL),
        "negatives@retriever.encoder.negatives=in_batch,retrieved/positive_aware,mixed",
    ],
    "temperature_batch": [SMALL[0], "retriever.encoder.batch_size=16,32"],
    "compression": SMALL,
    "ann": [
        "encoder@retriever.encoder=hashing",
        "index@retriever.index=flat,ivf,sq,binary,refine/rabitq",
    ],
    "drift_power": [
        *("encoder@task.encoder=hashing", "task.simulation.runs=5", "task.simulation.size=100"),
        "detector@task.detector=ks,chi2,centroid",
    ],
    "tokenizers": [
        *("seed=0", "encoder@tokenizer.encoder=hashing", "tokenizer.codes=16"),
        "tokenizer=random,atomic,hkmeans,rqkmeans/beam,rqkmeans/next_best,rqkmeans/extra",
    ],
    "multiphase": ["retriever=multiphase,multiphase/deep", *PREFIXES],
    "multiphase_probes": [*PREFIXES, "retriever.probes=1,8"],
    "generative": [
        *("seed=0", *WRITER, "retriever.generator.index_ratio=3"),
        "tokenizer@retriever.tokenizer=random,rqkmeans",
    ],
    "generative_search": [*WRITER, "retriever.beam=1,100"],
    # Late interaction and re-rankers have toys of their own.
    "main": [
        "seed=0",
        "retriever=bm25,dense/finetuned,generative/cosine,hybrid/finetuned_convex",
    ],
    "scaling": ["seed=0", "data.distractors=0.5", "data.most_queries=40", "retriever=bm25,dense"],
    "training_size": ["seed=0", "data.train_share=0.5,1.0", *SMALL],
    "dense_recipes": [
        *("seed=0", *SMALL),
        "encoder@retriever.encoder=biencoder/mined,biencoder/neighbours,biencoder/pretrained",
    ],
    "holes": ["retriever=bm25,dense"],
    "labels": ["classifier@retriever.classifier=constant,thresholds,trees"],
    "suite": ["seed=0", "data=shop", "retriever=bm25,dense"],  # two data sets: report/test_suite.py
    "changing": [
        *("seed=0", *WRITER, "retriever=generative/finetuned", "data.models=kept,indexed"),
        'evaluation.baseline="data.models=kept"',
    ],
    "codes": [*PREFIXES, "retriever.tokenizer.levels=2", "retriever.beam=null,10"],
    "long_codes": [
        *("seed=0", *WRITER, "retriever=generative/warm_taught"),
        "retriever@retriever.generator.teacher.retriever=bm25",
    ],
    "best": [
        *(
            "seed=0",
            "retriever=hybrid/four_per_query",
            "retriever.members.dense.encoder.model=TINY",
        ),
        *(f"retriever.members.late.encoder.{key}" for key in ("model=TINY", "markers=[null,null]")),
        "retriever.members.late.encoder.dimensions=16",
        *(
            f"{TEACHER}.{part}.model=TINY"
            for part in ("reranker", "retriever.members.dense.encoder")
        ),
        f"{TEACHER}.reranker.product_max_length=40",
        "retriever.members.learnt.encoder.model=TINY",
        'evaluation.baseline="retriever=hybrid/four_per_query"',
    ],
    "multimodal": [
        *PICTURES,
        "retriever=bm25,dense,dense/words_to_pictures,hybrid/late_fusion,dense/early_fusion_both,dense/gated",
    ],
    "crossmodal": [
        *PICTURES,
        "retriever=random,dense/words_to_pictures,dense/pictures_to_titles,dense/image",
    ],
    "mmq": [
        *("seed=0", "data.images=true", "tokenizer.codes=16"),
        *VIEWS,
        *("tokenizer=rqkmeans,per_modality,mmq,mmq/queries",),
    ],
    "behaviour": [
        *("seed=0", "data=amazon_reviews", "data.path=BOUGHT", CODES),
        *("tokenizer@retriever.tokenizer=rqkmeans,mmq/next_item",),
        *(f"encoder@retriever.tokenizer.encoder.{view}=hashing" for view in ("text", "image")),
        *("retriever.generator.schedule.epochs=20", "retriever.generator.shape.layers=1"),
    ],
    "late_interaction": [*LATE, "retriever.encoder.query_max_length=8,16"],
    "late_compression": [*LATE, "retriever.index.bits=null,2", "retriever.encoder.pool_factor=1,2"],
    "engines": ["retriever=engine/words,engine/vectors"],
    "rerank": [
        *("retriever=reranked/words", "retriever.depth=10,50", "retriever.weight=null"),
        *("retriever@retriever.retriever=bm25",),
    ],
    "rerank_judged": ["seed=0", "retriever=random,oracle,bm25,reranked/words"],
    "clicks": [
        "implicit@retriever.reranker.implicit=naive,ips,doubly_robust,click_model",
        *("seed=0", "logs.lists=5000", "retriever.reranker.implicit.propensity.overlap=5"),
    ],
    "cross_objectives": [
        *("retriever@retriever.retriever=bm25", "retriever.reranker.model=TINY"),
        *("retriever.reranker.drawn=2", "retriever.reranker.schedule.epochs=1"),
        *("retriever.reranker.query_max_length=16", "retriever.reranker.product_max_length=32"),
    ],
    "distillation": [
        *("seed=0", "retriever=dense/distilled_kl", *SMALL, "retriever.encoder.teacher.depth=20"),
        *("retriever@retriever.encoder.teacher.retriever=bm25",),
        *("retriever.encoder.teacher.reranker.model=TINY",),
        *("retriever.encoder.teacher.reranker.query_max_length=16",),
        *("retriever.encoder.teacher.reranker.product_max_length=32",),
    ],
    "personalised": [
        *("seed=0", "data.n_users=150", "profile@retriever.profile=none,popularity,vsknn,item2vec"),
    ],
    # What needs neither the hub nor minutes; E5 has a test of its own.
    "zoo": ["encoder@retriever.encoder=zoo/minilm,zoo/minilm_int8,zoo/wordllama"],
    "compression_dimensions": [*SMALL, "retriever.index.dimensions=16,8"],
}


@pytest.fixture(scope="session")
def bought(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Users who walk through sixty products in order, in the compact form of amazon_reviews."""
    folder = tmp_path_factory.mktemp("bought")
    colours = ("red", "green", "blue", "black", "white", "grey")
    items = {"item_id": list(range(60)), "title": [f"{colours[i % 6]} pen {i}" for i in range(60)]}
    items["description"] = [f"A pen of {colours[i // 10]} ink" for i in range(60)]
    pl.DataFrame(items).write_parquet(folder / "items.parquet")
    walks = [[(7 * user + step) % 60 for step in range(5)] for user in range(80)]
    users = {"user_id": [f"u{i}" for i in range(80)], "item_ids": walks}
    pl.DataFrame(users).write_parquet(folder / "sequences.parquet")
    return str(folder)


@pytest.mark.parametrize("name", NAMES)
def test_toy_table(name: str, toy_outputs: Path, tiny_model: str, bought: str) -> None:
    toy = [*TOY, *([] if name in UNTESTED else [FEW]), *MORE.get(name, [])]
    words = [word.replace("TINY", tiny_model).replace("BOUGHT", bought) for word in toy]
    done = run(["-m", f"experiment={name}", *words], {"NEUROSEARCH_OUTPUTS": str(toy_outputs)})
    assert done.returncode == 0, done.stderr[-3000:]
    (table,) = (toy_outputs / "tables" / name).glob("*.csv")
    with table.open() as handle:
        rows = list(csv.DictReader(handle))
    got: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["metric"] in METRICS:
            share = float(row["mean"]) / (100 if row["metric"].endswith("%") else 1)
            got.setdefault(row["system"], {})[row["metric"]] = round(share, 4)
    path = ROOT / "experiments" / name / "expected.yaml"
    if os.environ.get("UPDATE_EXPECTED"):
        header = f"# Toy size, simulated data: -m experiment={name} {' '.join(toy)}\n"
        if name in WIDE:
            header += "# Of one processor; toy generators end in other places on others.\n"
        allowed = WIDE.get(name, 0.05 if name in MORE else 0.02)
        body = yaml.safe_dump({"tolerance": allowed, "expected": got}, sort_keys=False)
        path.write_text(header + body)
    wanted = yaml.safe_load(path.read_text())
    assert got.keys() == wanted["expected"].keys()
    for system, metrics in wanted["expected"].items():
        found = {metric: got[system].get(metric) for metric in metrics}
        assert found == pytest.approx(metrics, abs=wanted["tolerance"]), system


@pytest.mark.parametrize("script, page", [("overview", "RESULTS.md"), ("claims", "CLAIMS.md")])
def test_pages_are_made_of_the_tables(script: str, page: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", f"import {script}; print({script}.page(), end='')"],
        cwd=ROOT / "experiments",
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == (ROOT / "experiments" / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_each_experiment_has_its_page(name: str) -> None:
    page = (ROOT / "experiments" / name / "README.md").read_text()
    assert f"python -m neurosearch -m experiment={name}" in page
    for word in ("Claim", "Command", "Minutes", "Data"):
        assert f"**{word}**" in page


@pytest.mark.parametrize(
    ("holds", "p", "tested", "expected"),
    [
        (True, 0.049, True, "holds here (p 0.049)"),
        (True, 0.051, True, "holds by value; the order is not significant (p 0.051)"),
        (False, 0.051, True, "**does not hold** by value; the order is not significant (p 0.051)"),
        (False, 0.001, True, "**does not hold** here (p 0.001)"),
        (True, 0.051, False, "holds here (by value; not tested)"),
        (False, None, True, "**does not hold** here (by value; not tested)"),
    ],
)
def test_a_claim_holds_by_value_and_by_test(
    monkeypatch: pytest.MonkeyPatch, holds: bool, p: float | None, tested: bool, expected: str
) -> None:
    monkeypatch.syspath_prepend(ROOT / "experiments")
    claims = importlib.import_module("claims")
    rows = [{"system": name, "baseline": "b", "p_holm": p} for name in "ab"]
    rows[1]["p_holm"] = None  # the baseline's own
    assert claims._verdict(holds, rows, tested) == expected
