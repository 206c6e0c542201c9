"""k-means, plain (FAISS) or balanced: clusters of about equal size, so that no code starves."""

from __future__ import annotations

import numpy as np

from neurosearch.collisions.base import place

SLACK = 1.1  # of a balanced cluster's size


def kmeans(
    points: np.ndarray, clusters: int, iterations: int, seed: int, balanced: bool = False
) -> np.ndarray:
    """Lloyd's k-means on FAISS.

    Args:
        points: N×D, N at least `clusters`.
        balanced: clusters of about equal size.

    Returns:
        K×D float32 centroids.
    """
    import faiss
    import torch

    dimensions = points.shape[1]
    fitted = faiss.Kmeans(
        dimensions,
        clusters,
        niter=iterations,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    fitted.train(points)
    centroids = np.array(fitted.centroids)
    for _ in range(iterations // 2 if balanced else 0):
        labels = balanced_labels(points, centroids)
        sums = torch.zeros(clusters, dimensions, dtype=torch.float64)
        sums.index_add_(0, torch.from_numpy(labels), torch.from_numpy(points).double())
        totals = sums.numpy()
        counts = np.bincount(labels, minlength=clusters)
        used = counts > 0
        centroids[used] = (totals[used] / counts[used, None]).astype(np.float32)
    return centroids


def balanced_labels(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """N int32: the nearest centroid that has room for the point, nearest points first."""
    import torch

    costs = torch.cdist(torch.from_numpy(points), torch.from_numpy(centroids)).numpy()
    capacity = int(np.ceil(SLACK * len(points) / len(centroids)))
    return place(np.zeros(len(points), dtype=np.int64), costs, capacity)
