"""The Lightning module that trains a bi-encoder, and the token ids that it reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch
from torch import Tensor

from neurosearch.core.distributed import barrier, world
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset, places_of
from neurosearch.encoder.base import resolved_prefixes
from neurosearch.encoder.biencoder.network import TowerShape
from neurosearch.encoder.biencoder.pairs import PairBatches
from neurosearch.evaluation.metrics import per_query
from neurosearch.loss.base import Targets
from neurosearch.negatives.base import NegativeLists, TrainingContext
from neurosearch.negatives.retrieved import select
from neurosearch.nn.captured import CapturedTower
from neurosearch.nn.sentence_folder import prompts_of
from neurosearch.nn.text_encoder import TextTower
from neurosearch.nn.tokens import Tokens, tokenize
from neurosearch.training.gather import Part, in_order, shares, summed
from neurosearch.training.gradcache import cached_backward
from neurosearch.training.module import TrainingModule
from neurosearch.training.schedule import Schedule


@dataclass
class TrainingTexts:
    """Texts of a training, and the dev sub-catalogue: all that dev judged, and random others."""

    train_queries: list[str]
    dev_queries: list[str]
    products: list[str]
    dev_rows: np.ndarray
    data: Dataset
    context: TrainingContext
    shape: TowerShape

    @classmethod
    def of(
        cls,
        data: Dataset,
        context: TrainingContext,
        read: Callable[[Sequence[str]], list[str]],
        texts: Sequence[Any],
        shape: TowerShape,
        dev_products: int,
        asked: Sequence[list[str]],
    ) -> TrainingTexts:
        """`asked`: the processed texts of the train queries, and all of them once more with
        typing errors where a training plants some."""
        fields, separator, *wanted = texts
        query_prefix, product_prefix = resolved_prefixes(
            (wanted[0], wanted[1]), lambda: prompts_of(shape.model)
        )
        texts_of = data.catalogue.all_texts(fields, separator)
        products = [product_prefix + text for text in texts_of]
        dev = [query_prefix + text for text in read(data.queries("dev").texts)]
        train = [query_prefix + text for texts in asked for text in texts]
        ids = places_of(data.catalogue.ids, "product_id", "row")
        judged = data.judgments("dev").frame.select("product_id").unique()
        rows = ids.join(judged, on="product_id", how="semi")["row"].to_numpy().astype(np.int64)
        others = np.setdiff1d(np.arange(len(products)), rows)
        extra = min(max(0, dev_products - len(rows)), len(others))
        drawn = np.random.default_rng(0).choice(others, extra, replace=False)
        dev_rows = np.sort(np.concatenate([rows, drawn]))
        return cls(train, dev, products, dev_rows, data, context, shape)


class BiEncoderModule(TrainingModule):
    """Manual optimisation: one GradCache step a batch, whatever the loss."""

    rate_key = "encoder.schedule.lr"
    captures: ClassVar[bool] = True  # its passes may be CUDA graphs

    def __init__(
        self,
        towers: Any,
        objective: Any,
        schedule: Schedule,
        texts: TrainingTexts,
        batches: PairBatches,
        graded: pl.DataFrame,
        folder: Path,
        runtime: Runtime,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.towers = towers.train()  # pretrained models come in evaluation mode
        objective.loss.check(getattr(towers, "query", towers).dimensions)
        self.loss = objective.loss.objective()
        self._objective, self._texts = objective, texts
        self.schedule, self.steps = schedule, batches.steps
        self._batches, self._graded, self._runtime = batches, graded, runtime
        self._folder = folder
        self._tokenized(towers)
        self._captured: dict[int, CapturedTower] = {}  # by tower, once the device is known
        self._masked: list[Tensor] = []  # also of the attempts before this one
        self._mined: dict[int, Path] = {}  # by source: the file its lists were last read from

    def _tokenized(self, towers: Any) -> None:
        texts = self._texts
        query_length, shown = texts.shape.max_lengths
        towers.query.check_length("encoder.query_max_length", query_length)
        towers.product.check_length("encoder.product_max_length", shown)
        self._queries = tokenize(towers.query.tokenizer, texts.train_queries, query_length)
        self._dev_queries = tokenize(towers.query.tokenizer, texts.dev_queries, query_length)
        self._products = tokenize(towers.product.tokenizer, texts.products, shown)
        # One numbering of queries and products, so that a shared tower reads both at once.
        self._both = Tokens.joined(self._queries, self._products)
        self._shared = towers.product is towers.query

    @property
    def _half(self) -> bool:
        return self.schedule.half

    @property
    def _shares_loss(self) -> bool:
        """Whether processes compute the losses of some queries each."""
        by_query: bool = self._objective.loss.by_query
        return by_query

    def _loss(self, queries: Any, documents: Any, targets: Targets, step: int) -> Tensor:
        """What a step minimises, a scalar: of B×D and M×D vectors, or of `Ragged` ones."""
        loss: Tensor = self.loss(queries, documents, targets)
        return loss

    def seed_step(self, step: int) -> None:
        # Not the base's formula: the published numbers were drawn by this one.
        torch.manual_seed((self.schedule.seed * 1_000_003 + step) * 64 + world()[0])

    def on_fit_start(self) -> None:
        self._pairs = self._batches.pairs.to(self.device)
        # With chunks each text is encoded twice, under the same random state.
        if (
            self.captures
            and self._runtime.captures(self.device)
            and not self._objective.chunk
            and world()[1] == 1
        ):
            sides = {id(t): t for t in (self.towers.query, self.towers.product)}
            self._captured = {
                key: CapturedTower(tower, self.device, self._half) for key, tower in sides.items()
            }

    def training_step(self, step: int, batch_idx: int) -> None:
        self.seed_step(step)
        self._renew_lists(step)
        queries, rows = self._batches.draw(step)
        # Places of the batch are 0 to B for queries, then documents; processes share them.
        texts = np.concatenate([self._asked(queries, step), len(self._queries) + rows])
        order = shares(np.argsort(self._both.lengths[texts], kind="stable"))
        part = Part.of(len(queries), len(rows), self._shares_loss)
        wanted = np.concatenate([part.queries, len(queries) + part.documents])
        targets, count = self._targets(queries, rows, part), len(part.queries)

        def loss_of(vectors: Tensor) -> Tensor:
            whole = in_order(vectors, order, wanted=wanted, is_shared=part.is_shared)
            return self._loss(whole[:count], whole[count:], targets, step) * part.weight

        self._learn(texts[order[world()[0]]], loss_of, part)
        self._note_masked(targets, part)

    def _asked(self, queries: np.ndarray, step: int) -> np.ndarray:
        """Texts of a step's queries: at times the one with a typing error, which come last."""
        share = self._objective.typos
        if not share:
            return queries
        rng = np.random.default_rng([self.schedule.seed, 2, step])
        mistyped = rng.random(len(queries)) < share
        return np.where(mistyped, queries + len(self._batches.pairs.query_of), queries)

    def _clean(self) -> Tokens:
        """The train queries without planted errors."""
        return self._queries.take(np.arange(len(self._batches.pairs.query_of)))

    def _targets(self, queries: np.ndarray, rows: np.ndarray, part: Part) -> Targets:
        """What is known of the pairs of a part of the batch."""
        others = queries[part.documents[len(part.queries) : len(queries)]]
        shown = rows[part.documents]
        return self._pairs.targets(queries[part.queries], shown, self._objective.mask, others)

    def _learn(self, share: np.ndarray, loss_of: Callable[[Tensor], Tensor], part: Part) -> None:
        """One step on the vectors of these texts, by GradCache where `chunk` is set."""
        size, weights = self._objective.chunk, self.towers.parameters()
        whole = summed if part.is_shared else torch.detach  # of the logged loss
        if not size:
            loss = loss_of(self._encode(share))
            self.optimize(loss, weights, logged=whole(loss))
            return
        chunks = np.split(share, range(size, len(share), size))
        backward = self.manual_backward
        self.optimize_by(
            lambda: whole(cached_backward(self._encode, chunks, loss_of, backward)), weights
        )

    def _note_masked(self, targets: Targets, part: Part) -> None:
        """Log the share of pairs that the mask keeps from being pushed apart."""
        masked = (~targets.negative).float().mean() - 1 / targets.negative.shape[1]
        if part.is_shared:
            masked = summed(masked * part.weight)
        self._masked.append(masked)
        self.log("masked share", masked)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["masked"] = [float(share) for share in self._masked]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._masked = [torch.tensor(share) for share in checkpoint["masked"]]

    def facts(self) -> dict[str, Any]:
        """For the manifest; the masked share is the mean over the steps."""
        masked = float(np.mean([float(share) for share in self._masked])) if self._masked else 0.0
        return {"pairs": len(self._batches.pairs.query), "masked share": round(masked, 6)}

    def validate(self) -> float:
        """nDCG@10 of the dev queries by exact retrieval from the dev sub-catalogue."""
        data, rows = self._texts.data, self._texts.dev_rows
        queries = data.queries("dev")
        places, scores = self._search(self._dev_queries, rows, 10)
        found = np.where(places >= 0, rows[places], -1)
        run = Run.from_arrays(found, scores, queries, data.catalogue, 10)
        gain = self._texts.context.gain
        metrics = per_query(run, queries, data.judgments("dev"), gain, ("nDCG@10",))
        return float(metrics["nDCG@10"].to_numpy().mean())

    def _search(
        self, queries: Tokens, rows: np.ndarray | None, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Q×k places among these rows (None: all), -1 for none, and scores, by the model as it is
        now."""
        products = self._products if rows is None else self._products.take(rows)
        query_vectors = self._vectors(self.towers.query, queries)
        shown = self._vectors(self.towers.product, products)
        return exact_search(query_vectors, shown, k, self.device)

    def _encode(self, texts: np.ndarray) -> Tensor:
        """Vectors of texts by their number, queries first: by one tower, or each by its own."""
        towers = self.towers
        if self._shared:
            return self._run(towers.query, self._both.take(texts))
        is_query = texts < len(self._queries)
        sides = [
            (towers.query, np.flatnonzero(is_query)),
            (towers.product, np.flatnonzero(~is_query)),
        ]
        parts = [self._run(t, self._both.take(texts[rows])) for t, rows in sides if len(rows)]
        back = np.argsort(np.concatenate([rows for _, rows in sides]))
        return torch.cat(parts)[torch.from_numpy(back).to(self.device)]

    def _run(self, tower: TextTower, tokens: Tokens) -> Tensor:
        captured = self._captured.get(id(tower))
        if captured is not None and torch.is_grad_enabled() and captured.fits(tokens):
            vectors = captured.encode(tokens)
            if vectors is not None:
                return vectors
        budget = self._runtime.batch_budget(self.device)
        return tower.encode(tokens, budget, self.device, self._half)

    def _vectors(self, tower: TextTower, tokens: Tokens) -> np.ndarray:
        was_training = tower.training
        tower.eval()
        kind = self.device.type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, self._half):
            vectors: np.ndarray = self._run(tower, tokens).cpu().numpy()
        tower.train(was_training)
        return vectors

    def _renew_lists(self, step: int) -> None:
        """Before a step: the lists that its epoch mined, mined now where they are not there."""
        epoch = step // self._batches.steps_per_epoch
        for number, source in enumerate(self._objective.negatives.sources()):
            latest = epoch - epoch % source.refresh if source.refresh else 0
            path = self._folder / f"mined-{number}-{latest}.npz"
            if not latest or self._mined.get(number) == path:
                continue
            # By one process: others might order ties otherwise, and batches must be the same.
            if world()[0] == 0 and not path.exists():
                self._mine(source, path)
            barrier()
            stored = np.load(path)
            count, _ = self._batches.lists[number]
            lists = NegativeLists(stored["indptr"], stored["rows"])
            self._batches.lists[number] = (count, lists)
            self._mined[number] = path

    def _mined_scores(
        self, k: int, pairs: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For all train queries Q×k places and scores; and the scores of these pairs."""
        query_vectors = self._vectors(self.towers.query, self._clean())
        products = self._vectors(self.towers.product, self._products)
        places, scores = exact_search(query_vectors, products, k, self.device)
        return places, scores, np.einsum("nd,nd->n", query_vectors[pairs[0]], products[pairs[1]])

    def _mine(self, source: Any, path: Path) -> None:
        """The source's lists by the model as it is now, with what was refused."""
        share = self._texts.context.positive_share
        good = self._graded.filter(pl.col("share") >= share)
        pairs = good["query"].to_numpy(), good["row"].to_numpy()
        places, scores, positive_scores = self._mined_scores(source.last, pairs)
        depth = places.shape[1]
        candidates = pl.DataFrame(
            {
                "query": np.repeat(np.arange(len(places)), depth),
                "row": places.ravel(),
                "score": scores.ravel().astype(np.float64),
                "rank": np.tile(np.arange(1, depth + 1), len(places)),
            }
        ).filter(pl.col("rank") >= source.first, pl.col("row") >= 0)
        positives = good.with_columns(score=positive_scores.astype(np.float64))
        aware = source.max_ratio is not None or source.margin is not None
        kept, refused = select(candidates, self._graded, positives if aware else None, source)
        lists = NegativeLists.of(kept["query"].to_numpy(), kept["row"].to_numpy(), len(places))
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, indptr=lists.indptr, rows=lists.rows)
        temporary.replace(path)
        statistics = {"kept": kept.height, "refused": dict(refused)}
        path.with_suffix(".json").write_text(json.dumps(statistics), encoding="utf-8")


def exact_search(
    queries: np.ndarray, products: np.ndarray, k: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Exact top k by inner product, in slices of queries so that memory stays bounded.

    Args:
        queries: Q×D float32.
        products: N×D float32.
        k: at most N.

    Returns:
        Q×k rows (int64) and scores (float32), best first.
    """
    k = min(k, len(products))
    places, scores = [], []
    against = torch.from_numpy(products).to(device)
    # Inside a training step half precision is on: ranks are taken in full.
    with torch.autocast(device.type, enabled=False):
        for start in range(0, len(queries), 1024):
            part = torch.from_numpy(queries[start : start + 1024]).to(device) @ against.T
            best = part.topk(k, dim=1)
            places.append(best.indices.cpu().numpy())
            scores.append(best.values.cpu().numpy())
    return np.concatenate(places), np.concatenate(scores)
