"""Is the index still that of the catalogue and of the encoder, and does it find what is nearest?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.store import read_manifest
from neurosearch.core.types import Catalogue
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.base import LiveEncoder
from neurosearch.index.live import LiveIndex

PROBES = 64  # products that are encoded again
CANARIES = 200  # queries whose nearest products are looked up exactly
SAMPLE = 2_000  # vectors whose spread is measured
PARITY = 0.99  # least cosine of a product's vector with the same encoder's, made again
SHARED = 0.6  # least Jaccard of ten neighbours: ties of equal titles may fall either way


@dataclass(frozen=True)
class Check:
    """What was looked at.

    Attributes:
        name: for the reader.
        value: what was found; NaN where it is no number.
        limit: what is allowed, in words.
        alarm: whether it is past the limit.
        note: more about it.
    """

    name: str
    value: float
    limit: str
    alarm: bool
    note: str = ""


def staleness(served: Path, now: Catalogue, limit: float) -> list[Check]:
    """How far the catalogue has gone from the one that was indexed, by content.

    Args:
        served: products.parquet of what is served.
        now: the catalogue as it is now.
        limit: share of products that may be missing, new or changed together.

    Returns:
        A check of the share.
    """
    columns = list(pl.scan_parquet(now.path, glob=False).collect_schema().names())
    sides = [_hashes(path, columns) for path in (served, now.path)]
    both = sides[0].join(sides[1], on="product_id", suffix="_now")
    changed = both.filter(pl.col("hash") != pl.col("hash_now")).height
    gone, new = (side.height - both.height for side in sides)
    share = (gone + new + changed) / max(1, sides[1].height)
    note = f"{new:,} new, {gone:,} gone, {changed:,} changed of {sides[1].height:,} products"
    name = "index: products that differ from the catalogue"
    return [Check(name, share, f"at most {limit:.1%}", share > limit, note)]


def _hashes(path: Path, columns: list[str]) -> pl.DataFrame:
    there = pl.scan_parquet(path, glob=False).collect_schema().names()
    lazy = pl.scan_parquet(path, glob=False)
    missing = [pl.lit(None).alias(name) for name in columns if name not in there]
    frame = lazy.with_columns(missing).select(columns).collect()
    return frame.select("product_id").with_columns(hash=frame.hash_rows(seed=0))


@dataclass(frozen=True)
class ServedIndex:
    """A FAISS index that is served, and the vectors it was built of."""

    live: LiveIndex
    embeddings: Embeddings


def served_index(artifacts: Path, address: str, load: Any) -> ServedIndex:
    """Read an index of the store, and its vectors.

    Args:
        artifacts: the store's folder.
        address: `index/<fingerprint>`.
        load: reads an index's folder.

    Returns:
        Both.

    Raises:
        InputError: the vectors were pruned.
    """
    folder = artifacts / address
    manifest = read_manifest(folder)
    inputs = [] if manifest is None else manifest["inputs"]
    for kind, fingerprint in inputs:
        if kind == "embeddings" and (artifacts / kind / fingerprint).is_dir():
            return ServedIndex(load(folder), Embeddings.load(artifacts / kind / fingerprint))
    raise InputError(f"{folder}: the vectors it was built of are not there any more")


def encoder_checks(
    served: ServedIndex, identity: str, live: LiveEncoder, texts: list[str]
) -> list[Check]:
    """Whether the encoder of now is the one whose vectors are indexed.

    Args:
        served: the index.
        identity: of the encoder as it is configured and lies on disk now.
        live: the same, loaded.
        texts: of the indexed products, by row.

    Returns:
        Checks of its identity, and of vectors that are made again.
    """
    same = served.embeddings.encoder == identity
    about = "" if same else f"indexed {served.embeddings.encoder[:8]}, now {identity[:8]}"
    checks = [Check("encoder: the one that is indexed", float(same), "the same", not same, about)]
    rows = np.linspace(0, len(texts) - 1, min(PROBES, len(texts))).astype(int)
    again = live.for_products().encode([texts[row] for row in rows])
    before = np.asarray(served.embeddings.vectors[rows], dtype=np.float32)
    name, limit = "encoder: least cosine of products encoded again", f"at least {PARITY}"
    if again.shape != before.shape:
        note = f"{again.shape[1]} dimensions, {before.shape[1]} are indexed"
        return [*checks, Check(name, float("nan"), limit, True, note)]
    norms = np.linalg.norm(again, axis=1) * np.linalg.norm(before, axis=1)
    cosines = (again * before).sum(axis=1) / np.maximum(norms, 1e-12)
    least = float(cosines[norms > 0].min(initial=1.0))
    checks.append(Check(name, least, limit, least < PARITY, f"{len(rows)} products"))
    shared = neighbours_kept(np.asarray(served.embeddings.vectors, np.float32), before, again)
    name, limit = "encoder: least Jaccard@10 of their neighbours", f"at least {SHARED}"
    note = f"mean {shared.mean():.3f}"
    least = float(shared.min())
    return [*checks, Check(name, least, limit, least < SHARED, note)]


def neighbours_kept(vectors: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How many of a probe's ten nearest products are the same by its old and its new vector.

    Args:
        vectors: N×D of the products.
        before, after: P×D of the probes.

    Returns:
        P Jaccard similarities.
    """
    k = min(10, len(vectors))
    sides = [np.argpartition(-(side @ vectors.T), k - 1, axis=1)[:, :k] for side in (before, after)]
    pairs = [(set(a), set(b)) for a, b in zip(sides[0].tolist(), sides[1].tolist(), strict=True)]
    return np.array([len(a & b) / len(a | b) for a, b in pairs])


def age(artifacts: Path, addresses: list[str], now: float) -> Check:
    """Days since the last of the served artifacts was built.

    Args:
        artifacts: the store's folder.
        addresses: of the artifacts.
        now: seconds since 1970.

    Returns:
        A check without a limit.
    """
    manifests = [read_manifest(artifacts / address) for address in addresses]
    times = [datetime.fromisoformat(one["created"]).timestamp() for one in manifests if one]
    days = (now - max(times)) / 86_400 if times else float("nan")
    return Check("index: age in days", days, "", False, f"{len(times)} artifacts")


def recall(served: ServedIndex, queries: np.ndarray, limit: float) -> Check:
    """How many of the ten nearest products an approximate index finds.

    Args:
        served: the index and its vectors.
        queries: Q×D of canary queries.
        limit: least share.

    Returns:
        A check.
    """
    vectors = np.asarray(served.embeddings.vectors, dtype=np.float32)
    k = min(10, len(vectors))
    exact = np.argpartition(-(queries @ vectors.T), k - 1, axis=1)[:, :k]
    found, _ = served.live.search(Embeddings(queries, served.live.encoder), k)
    hits = [len(set(a) & set(b)) for a, b in zip(exact.tolist(), found.tolist(), strict=True)]
    share = float(np.mean(hits)) / k
    note = f"{len(queries)} queries against exact search"
    return Check("index: recall@10 of canaries", share, f"at least {limit}", share < limit, note)


def spread(vectors: np.ndarray, rng: np.random.Generator) -> list[Check]:
    """How the vectors use their space; nothing alarms.

    Args:
        vectors: N×D of the products.
        rng: of the sample.

    Returns:
        Mean cosine of pairs (0 is best; near 1 the space has collapsed), effective rank (Roy and
        Vetterli 2007), uniformity (Wang and Isola 2020; lower is more even).
    """
    rows = np.sort(rng.permutation(len(vectors))[:SAMPLE])
    sample = np.asarray(vectors[rows], dtype=np.float64)
    sample /= np.maximum(np.linalg.norm(sample, axis=1, keepdims=True), 1e-12)
    cosines = sample @ sample.T
    pairs = cosines[np.triu_indices(len(sample), 1)]
    energy = np.linalg.svd(sample, compute_uv=False)
    shares = energy / energy.sum()
    rank = float(np.exp(-(shares * np.log(np.maximum(shares, 1e-300))).sum()))
    even = float(np.log(np.exp(-2 * (2 - 2 * pairs)).mean()))
    note = f"{len(sample):,} products"
    return [
        Check("vectors: mean cosine of pairs", float(pairs.mean()), "", False, note),
        Check("vectors: effective rank", rank, "", False, f"of {sample.shape[1]} dimensions"),
        Check("vectors: uniformity", even, "", False, note),
    ]


def latency(reference: pl.DataFrame, window: pl.DataFrame, factor: float) -> list[Check]:
    """The window's 99th percentile against the reference's, of answers that were searched.

    Args:
        reference, window: one row a query.
        factor: that is allowed.

    Returns:
        A check, or none where the reference was not logged by a server.
    """
    pair = [side["ms"].drop_nulls().to_numpy() for side in (reference, window)]
    if min(map(len, pair)) < 20:
        return []
    before, now = (float(np.percentile(side, 99)) for side in pair)
    note = f"{before:.1f} ms before"
    name = "latency: 99th percentile of the stages, ms"
    return [Check(name, now, f"at most {factor:g} times", now > factor * before, note)]


def errors(metrics: str, limit: float) -> list[Check]:
    """The share of a server's answers that were its own failures, of all since it started.

    Args:
        metrics: the page that Prometheus reads.
        limit: share that is allowed.

    Returns:
        A check, or none where nothing was asked.
    """
    total = failed = 0.0
    for line in metrics.splitlines():
        if not line.startswith("http_server_request_duration_seconds_count{"):
            continue
        labels, _, value = line.rpartition(" ")
        if "/v1/" not in labels:
            continue
        total += float(value)
        failed += float(value) * ('status_code="5' in labels)
    if not total:
        return []
    share = failed / total
    note = f"of {total:,.0f} requests since the server's start"
    return [Check("answers: 5xx", share, f"at most {limit:.1%}", share > limit, note)]


def record_of(path: Path) -> dict[str, Any]:
    """What a server says of itself (`serving.server.keep`).

    Args:
        path: record.json.

    Returns:
        The record.

    Raises:
        InputError: it can't be read.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record["systems"], dict):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} is no record of a server") from None
    return record
