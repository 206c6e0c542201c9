"""How many planted errors spelling correction finds, and how many of its corrections are right.

One error of a kind, as in the table, in each clean test query: one that the correction leaves as it
is. A query is found where it is changed, and right where its stems are those from before the error.
Results as CSV in results/<data>.corrections.csv.

    python experiments/typos/corrections.py data=home_depot     # NEUROSEARCH_DATA is set
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

from hydra import compose, initialize_config_module

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.machine import git_commit, hardware
from neurosearch.query.typos import KINDS, Typos
from neurosearch.task.base import build


def main() -> None:
    """Measure the four kinds, and write the CSV."""
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", ["query=spelling", *sys.argv[1:]])
    runtime, data, spelling = (build(config, role) for role in ("runtime", "data", "query"))
    bound = data.bound(runtime)
    reader = spelling.fitted(bound).reader(runtime)
    tokens = spelling.analyzer.tokenizer()
    queries = runtime.get(bound).queries("test").texts
    typed = [b for b, a in zip(queries, reader.texts(queries), strict=True) if a == b]
    rows = []
    for kind in KINDS:
        planted = Typos(kind=kind).process(typed)
        wrong = [
            (before, after) for before, after in zip(typed, planted, strict=True) if before != after
        ]
        start = time.perf_counter()
        fixed = reader.texts([after for _, after in wrong])
        each = (time.perf_counter() - start) / len(wrong)
        found = [(b, f) for (b, a), f in zip(wrong, fixed, strict=True) if f != a]
        right = sum(tokens.tokens(before) == tokens.tokens(after) for before, after in found)
        share = {"precision": right / len(found), "recall": right / len(wrong)}
        counts = {"errors": len(wrong), "found": len(found), "right": right}
        rounded = {name: round(value, 3) for name, value in share.items()}
        extra = {"microseconds a query": round(1e6 * each), "clean queries": len(typed)}
        where = {"queries": len(queries), "hardware": hardware(), "commit": git_commit()}
        rows.append({"kind": kind, **counts, **rounded, **extra, **where})
        print(rows[-1])
    path = Path(__file__).parent / "results" / f"{data.label()}.corrections.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
