"""Encoding products per second, beside sentence-transformers' `encode`, in one run.

The same weights, texts (a sample of the catalogue's titles), precision and truncation. Ours
and theirs in turn, A B A B, medians; results as CSV in results/encoding.csv.

    python experiments/speed/encoding.py data=home_depot        # NEUROSEARCH_DATA is set
"""

from __future__ import annotations

import csv
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hydra import compose, initialize_config_module

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.encoder.transformer import SentenceEncoder
from neurosearch.encoder.weights import local_folder
from neurosearch.runtime import git_commit, hardware
from neurosearch.task.base import build

SAMPLE = 4000
ROUNDS = 3
COLUMNS = ["benchmark", "case", "ours", "peer", "peer_value", "unit", "ratio", "hardware", "commit"]


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
    runtime, data = build(config, "trainer"), build(config, "data")
    catalogue = runtime.get(data.dataset()).catalogue
    texts = [text for batch in catalogue.texts(("title",)) for text in batch]
    texts = texts[:: max(1, len(texts) // SAMPLE)][:SAMPLE]
    device = runtime.torch_device()
    ours = SentenceEncoder().live(runtime)
    theirs = SentenceTransformer(str(local_folder(SentenceEncoder().model)), device=str(device))
    theirs.max_seq_length = SentenceEncoder().max_length
    if runtime.half(device):
        theirs.half() if device.type == "cuda" else theirs.bfloat16()
    rows = []
    for size in (32, 256):
        values: dict[str, list[float]] = {"ours": [], "theirs": []}
        ours.encode(texts[:256])
        theirs.encode(texts[:256], batch_size=size)
        for _ in range(ROUNDS):
            values["ours"].append(rate(lambda: ours.encode(texts), len(texts)))
            peer = rate(lambda size=size: theirs.encode(texts, batch_size=size), len(texts))
            values["theirs"].append(peer)
        mine, peer = (statistics.median(values[name]) for name in ("ours", "theirs"))
        case = f"{data.label()} titles, {'bf16' if runtime.half(device) else 'fp32'}, {device.type}"
        names = (f"{case}, peer batch {size}", round(mine, 1), "sentence-transformers encode")
        facts = (round(peer, 1), "texts/s", round(mine / peer, 2), hardware(), git_commit())
        rows.append(("encoding", *names, *facts))
        print(dict(zip(COLUMNS, rows[-1], strict=True)))
    path = Path(__file__).parent / "results" / "encoding.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()
