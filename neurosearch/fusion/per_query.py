"""Convex fusion whose weights depend on the query's lists.

It starts at the weights that dev chooses for all queries. A part of all weight may move to one
member: with two sizes of such a move and four members there are nine weightings. A small network
reads how the members' lists look (scores at their top, gaps, how much lists share) and gives each
weighting a probability; it is trained to maximise the expected nDCG@10, over train queries whose
lists come from members that never saw them (out of fold), or over half of dev's. A query's weights
are the mean of the weightings under these probabilities. Dev decides when the training stops, and
how far to move from the common weights to the query's own (0: not at all).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from neurosearch.core.bounds import setting
from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.core.types import Queries
from neurosearch.fusion import base
from neurosearch.fusion.convex import Convex, scale
from neurosearch.fusion.tuning import Pooled

TOP = 10  # of the lists that are compared
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way to a query's own weights


@dataclass(frozen=True)
class PerQuery(Convex):
    """Attributes:
    folds: of the train queries, out of which the lists come that it learns from; 0: it learns
        from every other dev query, for which nothing is trained again.
    moves: shares of all weight that may move to one member; 0.15: 15 % of it.
    hidden: units of the network.
    steps, rate, decay: of its training (AdamW, all queries a step).
    every: steps between two measurements on dev.
    The rest: see `Convex`; `weights` are those that it starts from.
    """

    folds: int = 2
    moves: tuple[float, ...] = (0.15, 0.35)
    hidden: int = setting(16, least=1)
    steps: int = setting(200, least=1)
    rate: float = setting(3e-3, above=0)
    decay: float = setting(0.1, least=0)
    every: int = setting(20, least=1)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds == 1 or self.folds < 0:
            raise self.error("folds", f"must be 0, or at least 2, not {self.folds}")
        if not self.moves or not all(0 < move <= 1 for move in self.moves):
            raise self.error("moves", f"must be shares above 0, at most 1, not {list(self.moves)}")

    @property
    def learns(self) -> bool:
        return True

    @property
    def held_folds(self) -> int:
        return self.folds

    def fit(self, dev: base.DevSet, held: Sequence[base.HeldSet] = ()) -> Mapping[str, Any]:
        start = super().fit(dev)
        names, norm = list(dev.runs), str(start["norm"])
        common = np.array([start["weights"][name] for name in names])
        weightings = moved(common, self.moves)
        learnt_from: Sequence[base.DevSet] = held
        if not self.folds:
            dev, other = halves(dev)
            learnt_from = [other]
        gains, inputs = [], []
        for part in learnt_from:
            pooled = Pooled.of(scale(part.runs, norm), part)
            gains.append(np.stack([pooled.each(w) for w in weightings], axis=1))
            inputs.append(described(part.runs, part.queries.ids))
        if not gains:
            raise InputError("fusion=per_query learns from train queries, and there are none")
        seen = np.concatenate(inputs)
        mean, spread = seen.mean(axis=0), seen.std(axis=0)
        spread[spread < 1e-9] = 1.0
        pooled = Pooled.of(scale(dev.runs, norm), dev)
        asked = standard(described(dev.runs, dev.queries.ids), mean, spread)
        best, layers, share = float(pooled.each(common).mean()), None, 0.0
        fixed = best
        trained = policies(self, standard(seen, mean, spread), np.concatenate(gains))
        for found in trained:
            own = chances(asked, found) @ weightings
            for some in SHARES[1:]:
                reached = float(pooled.each(common + some * (own - common)).mean())
                if reached > best:
                    best, layers, share = reached, found, some
        bound = np.stack([pooled.each(w) for w in weightings], axis=1).max(axis=1).mean()
        learnt = {
            "norm": norm,
            "weights": start["weights"],
            "share": share,
            "dev nDCG@10": best,
            "dev nDCG@10 of common weights": fixed,
            "dev nDCG@10 of the best weighting of each query": float(bound),
            "tried": start["tried"],
        }
        if layers is not None:
            learnt["inputs"] = {"mean": mean.tolist(), "spread": spread.tolist()}
            learnt["layers"] = [array.tolist() for array in layers]
        return learnt

    def query_weights(
        self, runs: Mapping[str, Run], learnt: Mapping[str, Any]
    ) -> tuple[list[str], np.ndarray]:
        """The weights of each query that has a list.

        Args:
            runs: by the members' names.
            learnt: what `fit` returned.

        Returns:
            Q ids, and Q×R weights in the order of `runs`.
        """
        common = np.array(base.ordered_weights(learnt["weights"], list(runs)))
        # Members may come in another order than they had on dev.
        names = list(learnt["weights"])
        order = [names.index(name) for name in runs]
        frames = [run.frame.select("query_id") for run in runs.values()]
        ids = pl.concat(frames)["query_id"].unique(maintain_order=True)
        weights = np.tile(common, (len(ids), 1))
        if learnt["share"]:
            inputs = described({name: runs[name] for name in names}, ids)
            known = (np.array(learnt["inputs"][name]) for name in ("mean", "spread"))
            inputs = standard(inputs, *known)
            layers = [np.array(layer) for layer in learnt["layers"]]
            whole = np.array([learnt["weights"][name] for name in names])
            own = chances(inputs, layers) @ moved(whole, self.moves)
            weights += learnt["share"] * (own[:, order] - common)
        return ids.to_list(), weights

    def shares(
        self, runs: Mapping[str, Run], learnt: Mapping[str, Any] | None = None
    ) -> dict[str, pl.DataFrame]:
        if learnt is None:
            raise InputError("fusion=per_query has not learnt its weights: it needs a dev split")
        ids, weights = self.query_weights(runs, learnt)
        frames = {}
        for number, (name, frame) in enumerate(zip(runs, scale(runs, learnt["norm"]), strict=True)):
            own = pl.DataFrame({"query_id": ids, "weight": weights[:, number]})
            frames[name] = (
                frame.join(own, on="query_id", how="left", maintain_order="left")
                .with_columns(score=pl.col("score") * pl.col("weight"))
                .drop("weight")
            )
        return frames

    def label(self) -> str:
        return "convex (weights by query)"


def halves(dev: base.DevSet) -> tuple[base.DevSet, base.DevSet]:
    """Every other query of a set, and the rest.

    Args:
        dev: with two queries or more.

    Returns:
        The same lists and judgments, with half of the queries each.
    """
    frame, split = dev.queries.frame, dev.queries.split
    one, other = (replace(dev, queries=Queries(split, frame[n::2])) for n in (0, 1))
    return one, other


def moved(common: np.ndarray, moves: Sequence[float]) -> np.ndarray:
    """The common weights, and those after a share of all weight moved to one member.

    Args:
        common: R weights that sum to one.
        moves: M shares.

    Returns:
        (1 + R·M)×R.
    """
    ones = np.eye(len(common))
    some = [(1 - move) * common + move * one for move in moves for one in ones]
    return np.stack([common, *some])


def described(runs: Mapping[str, Run], ids: pl.Series) -> np.ndarray:
    """How a query's lists look.

    Of each member: the best score, the gaps from it to the second and the tenth as shares of it,
    how far it is above the list's mean in standard deviations, and the log of the list's length.
    Of each two members: the share of their first ten products that both have.

    Args:
        runs: by the members' names.
        ids: of Q queries.

    Returns:
        Q×(5·R + R·(R - 1)/2) float64; 0 where a member found nothing.
    """
    columns: list[np.ndarray] = []
    score, best = pl.col("score"), pl.col("score").max()
    heads = {}
    for name, run in runs.items():
        scale_of = best.abs().clip(1e-9)
        facts = run.frame.group_by("query_id").agg(
            best.alias("best"),
            second=(best - score.filter(pl.col("rank") == 2).first()) / scale_of,
            tenth=(best - score.filter(pl.col("rank") == TOP).first()) / scale_of,
            above=(best - score.mean()) / score.std(ddof=0).clip(1e-9),
            length=pl.len().cast(pl.Float64).log1p(),
        )
        known = pl.DataFrame({"query_id": ids}).join(
            facts, on="query_id", how="left", maintain_order="left"
        )
        columns += [known[c].fill_null(0.0).to_numpy() for c in known.columns[1:]]
        heads[name] = run.frame.filter(pl.col("rank") <= TOP).select("query_id", "product_id")
    for one, other in itertools.combinations(runs, 2):
        both = heads[one].join(heads[other], on=["query_id", "product_id"], how="semi")
        shared = pl.DataFrame({"query_id": ids}).join(
            both.group_by("query_id").len("n"), on="query_id", how="left", maintain_order="left"
        )
        columns.append(shared["n"].fill_null(0).to_numpy() / TOP)
    return np.stack(columns, axis=1).astype(np.float64)


def standard(inputs: np.ndarray, mean: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Standardised inputs, none further than five standard deviations from the mean: where a best
    score is near 0, gaps as shares of it have no bound.

    Args:
        inputs: Q×F.
        mean, spread: F.

    Returns:
        Q×F float64.
    """
    clipped: np.ndarray = np.clip((inputs - mean) / spread, -5.0, 5.0)
    return clipped


def chances(inputs: np.ndarray, layers: Sequence[np.ndarray]) -> np.ndarray:
    """What a policy says of queries.

    Args:
        inputs: Q×F, standardised.
        layers: H×F and H, then W×H and W: weights and biases of the two layers.

    Returns:
        Q×W probabilities of the weightings.
    """
    first, bias, second, other = layers
    logits = np.maximum(inputs @ first.T + bias, 0.0) @ second.T + other
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    likely: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
    return likely


def policies(recipe: PerQuery, inputs: np.ndarray, gains: np.ndarray) -> list[list[np.ndarray]]:
    """A policy's layers, from time to time in its training.

    Args:
        recipe: how it is trained.
        inputs: Q×F, standardised.
        gains: Q×W nDCG@10 of each weighting.

    Returns:
        For each measurement the layers that `chances` takes.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        hidden = torch.nn.Linear(inputs.shape[1], recipe.hidden)
        out = torch.nn.Linear(recipe.hidden, gains.shape[1])
    torch.nn.init.zeros_(out.weight)  # at first every weighting is as likely as others
    torch.nn.init.zeros_(out.bias)
    parameters = [*hidden.parameters(), *out.parameters()]
    optimizer = torch.optim.AdamW(parameters, recipe.rate, weight_decay=recipe.decay)
    shown = torch.from_numpy(inputs.astype(np.float32))
    # Against the mean: what no weighting changes says nothing.
    worth = torch.from_numpy((gains - gains.mean(axis=1, keepdims=True)).astype(np.float32))
    found = []
    for step in range(1, recipe.steps + 1):
        likely = out(torch.relu(hidden(shown))).softmax(dim=1)
        loss = -(likely * worth).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % recipe.every == 0 or step == recipe.steps:
            found.append([p.detach().double().numpy().copy() for p in parameters])
    return found
