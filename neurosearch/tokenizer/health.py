"""Are semantic IDs any good? What every tokenizer is measured by, and a verdict.

Usage says little by itself: an algorithm in circulation clusters centroids in place of
residuals, uses every code of every level and yields K IDs in all. So the verdict also looks at
whether a level tells products apart that the levels before it did not, and at collisions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.types import Catalogue, Dataset
from neurosearch.core.vectors import Embeddings
from neurosearch.tokenizer.base import Quantizer, SemanticTokenizer
from neurosearch.tokenizer.thresholds import Thresholds

NEIGHBOURS, ASKED = 10, 2000
METRICS = (
    *("min_usage", "min_perplexity", "distinct", "collision_rate", "title_collision_rate"),
    *("max_bucket", "expected_bucket", "reconstruction_mse", "neighbour_consistency"),
    *("prefix_purity", "churn", "healthy", "fit_seconds", "assign_seconds", "policy_seconds"),
)
LOWER_IS_BETTER = frozenset(
    {
        *("collision_rate", "title_collision_rate", "max_bucket", "expected_bucket"),
        *("reconstruction_mse", "fit_seconds", "assign_seconds", "policy_seconds"),
    }
)


def health_of(tokenizer: SemanticTokenizer, data: Artifact[Dataset]) -> Artifact[dict[str, Any]]:
    """The health report of the catalogue's IDs (see `health_report`)."""
    embeddings = tokenizer.encoder.product_embeddings(data)
    fitted, ids = tokenizer.fitted(data), tokenizer.semantic_ids(data)
    return Health(
        view.products(data), embeddings, fitted, ids, tokenizer.levels, tokenizer.thresholds
    )


@dataclass(frozen=True)
class Health(Artifact[dict[str, Any]]):
    """health.json; the manifest's `flag` says `collapsed`, which tables print beside the row."""

    kind: ClassVar[str] = "health"
    data: Artifact[Dataset]
    embeddings: Artifact[Embeddings]
    fitted: Artifact[Quantizer]
    ids: Artifact[SemanticIds]
    levels: int
    thresholds: Thresholds

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        catalogue = runtime.get(self.data).catalogue
        report = health_report(
            runtime.get(self.embeddings).vectors,
            runtime.get(self.ids),
            runtime.get(self.fitted),
            catalogue,
            self.levels,
            self.thresholds,
        )
        fitted = runtime.store.manifest(self.fitted)
        assert fitted is not None
        report["summary"]["fit_seconds"] = fitted["seconds"]
        report["summary"]["churn"] = (fitted["details"] or {}).get("churn")
        made = runtime.store.manifest(self.ids)
        assert made is not None
        for name in ("assign seconds", "policy seconds"):
            report["summary"][name.replace(" ", "_")] = made["details"][name]
        (folder / "health.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        return {"flag": "collapsed"} if report["verdict"] == "collapsed" else {}

    def load(self, folder: Path) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((folder / "health.json").read_text("utf-8"))
        return report


def health_report(
    vectors: np.ndarray,
    ids: SemanticIds,
    quantizer: Quantizer,
    catalogue: Catalogue,
    depth: int,
    thresholds: Thresholds,
) -> dict[str, Any]:
    """`levels` (one dict each), `buckets`, `summary` (METRICS), `verdict` and its `reasons`.

    `depth`: levels that tokenizers of this kind may have. Neighbours' consistency is a mean over
    prefixes of 1 to `depth` - 1 codes: whole IDs are left out, since what tells all products
    apart lets none share one. Beyond its end a shallower ID is its own prefix.
    """
    levels = [_level(ids, level) for level in range(ids.codes.shape[1])]
    semantic = levels[: ids.semantic]
    for level, error in enumerate(_errors(vectors, ids, quantizer)):
        semantic[level]["reconstruction_mse"] = error
    for level, share in enumerate(_consistency(vectors, ids)):
        semantic[level]["neighbours_together"] = share
    for level, purity in enumerate(_purity(ids, catalogue)):
        semantic[level]["prefix_purity"] = purity
    together = [level["neighbours_together"] for level in semantic]
    together += together[-1:] * (depth - len(together))
    together = together[: max(1, depth - 1)]
    buckets = np.bincount(ids.keys())
    titles = _titles(catalogue)
    summary = {
        "min_usage": min(x["usage"] for x in semantic),
        "min_perplexity": min(x["perplexity"] for x in semantic),
        "distinct": len(buckets),
        "collision_rate": 1 - len(buckets) / len(ids),
        "title_collision_rate": _title_collisions(ids, titles),
        "max_bucket": int(buckets.max()),
        "expected_bucket": float((buckets.astype(np.float64) ** 2).sum() / len(ids)),
        "reconstruction_mse": semantic[-1].get("reconstruction_mse"),
        "neighbour_consistency": float(np.mean(together)),
        "prefix_purity": semantic[0].get("prefix_purity"),
    }
    alone = 1 - len(np.unique(ids.keys(ids.semantic))) / len(ids)
    reasons = _reasons(semantic, alone, thresholds)
    summary["healthy"] = float(not reasons)
    sizes, counts = np.unique(buckets, return_counts=True)
    return {
        "summary": summary,
        "levels": levels,
        "buckets": {"sizes": sizes.tolist(), "counts": counts.tolist()},
        "verdict": "collapsed" if reasons else "healthy",
        "reasons": reasons,
    }


def _level(ids: SemanticIds, level: int) -> dict[str, Any]:
    counts = np.bincount(ids.codes[:, level], minlength=ids.sizes[level])
    entropy = _entropy(counts)
    # What the code still says once the codes before it are known.
    given = _entropy(np.bincount(ids.keys(level + 1))) - _entropy(np.bincount(ids.keys(level)))
    return {
        "size": ids.sizes[level],
        "usage": float((counts > 0).mean()),
        "entropy": entropy,
        "perplexity": float(2**entropy),
        "perplexity_given_prefix": float(2**given),
        "prefixes": len(np.unique(ids.keys(level + 1))),
        "separation": _separation(ids, level),
        "counts": counts.tolist() if ids.sizes[level] <= 4096 else None,
    }


def _separation(ids: SemanticIds, level: int) -> float | None:
    """Share of the pairs that agree before a level that it parts; None where hardly any agree."""
    before, after = (
        int((np.bincount(ids.keys(count)).astype(np.int64) ** 2).sum()) - len(ids)
        for count in (level, level + 1)
    )
    return 1 - after / before if before > len(ids) / 2 else None


def _entropy(counts: np.ndarray) -> float:
    """Bits."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _errors(vectors: np.ndarray, ids: SemanticIds, quantizer: Quantizer) -> list[float]:
    """Mean squared error of each level's approximation, in chunks of products."""
    totals: list[float] = []
    for start in range(0, len(vectors), 16_384):
        part = np.asarray(vectors[start : start + 16_384])
        codes = np.asarray(ids.codes[start : start + 16_384, : ids.semantic])
        for level, decoded in enumerate(quantizer.decode(codes)):
            if level == len(totals):
                totals.append(0.0)
            totals[level] += float(((part - decoded) ** 2).sum(dtype=np.float64))
    return [total / len(vectors) for total in totals]


def _consistency(vectors: np.ndarray, ids: SemanticIds) -> list[float]:
    """For prefixes of each length, the share of true ten nearest neighbours that have it too."""
    import faiss

    rows = np.random.default_rng(0).permutation(len(vectors))[:ASKED]
    everything = np.ascontiguousarray(vectors, dtype=np.float32)
    index = faiss.IndexFlatIP(everything.shape[1])
    index.add(everything)
    k = min(NEIGHBOURS + 1, len(vectors))
    neighbours = index.search(everything[rows], k)[1]
    # The product itself goes; where twins come first in its place, the last one does.
    is_self = neighbours == rows[:, None]
    is_self[~is_self.any(axis=1), -1] = True
    near = neighbours[~is_self].reshape(len(rows), k - 1)
    shares = []
    for level in range(1, ids.semantic + 1):
        keys = ids.keys(level)
        shares.append(float((keys[near] == keys[rows][:, None]).mean()))
    return shares


def _purity(ids: SemanticIds, catalogue: Catalogue) -> list[float]:
    """Share of products in the majority category of their prefix; none without categories."""
    column = pl.concat([batch["category"] for batch in catalogue.batches(["category"])])
    purities = []
    for level in range(1, ids.semantic + 1):
        frame = pl.DataFrame({"prefix": ids.keys(level), "category": column}).drop_nulls()
        frame = frame.filter(pl.col("category").str.len_chars() > 0)
        if frame.is_empty():
            return []
        counts = frame.group_by("prefix", "category").len()
        majority = counts.group_by("prefix").agg(pl.col("len").max())["len"].sum()
        purities.append(float(majority / frame.height))
    return purities


def _titles(catalogue: Catalogue) -> np.ndarray:
    titles = pl.Series(catalogue.all_texts(("title",)))
    numbers: np.ndarray = titles.rank("dense").to_numpy().astype(np.int64)
    return numbers


def _title_collisions(ids: SemanticIds, titles: np.ndarray) -> float:
    """1 less distinct IDs per distinct title: twins in title may share an ID."""
    _, first = np.unique(titles, return_index=True)
    return float(1 - len(np.unique(ids.keys()[first])) / len(first))


def _reasons(levels: list[dict[str, Any]], collisions: float, thresholds: Thresholds) -> list[str]:
    reasons = []
    for number, level in enumerate(levels, 1):
        if level["usage"] < thresholds.usage:
            reasons.append(f"level {number} uses {level['usage']:.1%} of its codes")
        if level["perplexity"] < thresholds.perplexity * level["size"]:
            reasons.append(f"level {number} has perplexity {level['perplexity']:.1f}")
        if level["separation"] is not None and level["separation"] < thresholds.separation:
            reasons.append(
                f"level {number} tells {level['separation']:.1%} of equal prefixes apart"
            )
    if collisions > thresholds.collisions:
        reasons.append(f"collisions: {collisions:.1%} fewer IDs than products")
    return reasons
