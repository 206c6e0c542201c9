"""Exact search on the runtime's devices, in torch: `flat` where there is a GPU, or several.

The file is `flat`'s. `runtime.devices` GPUs hold a share of the vectors each and give the rows that
one gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurosearch.core.runtime import Runtime
from neurosearch.index.flat import Flat
from neurosearch.index.live import LiveIndex
from neurosearch.index.parameters import behind_reduction


@dataclass(frozen=True)
class LiveGpuFlat(LiveIndex):
    """As loaded, and after `on` with the vectors on devices."""

    search_on_devices: Any = field(default=None, compare=False)

    def on(self, runtime: Runtime) -> LiveIndex:
        from neurosearch.nn.exact_search import ExactSearch

        inner, _ = behind_reduction(self.index, np.empty((0, self.index.d), np.float32))
        held = ExactSearch(_vectors(inner), runtime.torch_devices())
        return replace(self, search_on_devices=held)

    def nearest(
        self, vectors: np.ndarray, k: int, subset: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.search_on_devices is None or subset is not None:
            return super().nearest(vectors, k, subset)
        _, asked = behind_reduction(self.index, vectors)
        found: tuple[np.ndarray, np.ndarray] = self.search_on_devices.search(asked, k)
        return found


@dataclass(frozen=True)
class GpuFlat(Flat):
    def live(self, index: Any, encoder: str, rows: np.ndarray | None = None) -> LiveIndex:
        return LiveGpuFlat(index, encoder, self, rows)


def _vectors(index: Any) -> np.ndarray:
    """The N×D float32 vectors of a FAISS flat index, where they lie."""
    import faiss

    held: np.ndarray = faiss.rev_swig_ptr(index.get_xb(), index.ntotal * index.d)
    return held.reshape(index.ntotal, index.d)
