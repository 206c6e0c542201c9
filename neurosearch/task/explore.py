"""To look at: the data's profile, and a tokenizer's tree, usage and map, as pictures and a page."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.store import write_whole
from neurosearch.data.profile import profile
from neurosearch.evaluation.opened import opened
from neurosearch.report import pictures
from neurosearch.report.pages import rendered
from neurosearch.task.base import Job, Task
from neurosearch.task.tokenize import tokenizer_of
from neurosearch.tokenizer.health import health_of

PROJECTIONS = ("pca", "tsne", "umap")
TEMPLATE = Path(pictures.__file__).with_name("explore.html.j2")


@dataclass(frozen=True)
class Explore(Task):
    """Attributes:
    projections: of the map, among pca, tsne, umap.
    sample: products on the map.
    branches: prefixes that the page's tree shows at each node.
    """

    projections: tuple[str, ...] = ("pca", "tsne")
    sample: int = 4000
    branches: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = [name for name in self.projections if name not in PROJECTIONS]
        if self.sample < 5 or self.branches < 1:
            message = f"task.sample={self.sample}, task.branches={self.branches}"
            raise InputError(f"{message}: at least 5 and 1 are needed")
        if unknown or not self.projections:
            raise self.error("projections", f"has {unknown or 'none'}; known are {PROJECTIONS}")

    def run(self, job: Job) -> None:

        folder = job.folder / "explore"
        folder.mkdir(parents=True, exist_ok=True)
        runtime = job.runtime
        facts = profile(opened(runtime.get(job.dataset)))
        files = {"profile.png": pictures.profile_picture(facts)}
        page: dict[str, Any] = {"data": job.data.label(), "profile": facts, "health": None}
        page["title"] = f"{job.data.label()} {job.data.variant()}".strip()
        if job.config.get("tokenizer") is not None:
            page |= self._semantic(job, files)
        write_whole(folder / "profile.json", json.dumps(facts, indent=1).encode())
        for name, content in files.items():
            write_whole(folder / name, content)
        shown = {name: base64.b64encode(content).decode() for name, content in files.items()}
        write_whole(folder / "index.html", rendered(TEMPLATE, **page, pictures=shown).encode())
        runtime.say(f"to look at: {folder / 'index.html'}")

    def _semantic(self, job: Job, files: dict[str, bytes]) -> dict[str, Any]:
        runtime, data = job.runtime, job.dataset
        tokenizer = tokenizer_of(job)
        health = runtime.get(health_of(tokenizer, data))
        ids = runtime.get(tokenizer.semantic_ids(data))
        vectors = runtime.get(tokenizer.encoder.product_embeddings(data)).vectors
        catalogue = runtime.get(data).catalogue
        titles = catalogue.all_texts(("title",))
        if len(ids) < 5:
            raise InputError(f"task=explore: a map needs five products, there are {len(ids)}")
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(ids))[: self.sample])
        with runtime.progressing("projecting", len(self.projections)) as advance:
            points = {}
            for name in self.projections:
                points[name] = project(np.array(vectors[rows]), name, self.seed)
                advance(1)
        files["usage.png"] = pictures.usage_picture(health["levels"])
        files["tree.png"] = pictures.tree_picture(ids)
        sampled = np.array(vectors[rows], np.float32)
        files["scree.png"] = pictures.scree_picture(variances(sampled))
        overlays = {"first code": np.asarray(ids.codes[rows, 0], np.int64)}
        classes = catalogue.all_texts(("category",))
        if any(classes):
            first = [classes[row].split(" > ")[0] for row in rows]
            overlays["class"] = np.unique(first, return_inverse=True)[1].astype(np.int64)
        overlays["distance to the first code's mean"] = spread(sampled, overlays["first code"])
        files["map.png"] = pictures.map_picture(points, overlays)
        return {"health": health, "tree": tree(ids, titles, self.branches)}


def variances(vectors: np.ndarray) -> np.ndarray:
    """Shares of the variance, by principal component.

    Args:
        vectors: N×D float32.

    Returns:
        min(N, D) float64, descending; their sum is one.
    """
    centred = vectors - vectors.mean(axis=0)
    found = np.linalg.svd(centred, compute_uv=False).astype(np.float64) ** 2
    shares: np.ndarray = found / max(found.sum(), 1e-12)
    return shares


def spread(vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Distances to the mean of the vectors with the same code.

    Args:
        vectors: N×D float32.
        codes: N int64.

    Returns:
        N float64.
    """
    known, places = np.unique(codes, return_inverse=True)
    means = np.zeros((len(known), vectors.shape[1]))
    np.add.at(means, places, vectors)
    means /= np.bincount(places)[:, None]
    distances: np.ndarray = np.linalg.norm(vectors - means[places], axis=1)
    return distances


def project(vectors: np.ndarray, name: str, seed: int) -> np.ndarray:
    """N×2 places of N×D vectors. Raises InputError where umap-learn is not installed."""
    if name == "umap":
        try:
            from umap import UMAP
        except ImportError:
            message = "umap needs a package: pip install umap-learn, or task.projections=[pca,tsne]"
            raise InputError(f"task.projections: {message}") from None
        # Its spectral start needs more points than a handful.
        start = "spectral" if len(vectors) > 50 else "random"
        near = min(15, len(vectors) - 1)
        mapper = UMAP(n_neighbors=near, init=start, random_state=seed, n_jobs=1)
        places: np.ndarray = mapper.fit_transform(vectors)
        return places
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if name == "pca":
        points: np.ndarray = PCA(2, random_state=seed).fit_transform(vectors)
        return points
    perplexity = min(30.0, max(1.0, (len(vectors) - 1) / 3))
    mapped: np.ndarray = TSNE(2, perplexity=perplexity, random_state=seed).fit_transform(vectors)
    return mapped


def tree(
    ids: SemanticIds, titles: list[str], branches: int, depth: int = 3
) -> list[dict[str, Any]]:
    """The largest prefixes, nested: `code`, `size`, three example `titles`, `children`."""

    def below(rows: np.ndarray, level: int) -> list[dict[str, Any]]:
        codes, sizes = np.unique(ids.codes[rows, level], return_counts=True)
        nodes = []
        for place in np.argsort(-sizes, kind="stable")[:branches]:
            inside = rows[ids.codes[rows, level] == codes[place]]
            deeper = level + 1 < min(depth, ids.codes.shape[1]) and len(inside) > 1
            step = max(1, len(inside) // 3)
            nodes.append(
                {
                    "code": int(codes[place]),
                    "size": len(inside),
                    "titles": [titles[row] for row in inside[::step][:3]],
                    "children": below(inside, level + 1) if deeper else [],
                }
            )
        return nodes

    return below(np.arange(len(ids)), 0)
