"""Fusions come apart into their members, re-ranked lists into stages, each explained in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.types import Queries
from neurosearch.explainer.base import Explain, Explanation, Part, Scene, sorted_parts
from neurosearch.explainer.probing import probe
from neurosearch.reranker.lambdamart import LiveTrees
from neurosearch.retriever.hybrid import Hybrid, numbered_run
from neurosearch.retriever.reranked import Reranked, scaled

TREES = 12  # features that are named; the others are one part


def fused_parts(system: Hybrid, live: Any, members: Mapping[str, Explain]) -> Explain:
    """Explain a hybrid: what each member adds, and why its own score is what it is.

    Args:
        system: the retriever.
        live: its searcher.
        members: an explanation of each member.

    Returns:
        A function that explains.
    """
    order = live.catalogue.id_order

    def explain(text: str, rows: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        queries = Queries("live", pl.DataFrame({"query_id": ["0"], "text": [text]}))
        lists = {name: member.search([text], live.depth) for name, member in live.members.items()}
        runs = {
            name: numbered_run(found[0], found[1], queries, live.floors[name], order)
            for name, found in lists.items()
        }
        shares = system.fusion.shares(runs, live.learnt)
        parts: list[list[Part]] = [[] for _ in rows]
        for name, frame in shares.items():
            value = dict(zip(frame["product_id"].cast(pl.Int64), frame["score"], strict=True))
            found, given = (array[0] for array in lists[name])
            place = {int(row): rank for rank, row in enumerate(found) if row >= 0}
            own = [n for n, row in enumerate(rows) if int(row) in place]
            at = np.array([place[int(rows[n])] for n in own], dtype=np.int64)
            why = members[name](text, rows[own], given[at]) if own else []
            for n, rank, reason in zip(own, at, why, strict=True):
                share = float(value[int(order[rows[n]])])
                note = f"rank {rank + 1}, score {given[rank]:.4g}"
                parts[n].append(Part(name, share, note, of=reason))
        how = f"{system.fusion.label()}: the sum of what the members add"
        return [
            Explanation(float(score), sorted_parts(own_parts), how=how)
            for score, own_parts in zip(scores, parts, strict=True)
        ]

    return explain


def reranked_parts(system: Reranked, live: Any, first: Explain, scene: Scene) -> Explain:
    """Explain a re-ranked list: the re-ranker's share, and the first stage's.

    Args:
        system: the retriever.
        live: its searcher.
        first: an explanation of the first stage.
        scene: data, request and runtime.

    Returns:
        A function that explains.
    """

    def explain(text: str, rows: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        found, before = live.first.search([text], max(live.list_depth, live.depth))
        there = found[0] >= 0
        found, before = found[0][there], before[0][there]
        place = {int(row): rank for rank, row in enumerate(found)}
        head = pairs_of(found[: live.depth], before)
        read = live.query.texts([text])
        new = np.asarray(live.score(read, head), dtype=np.float64)
        shares = (
            live.weight * scaled(new[None])[0],
            (1 - live.weight) * scaled(before[None, : live.depth])[0],
        )
        whys = scored_parts(system, live, read[0])
        result = []
        for row, score in zip(rows, scores, strict=True):
            rank = place[int(row)]
            (why,) = first(text, np.array([row]), before[[rank]])
            if rank >= live.depth:
                note = f"rank {rank + 1}, below the {live.depth} that were re-ranked"
                parts = [Part("first stage", float(score), note, of=why)]
                result.append(Explanation(float(score), tuple(parts), how="not re-ranked"))
                continue
            reason = whys(head, rank, float(new[rank]))
            label = system.reranker.label()
            note = f"score {new[rank]:.4g}"
            parts = [Part(label, float(shares[0][rank]), note, of=reason)]
            if live.weight < 1:
                note = f"rank {rank + 1}, score {before[rank]:.4g}"
                parts.append(Part("first stage", float(shares[1][rank]), note, of=why))
            how = "both stages' scores, scaled to 0 to 1; re-ranked products begin at 2"
            result.append(Explanation(float(score), sorted_parts(parts), 2.0, how))
        return result

    return explain


def staged_parts(live: Any, words: Explain) -> Explain:
    """Explain a relaxed search: which stage found a product, and why BM25 has it where it is.

    Args:
        live: its searcher.
        words: an explanation of its BM25.

    Returns:
        A function that explains.
    """

    def explain(text: str, rows: np.ndarray, scores: np.ndarray) -> list[Explanation]:
        (query,) = live.query.read([text])
        staged = live.staged(query, live.terms.counts.shape[0])
        stage_of = dict(zip(staged.rows.tolist(), staged.stages.tolist(), strict=True))
        (weights,) = live.live.words([text])
        within, values = live.live.among(weights, rows)
        value_of = dict(zip(within.tolist(), values.tolist(), strict=True))
        found = []
        for row, score in zip(rows, scores, strict=True):
            stage, reason = stage_of.get(int(row)), None
            if int(row) in value_of:
                value = np.array([value_of[int(row)]], dtype=np.float32)
                (reason,) = words(text, np.array([row]), value)
            note = "found by the fallback" if stage is None else f"found in stage {stage}"
            rank = round(1 / float(score))
            part = Part(f"rank {rank}", float(score), note, of=reason)
            how = "1/rank: stages come one after the other, BM25 orders the products of a stage"
            found.append(Explanation(float(score), (part,), how=how))
        return found

    return explain


def pairs_of(rows: np.ndarray, scores: np.ndarray) -> pl.DataFrame:
    """One query's candidates, as scorers take them.

    Args:
        rows: of the products, best first.
        scores: of the first stage.

    Returns:
        `query`, `row`, `score`, `rank`.
    """
    count = len(rows)
    return pl.DataFrame(
        {
            "query": np.zeros(count, np.int64),
            "row": rows,
            "score": scores[:count].astype(np.float64),
            "rank": np.arange(1, count + 1, dtype=np.int32),
        }
    )


def scored_parts(system: Reranked, live: Any, text: str) -> Any:
    """From a pair's place among all candidates and its score to an explanation: of trees exactly,
    else by probing. All candidates are scored: features may compare them."""

    def trees(pairs: pl.DataFrame, place: int, score: float) -> Explanation:
        inputs, parts = live.score.parts([text], pairs)
        inputs, parts = inputs[place : place + 1], parts[place : place + 1]
        named = sorted_parts(
            [
                Part(name, float(value), f"is {given:.4g}")
                for name, value, given in zip(live.score.names, parts[0], inputs[0], strict=False)
                if value
            ]
        )
        rest = sum(part.value for part in named[TREES:])
        shown = named[:TREES] + ((Part("all else", rest),) if rest else ())
        how = "what each feature adds (Shapley values of the trees)"
        return Explanation(score, shown, float(parts[0, -1]), how)

    def probing(pairs: pl.DataFrame, place: int, score: float) -> Explanation:
        def again(shorter: str, rows: np.ndarray) -> np.ndarray:
            scores = np.asarray(live.score([shorter], pairs), dtype=np.float64)
            return scores[place : place + 1]

        rows = pairs["row"].to_numpy()[place : place + 1]
        (found,) = probe(again)(text, rows, np.array([score]))
        return found

    return trees if isinstance(live.score, LiveTrees) else probing
