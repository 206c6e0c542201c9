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

import polars as pl

HERE = Path(__file__).parent
TUNED = "MiniLM fine-tuned (InfoNCE)"
MATRYOSHKA = "MiniLM fine-tuned (Matryoshka InfoNCE)"
HYBRID = "Hybrid convex (tuned on dev)"
CROSS = f"{HYBRID} + cross-encoder (MiniLM, %s)"


@dataclass(frozen=True)
class Claim:
    """Attributes:
    said: the claim.
    table: a published CSV, less its suffix, under experiments/.
    systems: rows that speak to it.
    bears_out: of their values, in that order.
    metric: which number of theirs.
    """

    said: str
    table: str
    systems: tuple[str, ...]
    bears_out: Callable[..., bool]
    metric: str = "nDCG@10"

    def line(self) -> str:
        """Its row of the page. Raises KeyError where a system is not in the table."""
        means = _means(self.table, self.metric)
        values = [means[system] for system in self.systems]
        told = "; ".join(
            f"{system} {_number(self.metric, value)}"
            for system, value in zip(self.systems, values, strict=True)
        )
        verdict = "holds here" if self.bears_out(*values) else "**does not hold here**"
        name = self.table.split("/")[0]
        link = f"[{name}]({self.table}.md)"
        return f"| {self.said} | {told} | {self.metric} | {verdict} | {link} |"


def _number(metric: str, value: float) -> str:
    return f"{value:.1f}" if metric.endswith("ms") else f"{value:.3f}".lstrip("0")


MAIN = "main/results/home_depot"
CLAIMS = (
    Claim(
        "Zero-shot dense retrieval is well above BM25 (.58 against .38 nDCG@10)",
        MAIN,
        ("MiniLM zero-shot", "BM25 (bm25s)"),
        lambda dense, bm25: dense > bm25,
    ),
    Claim(
        "Fine-tuned dense retrieval is well above BM25 (.65 against .38)",
        MAIN,
        (TUNED, "BM25 (bm25s)"),
        lambda dense, bm25: dense > bm25,
    ),
    Claim(
        "Generative retrieval over semantic IDs lies between BM25 and dense (.48)",
        MAIN,
        ("BM25 (bm25s)", "Dense prefix over RQKMeans", TUNED),
        lambda bm25, generative, dense: bm25 < generative < dense,
    ),
    Claim(
        "RRF lifts nDCG@10 by 15 % over the best single system",
        "fusion/results/home_depot",
        ("Hybrid RRF", "BM25 (Lucene)", "MiniLM zero-shot"),
        lambda rrf, bm25, dense: rrf >= 1.15 * max(bm25, dense),
    ),
    Claim(
        "RRF is the best fusion (.71, before weighted scores .69 and their average .67)",
        "fusion/results/home_depot",
        ("Hybrid RRF", HYBRID, "Hybrid CombSUM (min-max)"),
        lambda rrf, weighted, average: rrf > weighted > average,
    ),
    Claim(
        "RRF's k = 60 is the optimum",
        "fusion_k/results/home_depot",
        tuple(f"Hybrid RRF · k={k}" for k in (60, 0, 1, 5, 10, 20, 100, 500)),
        lambda sixty, *others: sixty >= max(others),
    ),
    Claim(
        "Weights of convex fusion are a detail (.1 and .7 on the dense side)",
        "fusion_alpha/results/home_depot",
        tuple(
            f"Hybrid convex · norm=min-max, dense={d}"
            for d in ("0.1, sparse=0.9", "0.7, sparse=0.3")
        ),
        lambda low, high: abs(low - high) < 0.01,
    ),
    Claim(
        "The cosine loss does better than contrastive cross-entropy",
        "losses/results/home_depot",
        ("MiniLM fine-tuned (Cosine)", TUNED),
        lambda cosine, infonce: cosine > infonce,
    ),
    Claim(
        "Hard negatives are what fine-tuning needs (mined against in-batch)",
        "negatives/results/home_depot",
        tuple(f"{TUNED} · negatives={kind}, mask=True" for kind in ("mined", "in_batch")),
        lambda mined, batch: mined > batch,
    ),
    Claim(
        "PCA compresses vectors threefold at next to no loss (384 to 128)",
        "compression_dimensions/results/home_depot",
        (f"{TUNED} · Flat pca 128", f"{TUNED} · Flat pca 256"),
        lambda small, large: large - small < 0.005,
    ),
    Claim(
        "The first dimensions carry the signal without Matryoshka training (64 of 384)",
        "compression_dimensions/results/home_depot",
        (f"{TUNED} · Flat truncate 64", f"{MATRYOSHKA} · Flat truncate 64"),
        lambda plain, trained: plain >= trained,
    ),
    Claim(
        "A cross-encoder on top of the hybrid is the best of all (.76 over .71): its order alone",
        "cross_objectives/results/home_depot",
        tuple(CROSS % name + " · drawn=4" for name in ("pointwise", "listwise")),
        # The hybrid that they re-rank is in the main table.
        lambda *crosses: max(crosses) > _means(MAIN)[f"{HYBRID} · retriever=finetuned_convex"],
    ),
    Claim(
        "A cross-encoder on top of the hybrid helps, mixed with the hybrid's score",
        MAIN,
        (CROSS % "listwise" + ", interpolated", f"{HYBRID} · retriever=finetuned_convex"),
        lambda cross, hybrid: cross > hybrid,
    ),
    Claim(
        "A cross-encoder is enough trained on judged products (drawn=0) alone",
        "cross_objectives/results/home_depot",
        tuple(CROSS % "listwise" + f" · drawn={n}" for n in (0, 4)),
        lambda judged, drawn: judged >= drawn,
    ),
    Claim(
        "Scores near 1 show that a method solved the task: the judged pool in random order",
        "rerank_judged/results/home_depot.judged",
        ("Random", "ColBERT (MiniLM, InfoNCE)"),
        lambda random, best: random < best / 2,
    ),
    Claim(
        "Lexical retrieval is all you need",
        MAIN,
        ("BM25 (bm25s)", f"{HYBRID} · retriever=finetuned_convex", "ColBERT (MiniLM, InfoNCE)"),
        lambda bm25, *others: bm25 >= max(others),
    ),
    Claim(
        "A hybrid answers in under 50 ms at the 99th percentile, on a CPU",
        "fusion/results/home_depot",
        ("BM25 (Lucene)", "MiniLM zero-shot", HYBRID),
        lambda bm25, dense, hybrid: hybrid < 50,
        metric="p99 ms",
    ),
)


def _means(table: str, metric: str = "nDCG@10") -> dict[str, float]:
    """A published table's means by system."""
    rows = pl.read_csv(HERE / f"{table}.csv", infer_schema_length=None)
    return dict(rows.filter(pl.col("metric") == metric).select("system", "mean").iter_rows())


def page() -> str:
    """The whole page."""
    head = [
        "# Claimed and measured",
        "",
        "Generated by `python experiments/claims.py`: claims in circulation (of public",
        "repositories and tutorials, most without a run behind them) beside rows of our own tables",
        "on Home Depot, whose protocol, gains, seeds and hardware each table says. A claim may",
        "hold elsewhere.",
        "",
        "| claimed | measured | metric | verdict | table |",
        "|:---|:---|:---|:---|:---|",
    ]
    return "\n".join([*head, *(claim.line() for claim in CLAIMS), ""])


if __name__ == "__main__":
    (HERE / "CLAIMS.md").write_text(page(), encoding="utf-8")
