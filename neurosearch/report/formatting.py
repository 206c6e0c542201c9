"""What every form of a table says: number formats, column captions, the note beneath."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from neurosearch.core.retrieval import SCORED
from neurosearch.detector import power
from neurosearch.evaluation.base import HEADLINE
from neurosearch.evaluation.filled import BY_MODEL
from neurosearch.evaluation.holes import RESIDUAL
from neurosearch.evaluation.labels import ECE
from neurosearch.evaluation.latency import METRICS as LATENCY
from neurosearch.evaluation.ties import BEST, WORST
from neurosearch.report.aggregation import Row
from neurosearch.report.table import UNTESTED, Table
from neurosearch.reranker.judgedness import AUC
from neurosearch.retriever.dense import EXACT
from neurosearch.retriever.engine import SAME
from neurosearch.retriever.relaxed import NOTHING, STAGE
from neurosearch.retriever.sparse import READ
from neurosearch.tokenizer import health

# What retrievers report of themselves, query by query.
DIAGNOSED = (SCORED, *EXACT, *SAME, *READ, NOTHING, STAGE, BY_MODEL)
LOWER_IS_BETTER = health.LOWER_IS_BETTER | {
    *("p50 ms", "p95 ms", "p99 ms", "index MB", "bytes/product", "build s", SCORED, NOTHING),
    *(f"CE@{level}" for level in range(1, 33)),
    *READ,
    *(power.QUIET, power.SINGLE, *power.BOUNDS, "compare ms", AUC, RESIDUAL, ECE),
}


def number(metric: str, value: float) -> str:
    """`.366` for shares, as papers print them; one to three digits for costs."""
    if math.isnan(value):
        return ""
    if metric in ("distinct", "max_bucket"):
        return f"{value:,.0f}"
    if (
        metric in LATENCY
        or metric in DIAGNOSED
        or metric in power.METRICS
        or metric.endswith("_seconds")
        or metric == "min_perplexity"
    ):
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def shown(table: Table, columns: Sequence[str]) -> list[str]:
    """The columns that some row has; where none has any, all that the rows have."""
    there = list(dict.fromkeys(name for row in table.rows for name in row.cells))
    return [name for name in columns if name in there] or there


def mark(row: Row, metric: str) -> str:
    """† above, ‡ below the baseline, where the difference is significant."""
    cell = row.cells[metric]
    if not cell.significant:
        return ""
    return "†" if cell.effect > 0 else "‡"


def value(row: Row, metric: str) -> str:
    """The mean, with ± the standard deviation over seeds where there are several."""
    cell = row.cells[metric]
    text = number(metric, cell.mean)
    return text if math.isnan(cell.sd_seeds) else f"{text} ± {number(metric, cell.sd_seeds)}"


def interval(row: Row, metric: str) -> str:
    """`[.351, .381]`, or '' where there is none."""
    cell = row.cells[metric]
    if math.isnan(cell.low):
        return ""
    return f"[{number(metric, cell.low)}, {number(metric, cell.high)}]"


def places(table: Table, metric: str) -> tuple[set[str], set[str]]:
    """The best and the second-best systems, ties of the printed number included."""
    ranked = table.ranked(metric, metric in LOWER_IS_BETTER)
    printed = {
        r.system: number(metric, r.cells[metric].mean) for r in table.rows if metric in r.cells
    }
    values = list(dict.fromkeys(printed[name] for name in ranked))
    best = {name for name in ranked if values and printed[name] == values[0]}
    second = {name for name in ranked if len(values) > 1 and printed[name] == values[1]}
    return best, second


def _tests(table: Table) -> str:
    if not table.has_baseline:
        return "Nothing was tested: no row but random and oracle."
    if sum(not (row.failed or row.is_reference) for row in table.rows) < 2:
        return "Nothing was tested: the table has one system."
    seeds = any(row.seeds > 1 for row in table.rows)
    message = (
        f"† above, ‡ below {table.baseline}: paired randomisation test "
        f"({table.resamples:,} permutations){SEEDED if seeds else ''}, Holm-corrected over the "
        "systems of the table, p < .05. Reference rows (random, oracle) are not ranked or tested."
    )
    if not table.as_wanted:
        message += f" (No row is the baseline {table.wanted!r}: the first one stands in for it.)"
    return message


SEEDED = (
    "; for rows of several seeds a bootstrap over queries crossed with Student's t over the seeds"
)
TIES_MATTER = 0.002  # of nDCG@10


def _ties(table: Table) -> list[str]:
    """What the order of equal scores could change, where that is more than a little."""
    rule = "Ties: trec_eval's order (descending product ids)."
    if table.ties == "expected":
        rule = "Ties: every metric is its mean over all orders of equal scores."
    moved = []
    for row in table.rows:
        if {WORST, BEST} <= set(row.cells) and not row.is_reference:
            low, high = row.cells[WORST].mean, row.cells[BEST].mean
            if high - low > TIES_MATTER:
                moved.append(f"{row.system} ({number(HEADLINE, low)} to {number(HEADLINE, high)})")
    if not moved:
        return [rule]
    return [f"{rule} Other orders could move nDCG@10 of {'; '.join(moved)}."]


def commits_of(rows: Iterable[Row]) -> list[str]:
    """The commits of rows, whose jobs may be of several, each named once.

    Args:
        rows: of one table or of several.

    Returns:
        Sorted; none where none is known.
    """
    return sorted({commit for row in rows for commit in row.commit.split(", ") if commit})


def note(table: Table) -> list[str]:
    """Data, protocol, statistics, hardware: what a reader needs to trust the numbers."""
    done = [row for row in table.rows if not row.failed]
    seeds = sorted({row.seeds for row in done})
    hardware = sorted({row.hardware for row in done})
    commits = commits_of(done)
    made = f"Hardware: {'; '.join(hardware)}. Commit: {', '.join(commits) or 'unknown'}."
    if any(commit.endswith("+") for commit in commits):
        made += " +: with changes or files that are in no commit."
    if table.precision:
        made += f" Precision of networks: {table.precision}."
    data = f"{table.data} (simulated)" if table.simulated else table.data
    data += f" with {table.variant}" if table.variant else ""
    seeded = f"Seeds: {', '.join(map(str, seeds))} a row."
    if table.protocol in UNTESTED:
        lines = [f"Data: {data}. {seeded} ± standard deviation over seeds.", made]
    else:
        answered = {row.cells["Recall@10"].queries for row in done if "Recall@10" in row.cells}
        relevant = " or ".join(f"{n:,}" for n in answered)
        gain = f"{table.gain} ({table.gain_words})" if table.gain_words else table.gain
        over = "queries and seeds" if max(seeds, default=1) > 1 else "queries"
        condensed = any("condensed nDCG@10" in row.cells for row in done) and table.depth > 0
        of = f" Condensed: of the judged among the first {table.depth:,}." if condensed else ""
        lines = [
            f"Data: {data}, {table.split} split, {done[0].queries if done else 0:,} queries. "
            f"Protocol: {table.protocol}. Gain: {gain}. Binary metrics (Recall, MRR, MAP, P, "
            f"Hits) over the {relevant} queries that have a relevant product.{of}",
            f"{seeded} Intervals: 95 %, bootstrap over {over} ({table.resamples:,} resamples).",
            _tests(table),
            *_ties(table),
            made,
        ]
    lines += _chosen(done)
    if table.command:
        lines.append(f"Command: {table.command}")
    if table.simulated:
        lines.insert(0, "SIMULATED DATA: these numbers say nothing about real shops.")
    if table.split == "dev":
        lines.append(
            "Scored on dev: rows tuned on dev are scored on the queries that they were tuned on."
        )
    holes = [row for row in table.rows if row.failed]
    pruned = sum(row.pruned for row in holes)
    if len(holes) > pruned:
        lines.append(f"{len(holes) - pruned} job(s) failed; their rows are empty.")
    if pruned:
        lines.append(
            f"{pruned} training(s) were stopped early by the search: behind earlier trials."
        )
    return lines


def _chosen(rows: Sequence[Row]) -> list[str]:
    """What tuning chose on dev, a phrase a row."""
    message = [f"{row.system}: {chosen_text(row)}" for row in rows if row.chosen]
    return [f"Chosen on dev. {'. '.join(message)}."] if message else []


def chosen_text(row: Row) -> str:
    """Such as `k1 0.6, b 0.4`; of several tunings each after its name."""
    parts = []
    for name, values in row.chosen.items():
        message = ", ".join(f"{key} {_plain(value)}" for key, value in values.items())
        parts.append(message if len(row.chosen) == 1 else f"{name}: {message}")
    return "; ".join(parts)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_plain(part)}" for key, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
