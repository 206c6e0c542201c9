"""A job's judgments and results in the formats that other evaluators read.

`qrels.trec` beside `run.trec` is what trec_eval, ranx and ir-measures take; `mteb.json` has the
shape of a result of MTEB (Muennighoff et al. 2023), with its names of metrics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from neurosearch.core.run import without_blanks
from neurosearch.core.store import write_whole

THOUSANDTHS = 1000  # of a gain: qrels hold whole numbers, and nDCG has no unit
_MTEB = {"nDCG": "ndcg", "Recall": "recall", "MRR": "mrr", "P": "precision", "Hits": "hit_rate"}
MAIN = "nDCG@10"


def save_qrels(judged: pl.DataFrame, path: Path) -> None:
    """Write judgments as TREC qrels: `qid 0 docid gain`, the gain in thousandths.

    Args:
        judged: `query_id`, `product_id`, `gain`. Ids are encoded as in run files.
    """
    gains = (pl.col("gain") * THOUSANDTHS).round().cast(pl.Int64)
    columns = [without_blanks("query_id"), pl.lit(0).alias("0"), without_blanks("product_id")]
    frame = judged.select(*columns, gains)
    write_whole(
        path, frame.write_csv(separator=" ", include_header=False, quote_style="never").encode()
    )


def save_mteb(
    means: Mapping[str, float], data: str, revision: str, split: str, seconds: float, path: Path
) -> None:
    """Write means of metrics as MTEB writes the result of a task.

    Args:
        means: by NeuroSearch's names, such as `nDCG@10`.
        data: the data set's name.
        revision: what identifies its queries, products and judgments.
        seconds: that the evaluation took.
    """
    scores: dict[str, object] = {}
    for name, value in means.items():
        match = re.fullmatch(r"(\w+)@(\d+)", name)
        if match and match[1] in _MTEB:
            scores[f"{_MTEB[match[1]]}_at_{match[2]}"] = value
    scores |= {"main_score": means.get(MAIN), "hf_subset": "default", "languages": ["und"]}
    result = {
        "dataset_revision": revision,
        "task_name": data,
        "mteb_version": "written by NeuroSearch",
        "scores": {split: [scores]},
        "evaluation_time": seconds,
        "kg_co2_emissions": None,
    }
    write_whole(path, json.dumps(result, indent=1).encode())
