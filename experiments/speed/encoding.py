"""Encoding products per second, beside sentence-transformers' `encode`, in one run.

The same weights, texts (titles of the catalogue), precision and truncation. Ours streams shards
as building embeddings does, theirs is one call; in turn, A B A B, medians; results as CSV in
results/encoding.csv.

    python experiments/speed/encoding.py data=home_depot        # NEUROSEARCH_DATA is set
"""

from __future__ import annotations

import csv
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.runtime import Runtime
from neurosearch.core.shards import SHARD
from neurosearch.encoder.sentence import Sentence
from neurosearch.nn.pretrained import local_folder
from neurosearch.task.base import build

SAMPLE = {"cpu": 4000, "cuda": 1_000_000}  # texts at most
ROUNDS = 3
COLUMNS = ["benchmark", "case", "ours", "peer", "peer_value", "unit", "ratio", "hardware", "commit"]


@dataclass
class Row:
    """A line of a CSV of results."""

    benchmark: str
    case: str
    ours: float
    peer: str
    peer_value: float
    unit: str


def write(name: str, rows: list[Row]) -> None:
    """The rows as results/`name`, after those of other cases or hardware that are there."""
    path = Path(__file__).parent / "results" / name
    path.parent.mkdir(exist_ok=True)
    kept = []
    if path.exists():
        with path.open(newline="") as handle:
            measured = {(row.benchmark, row.case, row.peer, hardware()) for row in rows}
            keys = ("benchmark", "case", "peer", "hardware")
            kept = [
                line
                for line in csv.DictReader(handle)
                if tuple(line[key] for key in keys) not in measured
            ]
    with path.open("w", newline="") as handle:
        table = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(kept)
        for row in rows:
            figures = {"ours": round(row.ours, 2), "peer_value": round(row.peer_value, 2)}
            where = {"hardware": hardware(), "commit": git_commit()}
            ratio = round(row.ours / row.peer_value, 2)
            table.writerow({**vars(row), **figures, "ratio": ratio, **where})


def case_of(data: Any, precision: str, runtime: Runtime) -> str:
    """Data, precision and device."""
    return f"{data.label()} titles, {precision}, {runtime.torch_device().type}"


def rate(encode: Callable[[], object], count: int) -> float:
    """Texts per second of one call."""
    start = time.perf_counter()
    encode()
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measure the cases and write the CSV."""
    from sentence_transformers import SentenceTransformer

    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", overrides=sys.argv[1:])
    runtime, data = build(config, "runtime"), build(config, "data")
    catalogue = runtime.get(data.dataset()).catalogue
    texts = [text for batch in catalogue.texts(("title",)) for text in batch]
    device = runtime.torch_device()
    sample = SAMPLE[device.type]
    texts = texts[:: max(1, len(texts) // sample)][:sample]
    ours = Sentence(precision=config.precision).live(runtime)
    theirs = SentenceTransformer(str(local_folder(Sentence().model)), device=str(device))
    if config.precision == "bf16":
        theirs.bfloat16()

    def stream() -> None:
        by_length = sorted(texts, key=len, reverse=True)
        shards = (by_length[start : start + SHARD] for start in range(0, len(texts), SHARD))
        assert sum(map(len, ours.stream(shards))) == len(texts)

    rows = []
    for size in (32, 256):
        values: dict[str, list[float]] = {"ours": [], "theirs": []}
        ours.encode(texts[:256])
        theirs.encode(texts[:256], batch_size=size)
        for _ in range(ROUNDS):
            values["ours"].append(rate(stream, len(texts)))
            peer = rate(lambda size=size: theirs.encode(texts, batch_size=size), len(texts))
            values["theirs"].append(peer)
        mine, peer = (statistics.median(values[name]) for name in ("ours", "theirs"))
        case = f"{case_of(data, config.precision, runtime)}, peer batch {size}"
        peer_name = "sentence-transformers encode"
        rows.append(Row("encoding", case, mine, peer_name, peer, "texts/s"))
        print(rows[-1])
    write("encoding.csv", rows)


if __name__ == "__main__":
    main()
