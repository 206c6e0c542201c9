"""Claims in circulation about e-commerce retrieval, beside rows that were measured here.

    python experiments/claims.py        # writes experiments/CLAIMS.md

What is claimed is quoted from public repositories and tutorials. Everything measured is read from
the published tables' CSV files, and so is the verdict: each claim says which order of the rows
would bear it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

HERE = Path(__file__).parent
TUNED = "MiniLM fine-tuned (InfoNCE)"
MATRYOSHKA = "MiniLM fine-tuned (Matryoshka InfoNCE)"
HYBRID = "Hybrid convex (tuned on dev)"
WARM = "Warm codes over RQKMeans"
CROSS = f"{HYBRID} + cross-encoder (MiniLM, %s)"


@dataclass(frozen=True)
class Claim:
    """Attributes:
    said: the claim.
    given: what the method was given here, in words.
    table: a published CSV, less its suffix, under experiments/.
    systems: rows that speak to it.
    bears_out: of their values, in that order.
    metric: which number of theirs.
    beside: (table, row) of another table, the last of the values.
    ordered: that some are above others, which Holm's p speaks to; False: that they are equal, or
        how far they are apart.
    """

    said: str
    given: str
    table: str
    systems: tuple[str, ...]
    bears_out: Callable[..., bool]
    metric: str = "nDCG@10"
    beside: tuple[str, str] | None = None
    ordered: bool = True

    def line(self) -> str:
        """Its row of the page. Raises KeyError where a system is not in the table."""
        places = [(self.table, system) for system in self.systems]
        places += [self.beside] if self.beside else []
        rows = [_row(table, system, self.metric) for table, system in places]
        told = "; ".join(f"{row['system']} {_number(self.metric, row)}" for row in rows)
        holds = self.bears_out(*(row["mean"] for row in rows))
        verdict = _verdict(holds, rows, tested=self.ordered and self.beside is None)
        name = self.table.split("/")[0]
        link = f"[{name}]({self.table}.md)"
        parts = (self.said, self.given, told, self.metric, verdict, link)
        return f"| {' | '.join(parts)} |"


def _number(metric: str, row: dict[str, Any]) -> str:
    if metric.endswith("ms"):
        return f"{row['mean']:.1f}"
    ends = [f"{row[end]:.3f}".lstrip("0") for end in ("mean", "ci_low", "ci_high")]
    return "{} [{}, {}]".format(*ends)


def _verdict(holds: bool, rows: list[dict[str, Any]], tested: bool) -> str:
    """How sure it is: by the largest of Holm's p against the one row that is the baseline."""
    said = "holds" if holds else "**does not hold**"
    named = {row["system"] for row in rows}
    found = [r["p_holm"] for r in rows if r["p_holm"] is not None and r["baseline"] in named]
    if not found or not tested:
        return f"{said} here (by value; not tested)"
    if max(found) >= 0.05:
        return f"{said} by value; the order is not significant (p {max(found):.2g})"
    return f"{said} here (p {max(found):.2g})"


MAIN, BEST = "main/results/home_depot", "best/results/home_depot"
CLAIMS = (
    Claim(
        "Zero-shot dense retrieval is well above BM25 (.58 against .38 nDCG@10)",
        "queries corrected and translated for both; a model of 22 M weights",
        BEST,
        ("MiniLM zero-shot", "BM25 (bm25s)"),
        lambda dense, bm25: dense > bm25,
    ),
    Claim(
        "Fine-tuned dense retrieval is well above BM25 (.65 against .38)",
        "processed queries for both; pre-training, generated queries, a teacher of four and "
        "planted typing errors at once",
        "dense_recipes/results/home_depot",
        ("MiniLM fine-tuned (InfoNCE + KL) · retriever=dense/combined_four",),
        lambda dense, bm25: dense > bm25,
        beside=(BEST, "BM25 (bm25s)"),
    ),
    Claim(
        "Generative retrieval over semantic IDs lies between BM25 and dense (.48)",
        "processed queries; eight codes of 1,024 of the fine-tuned encoder, a decoder that begins "
        "at their ranking and keeps its best state on dev",
        "long_codes/results/home_depot",
        (f"{WARM} · lr=2e-05", TUNED),
        lambda generative, dense, bm25: bm25 < generative < dense,
        beside=(BEST, "BM25 (bm25s)"),
    ),
    Claim(
        "RRF lifts nDCG@10 by 15 % over the best single system",
        "BM25 and a zero-shot encoder, k 60",
        "fusion/results/home_depot",
        ("Hybrid RRF", "BM25 (Lucene)", "MiniLM zero-shot"),
        lambda rrf, bm25, dense: rrf >= 1.15 * max(bm25, dense),
        ordered=False,
    ),
    Claim(
        "RRF is the best fusion (.71, before weighted scores .69 and their average .67)",
        "the same two lists; convex weights from dev",
        "fusion/results/home_depot",
        ("Hybrid RRF", HYBRID, "Hybrid CombSUM (min-max)"),
        lambda rrf, weighted, average: rrf > weighted > average,
    ),
    Claim(
        "RRF's k = 60 is the optimum",
        "the same two lists, eight values of k",
        "fusion_k/results/home_depot",
        tuple(f"Hybrid RRF · k={k}" for k in (60, 0, 1, 5, 10, 20, 100, 500)),
        lambda sixty, *others: sixty >= max(others),
    ),
    Claim(
        "Weights of convex fusion are a detail (.1 and .7 on the dense side)",
        "the same two lists",
        "fusion_alpha/results/home_depot",
        tuple(
            f"Hybrid convex · norm=min-max, dense={d}"
            for d in ("0.1, sparse=0.9", "0.7, sparse=0.3")
        ),
        lambda low, high: abs(low - high) < 0.01,
        ordered=False,
    ),
    Claim(
        "The cosine loss does better than contrastive cross-entropy",
        "the same pairs, steps and learning rate; it sees no negatives of the batch",
        "losses/results/home_depot",
        ("MiniLM fine-tuned (Cosine)", TUNED),
        lambda cosine, infonce: cosine > infonce,
    ),
    Claim(
        "Hard negatives are what fine-tuning needs (mined against in-batch)",
        "mined anew every epoch, false negatives masked, as many steps",
        "negatives/results/home_depot",
        tuple(f"{TUNED} · negatives={kind}, mask=True" for kind in ("retrieved/mined", "in_batch")),
        lambda mined, batch: mined > batch,
    ),
    Claim(
        "PCA compresses vectors threefold at next to no loss (384 to 128)",
        "the fine-tuned encoder's vectors, exact search",
        "compression_dimensions/results/home_depot",
        (f"{TUNED} · Flat pca 128",),
        lambda small, whole: whole - small < 0.005,
        ordered=False,
        beside=("compression_dimensions/results/shorter/home_depot", TUNED),
    ),
    Claim(
        "The first dimensions carry the signal without Matryoshka training (64 of 384)",
        "the same training with and without the Matryoshka loss",
        "compression_dimensions/results/home_depot",
        (f"{TUNED} · Flat truncate 64", f"{MATRYOSHKA} · Flat truncate 64"),
        lambda plain, trained: plain >= trained,
    ),
    Claim(
        "A cross-encoder on top of the hybrid is the best of all (.76 over .71): its order alone",
        "MiniLM, two objectives, four drawn negatives of the hybrid's first 50",
        "cross_objectives/results/home_depot",
        tuple(CROSS % name + " · drawn=4" for name in ("pointwise", "listwise")),
        lambda *values: max(values[:-1]) > values[-1],
        beside=(MAIN, f"{HYBRID} · retriever=hybrid/finetuned_convex"),  # that they re-rank
    ),
    Claim(
        "A cross-encoder on top of the hybrid helps, mixed with the hybrid's score",
        "over the hybrid of two, typed queries; the weight from dev",
        "main/results/against_hybrid/home_depot",
        (CROSS % "listwise" + ", interpolated", f"{HYBRID} · retriever=hybrid/finetuned_convex"),
        lambda cross, hybrid: cross > hybrid,
    ),
    Claim(
        "A cross-encoder is enough trained on judged products (drawn=0) alone",
        "the same network, without and with four drawn negatives",
        "cross_objectives/results/home_depot",
        tuple(CROSS % "listwise" + f" · drawn={n}" for n in (0, 4)),
        lambda judged, drawn: judged >= drawn,
    ),
    Claim(
        "Scores near 1 show that a method solved the task: the judged pool in random order",
        "judged products alone are ranked",
        "rerank_judged/results/home_depot.judged",
        ("Random", "ColBERT (MiniLM, InfoNCE)"),
        lambda random, best: random < best / 2,
    ),
    Claim(
        "Lexical retrieval is all you need",
        "queries corrected and translated for all",
        BEST,
        ("BM25 (bm25s)", f"{HYBRID} · retriever=hybrid/four", "ColBERT (MiniLM, InfoNCE + KL)"),
        lambda bm25, *others: bm25 >= max(others),
    ),
    Claim(
        "A hybrid answers in under 50 ms at the 99th percentile, on a CPU",
        "BM25 and a zero-shot encoder, exact search over 54,667 products, one query at a time",
        "fusion/results/home_depot",
        ("BM25 (Lucene)", "MiniLM zero-shot", HYBRID),
        lambda bm25, dense, hybrid: hybrid < 50,
        metric="p99 ms",
    ),
)


def _row(table: str, system: str, metric: str) -> dict[str, Any]:
    """A published table's row."""
    rows = pl.read_csv(HERE / f"{table}.csv", infer_schema_length=None)
    found = rows.filter((pl.col("metric") == metric) & (pl.col("system") == system))
    if not found.height:
        raise KeyError(f"{table}: {system}")
    return found.row(0, named=True)


def page() -> str:
    """The whole page."""
    head = [
        "# Claimed and measured",
        "",
        "Generated by `python experiments/claims.py`: claims in circulation (of public",
        "repositories and tutorials, most without a run behind them) beside rows of our own tables",
        "on Home Depot, with 95 % intervals; each table says its protocol, gains, seeds and",
        "hardware. A claim may hold elsewhere. Verdicts are by the values; where rows were tested",
        "against each other, the largest of Holm's p is there, and from .05 on it is said that the",
        "order is not significant. Rows of different tables were not tested against each other.",
        "",
        "| claimed | given here | measured | metric | verdict | table |",
        "|:---|:---|:---|:---|:---|:---|",
    ]
    return "\n".join([*head, *(claim.line() for claim in CLAIMS), ""])


if __name__ == "__main__":
    (HERE / "CLAIMS.md").write_text(page(), encoding="utf-8")
