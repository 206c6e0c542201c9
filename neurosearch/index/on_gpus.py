"""FAISS's own indexes on GPUs (Johnson, Douze and Jégou 2017), where FAISS is built for them.

`pip install -e ".[gpu]"` installs FAISS for GPUs in place of the one for CPUs. Flat indexes and
inverted lists of vectors, of half-precision or 8-bit numbers and of product codes can move; a
rotation or a reduction before them stays on the CPU; graphs, one-bit codes, fast scans and
refinements stay where they are. Several GPUs hold a share of the vectors each (shards) or all of
them (replicas, which share the queries). A build of FAISS with cuVS uses cuVS by itself.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from neurosearch.core.errors import first_line
from neurosearch.core.machine import log
from neurosearch.core.runtime import Runtime
from neurosearch.index.parameters import behind_reduction, innermost

LONGEST = 2048  # results of a query that FAISS's kernels can give
TABLE = 48 * 1024  # bytes of a block's shared memory, in which a query's tables must fit


class OnGpus:
    """An index on GPUs. One search at a time: FAISS's GPU memory is not shared by threads.

    Args:
        index: FAISS's, on the CPU; it turns and reduces the queries.
        inner: what holds the vectors, on one or several GPUs.
    """

    def __init__(self, index: Any, inner: Any) -> None:
        self.index, self.inner = index, inner
        self._lock = threading.Lock()

    def search(self, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As FAISS's.

        Args:
            vectors: Q×D float32.
            k: results of each query, at most `LONGEST`.

        Returns:
            Scores and rows, each Q×k.
        """
        _, asked = behind_reduction(self.index, vectors)
        with self._lock:
            scores, rows = self.inner.search(asked, k)
        return scores, rows


def can_move(index: Any) -> bool:
    """Whether FAISS has this kind of index for GPUs.

    Args:
        index: FAISS's, on the CPU.

    Returns:
        False for graphs, one-bit codes, fast scans, refinements and other libraries' indexes.
    """
    import faiss

    if not isinstance(index, faiss.Index):
        return False
    inner = innermost(index)
    kinds = (faiss.IndexIVFFlat, faiss.IndexIVFPQ, faiss.IndexIVFScalarQuantizer)
    return type(inner) in (faiss.IndexFlat, faiss.IndexFlatIP, *kinds)


def moved(index: Any, probes: int | None, runtime: Runtime) -> OnGpus | None:
    """A copy of an index on the runtime's GPUs.

    Args:
        index: FAISS's, on the CPU; it stays as it is.
        probes: lists that a search looks into; None where there are none.
        runtime: `device` and `devices`, and `spread` for more than one.

    Returns:
        None where FAISS sees no GPU, the runtime wants none, or this index can't move.
    """
    import faiss

    if not hasattr(faiss, "get_num_gpus") or not can_move(index):
        return None
    found = faiss.get_num_gpus()
    if not found or runtime.torch_device().type != "cuda":
        return None
    first = runtime.torch_device().index or 0
    places = list(range(first, min(first + runtime.devices, found)))
    options = faiss.GpuMultipleClonerOptions()
    options.shard = runtime.spread == "shards"
    inner = innermost(index)
    if isinstance(inner, faiss.IndexIVFPQ):  # tables of half precision where others do not fit
        options.useFloat16 = inner.pq.M * inner.pq.ksub * 4 > TABLE
    resources = [faiss.StandardGpuResources() for _ in places]
    try:
        copy = faiss.index_cpu_to_gpu_multiple_py(resources, inner, options, places)
    except RuntimeError as error:
        log.warning("the index stays on the CPU: %s", first_line(error))
        return None
    if probes is not None:
        faiss.GpuParameterSpace().set_index_parameter(copy, "nprobe", probes)
    return OnGpus(index, copy)
