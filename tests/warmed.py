"""What the fork server of `tests.commands` does once, so that no command of a test does it again.

A user's process spends these seconds itself: imports, the compiled functions of ranx, the script
of the charts, and reading the code that fingerprints are made of.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet  # noqa: F401
import sentence_transformers  # noqa: F401
from numba.typed import List

import neurosearch
import neurosearch.nn.text_encoder
import neurosearch.report.paper
from neurosearch.core.definitions import definition, parsed
from neurosearch.evaluation import metrics
from neurosearch.report.charts import library


def read_code() -> None:
    """Normalise every definition of the package."""
    root = Path(neurosearch.__file__).parent
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        source = parsed(module)
        for name in source.definitions if source else ():
            definition(module, name)


library()
read_code()
pairs = List([np.array([[0.0, 1.0]])])
for metric in ("ndcg@10", "ndcg", "recall@10", "mrr@10", "precision@10"):
    metrics._evaluate(pairs, pairs, metric)
