"""Offline difference, interleaving preference and A/B effect of the same pairs of systems.

Run: python experiments/online_agreement/online_agreement.py   (writes results/)
     with a number of users, and overrides of the data: … 20000 data.n_products=5000
     Five of the systems are trained: minutes on a GPU, hours on two cores.

The ten systems of `experiment=main` (or, with `systems=light`, ten that train nothing), 45 pairs,
four models of simulated users on the simulated shop, whose every pair of
query and product has a grade (`data.truth`). For each pair: the gap of nDCG@10 on pooled judgments
and under the truth, the gap of expected clicks in closed form, the A/B effect (clicks an
impression; users are assigned, errors by the delta method), the preference of interleaved lists,
and how many impressions each of the two needs for 80 % power. The same users ask the same queries
in all trials.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.machine import git_commit, hardware
from neurosearch.data.shop import Shop
from neurosearch.data.truth import Truth
from neurosearch.evaluation.holm import holm
from neurosearch.interleaving.team_draft import TeamDraft
from neurosearch.task.base import Job
from neurosearch.task.jobs import job_of
from neurosearch.trial.effect import Effect, of_ratios, separation
from neurosearch.trial.simulated import Population, preference, shown_alone, shown_mixed
from neurosearch.users.base import Users
from neurosearch.users.kinds import KINDS

SHOP = ["data=shop", "data.n_products=20000", "data.n_queries=2000", "data.images=false"]
WORDS = "engine=bm25s"  # one BM25 in all systems, which needs no Java where they are trained
SYSTEMS = {  # the rows of experiment=main
    "BM25": ["retriever=bm25", f"retriever.{WORDS}"],
    "MiniLM": ["retriever=dense"],
    "MiniLM fine-tuned": ["retriever=dense/finetuned"],
    "ColBERT": ["retriever=late_interaction"],
    "generative": ["retriever=generative/finetuned"],
    "generative + cosine": ["retriever=generative/cosine"],
    "hybrid": ["retriever=hybrid/finetuned_convex", f"retriever.members.sparse.{WORDS}"],
    "hybrid of three": ["retriever=hybrid/three", f"retriever.members.sparse.{WORDS}"],
    "cross-encoder": ["retriever=reranked", f"retriever.retriever.members.sparse.{WORDS}"],
    "LambdaMART": ["retriever=reranked/lambdamart", f"retriever.retriever.members.sparse.{WORDS}"],
}
LIGHT = {
    "BM25": ["retriever=bm25"],
    "BM25 tuned": ["retriever=bm25_tuned"],
    "BM25 + feedback": ["retriever=feedback"],
    "MiniLM": ["retriever=dense"],
    "hashing": ["retriever=dense", "encoder@retriever.encoder=hashing"],
    "multiphase": ["retriever=multiphase"],
    "hybrid RRF": ["retriever=hybrid"],
    "hybrid convex": ["retriever=hybrid/convex"],
    "words re-ranked": ["retriever=reranked/words", "retriever@retriever.retriever=bm25"],
    "LambdaMART": [
        "retriever=reranked",
        "reranker@retriever.reranker=lambdamart",
        "retriever@retriever.retriever=hybrid",
    ],
}
GAINS = np.array([0.0, 0.01, 0.1, 1.0, 0.0])  # I, C, S, E, no product
K, USERS, POWER = 10, 20_000, separation() ** 2
RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class System:
    """Attributes:
    lists: Q×K product rows, -1 padded.
    pooled, judged: Q float64, nDCG@10 and judged@10 on pooled judgments.
    """

    lists: np.ndarray
    pooled: np.ndarray
    judged: np.ndarray


def system_of(job: Job, ids: list[str]) -> System:
    """Lists and pooled metrics of a system, in the order of the queries."""
    runtime = job.runtime
    catalogue = runtime.get(job.dataset).catalogue
    rows = dict(zip(catalogue.ids.to_list(), range(len(catalogue)), strict=True))
    run = runtime.get(job.retriever.run(job.dataset, job.evaluation.request(job.processing)))
    lists = np.full((len(ids), K), -1, dtype=np.int64)
    places = {name: place for place, name in enumerate(ids)}
    best = run.frame.filter(pl.col("rank") <= K)
    for query, product, rank in best.select("query_id", "product_id", "rank").iter_rows():
        lists[places[query], rank - 1] = rows[product]
    measured = runtime.get(job.evaluation.metrics(job.retriever, job.dataset, job.processing))
    order = pl.DataFrame({"query_id": ids}).join(
        measured, on="query_id", how="left", maintain_order="left"
    )
    columns = [order[name].fill_null(0.0).to_numpy() for name in ("nDCG@10", "judged@10")]
    return System(lists, *columns)


def graded(lists: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Q×K int64: grades of lists, -1 where there is no product."""
    held = np.take_along_axis(truth, np.maximum(lists, 0), axis=1).astype(np.int64)
    return np.where(lists >= 0, held, -1)


def true_ndcg(grades: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Q float64: nDCG@10 where every pair is judged."""
    discounts = 1 / np.log2(2 + np.arange(K))
    best = -np.sort(-GAINS[truth], axis=1)[:, :K]
    ideal = (best * discounts[: best.shape[1]]).sum(axis=1)
    found: np.ndarray = (GAINS[grades] * discounts).sum(axis=1) / np.maximum(ideal, 1e-12)
    return found


def paired(difference: np.ndarray) -> Effect:
    """The mean difference over queries."""
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return Effect(float(difference.mean()), float(error))


def needed(effect: Effect, impressions: int, arms: int) -> float:
    """Impressions for 80 % power: the variance falls with their number."""
    if not effect.difference:
        return float("inf")
    return arms * POWER * effect.error**2 * impressions / effect.difference**2


def gain_interval(apart: Effect, together: Effect) -> float:
    """The factor by which a gain's 95 % interval reaches up and down.

    A gain is the ratio of the squares of two z values, whose logarithm has about the variance
    4 (1 / z² + 1 / z²).
    """
    if not apart.z or not together.z:
        return float("inf")
    return float(np.exp(1.96 * min(2 * np.sqrt(1 / apart.z**2 + 1 / together.z**2), 50.0)))


def expected_clicks(model: Users, grades: np.ndarray, ready: np.ndarray) -> np.ndarray:
    """Q float64: clicks of a list in closed form, the mean over users of this readiness."""
    total = np.zeros(len(grades))
    for readiness in ready:
        total += model.expected(grades, np.full(len(grades), readiness)).sum(axis=1)
    return total / len(ready)


def measured_pairs(
    systems: dict[str, System], truth: np.ndarray, users: int
) -> list[dict[str, Any]]:
    """A row for every pair and kind of users."""
    rng = np.random.default_rng(0)
    population = Population.drawn(users, len(truth), rng)
    impressions = population.impressions
    # What users of an impression are like, as quantiles: chances are cut at 1 for the readiest.
    ready = np.quantile(population.readiness[population.user], (np.arange(32) + 0.5) / 32)
    grades = {name: graded(one.lists, truth) for name, one in systems.items()}
    whole = {name: true_ndcg(one, truth) for name, one in grades.items()}
    clicks = {
        (name, kind): population.summed(
            shown_alone(population, grades[name], model, rng).sum(axis=1).astype(np.float64)
        )
        for name in systems
        for kind, model in KINDS.items()
    }
    rows = []
    for a, b in itertools.combinations(systems, 2):
        lists = systems[a].lists, systems[b].lists
        mixed = shown_mixed(population, lists, truth, TeamDraft(), KINDS, rng)
        pooled = paired(systems[b].pooled - systems[a].pooled)
        true = paired(whole[b] - whole[a])
        shared = np.mean([len(np.intersect1d(*pair)) / K for pair in zip(*lists, strict=True)])
        for kind, model in KINDS.items():
            expected = expected_clicks(model, grades[b], ready) - expected_clicks(
                model, grades[a], ready
            )
            trial = of_ratios((clicks[a, kind], impressions), (clicks[b, kind], impressions))
            liked = preference(population, mixed[kind])
            total = int(impressions.sum())
            alone, together = needed(trial, total, 2), needed(liked, total, 1)
            rows.append(
                {
                    "first": a,
                    "second": b,
                    "users": kind,
                    "overlap@10": float(shared),
                    "judged@10": float((systems[a].judged.mean() + systems[b].judged.mean()) / 2),
                    "pooled nDCG@10": pooled.difference,
                    "pooled p": pooled.p,
                    "true nDCG@10": true.difference,
                    "true p": true.p,
                    "expected clicks": float(expected.mean()),
                    "A/B clicks": trial.difference,
                    "A/B p": trial.p,
                    "preference": liked.difference,
                    "preference p": liked.p,
                    "A/B impressions": alone,
                    "interleaved impressions": together,
                    "gain": alone / together if together > 0 else float("nan"),
                    "gain ×÷": gain_interval(trial, liked),
                }
            )
        print(f"{a} / {b}", flush=True)
    return rows


def agreement(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """By kind of users: how far the three agree, and what interleaving saves."""
    from scipy.stats import kendalltau, pearsonr

    rows = []
    for kind in KINDS:
        some = frame.filter(pl.col("users") == kind)
        columns = {name: some[name].to_numpy() for name in some.columns[3:]}
        significant = {
            name: holm(columns[p]) < 0.05
            for name, p in (
                ("pooled nDCG@10", "pooled p"),
                ("A/B clicks", "A/B p"),
                ("preference", "preference p"),
            )
        }
        row: dict[str, Any] = {"users": kind}
        for name, short in (("A/B clicks", "A/B"), ("preference", "interleaving")):
            both = significant["pooled nDCG@10"] & significant[name]
            same = np.sign(columns["pooled nDCG@10"][both]) == np.sign(columns[name][both])
            row[f"pooled and {short}: same sign"] = f"{int(same.sum())} of {int(both.sum())}"
        both = significant["A/B clicks"] & significant["preference"]
        same = np.sign(columns["A/B clicks"][both]) == np.sign(columns["preference"][both])
        row["A/B and interleaving: same sign"] = f"{int(same.sum())} of {int(both.sum())}"
        row["τ pooled, A/B"] = kendalltau(columns["pooled nDCG@10"], columns["A/B clicks"])[0]
        row["τ pooled, interleaving"] = kendalltau(
            columns["pooled nDCG@10"], columns["preference"]
        )[0]
        # Holes, metric, noise: each step of the way from pooled judgments to clicks.
        chain = ("pooled nDCG@10", "true nDCG@10", "expected clicks", "A/B clicks")
        for one, other in itertools.pairwise(chain):
            row[f"r {one} → {other}"] = pearsonr(columns[one], columns[other])[0]
        decided = significant["A/B clicks"] | significant["preference"]
        gains = columns["gain"][decided & np.isfinite(columns["gain"])]
        low, middle, high = np.quantile(gains, [0.1, 0.5, 0.9])
        row["gain, median (10 % to 90 %)"] = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        # Where both effects are far from nothing, the ratio is one of effects, not of noise.
        both = decided & (columns["A/B p"] < 0.05) & (columns["preference p"] < 0.05)
        sure = columns["gain"][both & np.isfinite(columns["gain"])]
        inside = float(np.median(columns["gain ×÷"][both])) if both.any() else float("nan")
        middle = float(np.median(sure)) if len(sure) else float("nan")
        row["gain where both are significant, median"] = f"{middle:.1f}"
        row["its 95 % interval, median factor up and down"] = f"{inside:.1f}"
        rows.append(row)
    return rows


def draw(frame: pl.DataFrame) -> None:
    """results/shop.svg: A/B effects and preferences against offline gaps; gain against overlap."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
    for kind in KINDS:
        some = frame.filter(pl.col("users") == kind)
        axes[0].scatter(some["pooled nDCG@10"], some["A/B clicks"], s=9, label=kind)
        axes[1].scatter(some["pooled nDCG@10"], some["preference"], s=9, label=kind)
        decided = some.filter((pl.col("A/B p") < 0.05) | (pl.col("preference p") < 0.05))
        axes[2].scatter(decided["overlap@10"], decided["gain"], s=9, label=kind)
    for axis, title in zip(axes, ("A/B: clicks an impression", "preference", "gain"), strict=True):
        axis.set(xlabel="gap of pooled nDCG@10", ylabel=title)
    for axis in axes[:2]:
        axis.axhline(0, color="grey", linewidth=0.5)
        axis.axvline(0, color="grey", linewidth=0.5)
    axes[2].set(xlabel="overlap@10", yscale="log")
    axes[2].axhline(1, color="grey", linewidth=0.5)
    axes[0].legend(fontsize=7)
    figure.suptitle("simulated users: 45 pairs of systems", fontsize=9)
    figure.savefig(RESULTS / "shop.svg", metadata={"Date": None})


def main(arguments: Sequence[str]) -> None:
    """Run the systems, simulate, and write both tables."""
    numbers = [int(word) for word in arguments if word.isdigit()]
    users = numbers[0] if numbers else USERS
    words = [word for word in arguments if not word.isdigit()]
    strange = [w for w in words if w.startswith("systems=") and w != "systems=light"]
    if strange or any(w.startswith("data=") and w != "data=shop" for w in words):
        raise SystemExit(
            "systems=light is the only other set, and the truth of every pair is known of "
            "data=shop alone"
        )
    chosen = LIGHT if "systems=light" in words else SYSTEMS
    overrides = [*SHOP, *(word for word in words if word != "systems=light")]
    start = time.perf_counter()
    systems: dict[str, System] = {}
    for name, own in chosen.items():
        job = job_of([*overrides, *own])
        if not systems:
            assert isinstance(job.data, Shop)
            truth = job.runtime.get(Truth(job.data))
            ids = truth.query_ids
        systems[name] = system_of(job, ids)
        print(f"{name}: pooled nDCG@10 {systems[name].pooled.mean():.3f}", flush=True)
    frame = pl.DataFrame(measured_pairs(systems, np.asarray(truth.grades), users))
    RESULTS.mkdir(exist_ok=True)
    frame.write_csv(RESULTS / "pairs.csv", float_precision=6)
    rows = agreement(frame)
    draw(frame)
    text = "## Offline, A/B and interleaving: the simulated shop\n\nSIMULATED USERS AND DATA.\n\n"
    text += f"| | {' | '.join(KINDS)} |\n|:---|{'---:|' * len(KINDS)}\n"
    for name in list(rows[0])[1:]:
        cells = [f"{r[name]:.2f}" if isinstance(r[name], float) else r[name] for r in rows]
        text += f"| {name} | {' | '.join(cells)} |\n"
    text += f"\n![](shop.svg)\n\n{len(systems)} systems, {len(frame) // len(KINDS)} pairs, "
    text += f"{len(ids)} test queries, {users:,} users. "
    text += "Significant: p < .05, Holm over the pairs. Gain: impressions of an A/B trial over "
    text += "those of team-draft interleaving, for 80 % power, of pairs that one of "
    text += "the two decides. All pairs: [pairs.csv](pairs.csv). "
    text += f"Hardware: {hardware()}, {time.perf_counter() - start:.0f} s. Commit: {git_commit()}. "
    text += f"Command: python experiments/online_agreement/online_agreement.py {users} "
    text += f"{' '.join([*overrides, *(w for w in words if w == 'systems=light')])}\n"
    (RESULTS / "shop.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
