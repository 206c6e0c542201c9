"""The Lightning module that trains a generator: cross-entropy over codes, options around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from neurosearch.core.distributed import world
from neurosearch.core.errors import InputError
from neurosearch.core.run import Run
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.types import Dataset
from neurosearch.evaluation.metrics import per_query
from neurosearch.generator.examples import ExampleBatches, Words
from neurosearch.generator.expansion import expand
from neurosearch.generator.network import search
from neurosearch.generator.trie import Trie
from neurosearch.negatives.base import NegativeLists, graded_pairs
from neurosearch.nn.tokens import tokenize
from neurosearch.training.gather import shares, summed
from neurosearch.training.module import TrainingModule
from neurosearch.training.schedule import optimizer_of


class GeneratorModule(TrainingModule):
    """One decoding step a level, all levels of an example at once (teacher forcing).

    In bf16 where the device has it, or fp32; never fp16, in which T5 overflows. Every ID of a
    catalogue has as many codes as another, so there are no padded labels to mask.
    """

    rate_key = "generator.schedule.lr"

    def __init__(
        self,
        recipe: Any,
        data: Dataset,
        ids: SemanticIds,
        pretrained: Path | None,
        pseudo: pl.DataFrame | None,
        runtime: Runtime,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = recipe.network(ids.sizes, pretrained).train()
        self._recipe, self._data, self._runtime = recipe, data, runtime
        self._codes = torch.from_numpy(np.asarray(ids.codes, dtype=np.int64))
        self._trie = Trie.of(ids)
        tokenizer, longest = self.model.reader.tokenizer, recipe.max_length
        queries = {}
        for split in ("train", "dev"):
            split_queries = data.queries(split).processed(recipe.query.reader(runtime).texts)
            texts = recipe.query_texts(split_queries, data.catalogue, ids)
            queries[split] = [recipe.prefix + text for text in texts]
        self._dev = tokenize(tokenizer, queries["dev"], longest)
        texts = data.catalogue.all_texts(recipe.fields, recipe.separator)
        graded = graded_pairs(data, data.judgments("train"), recipe.gain)
        good = graded.filter(pl.col("share") >= recipe.positive_share)
        if good.is_empty():
            share = recipe.positive_share
            message = f"no train judgment is worth {share} of the largest gain or more"
            raise InputError(f"generator.positive_share: {message}")
        written = None
        if pseudo is not None:
            written = (
                tokenize(tokenizer, [recipe.prefix + text for text in pseudo["text"]], longest),
                pseudo["row"].to_numpy(),
            )
        pairs = good["query"].to_numpy(), good["row"].to_numpy()
        self._batches = ExampleBatches(
            queries=tokenize(tokenizer, queries["train"], longest),
            pairs=pairs,
            words=Words.of(tokenizer, texts, longest, recipe.prefix),
            pseudo=written,
            crops=recipe.crops,
            batch_size=recipe.batch_size,
            index_ratio=recipe.index_ratio,
            seed=recipe.schedule.seed,
        )
        count = len(queries["train"])
        self._positives = NegativeLists.of(*pairs, count)
        worse = graded.filter(pl.col("share") < recipe.positive_share)
        self._worse = NegativeLists.of(worse["query"].to_numpy(), worse["row"].to_numpy(), count)
        self.schedule = recipe.schedule
        self.steps = recipe.schedule.steps(len(texts) / recipe.batch_size)

    def configure_optimizers(self) -> Any:
        recipe = self._recipe
        slow, factor = self.model.reader, recipe.reader_rate
        return optimizer_of(self, self.schedule, self.steps, slow, factor)

    def on_fit_start(self) -> None:
        self._codes = self._codes.to(self.device)

    def training_step(self, step: int, batch_idx: int) -> None:
        recipe = self._recipe
        self.seed_step(step)
        tokens, rows, query_rows = self._batches.draw(step)
        # Processes share the examples; their parts of a mean add up to it.
        share = shares(np.arange(len(rows)))[world()[0]]
        memory, mask = self.model.read(tokens.take(share), self.device)
        path = self._codes[self._on(rows[share])]
        logits = self.model.decoder(memory, mask, path)
        losses = self._by_level(logits, path, query_rows[share], rows[share]) * (
            len(share) / len(rows)
        )
        loss = losses.mean() * self._weight(step)
        for level, value in enumerate(summed(losses), 1):
            self.log(f"cross-entropy {level}", value)
        if recipe.ranking:
            retrieval = int((query_rows >= 0).sum())
            other = self._others(query_rows[:retrieval], step)[share[share < retrieval]]
            ranked = self._ranking(memory, mask, logits, path, other) / (retrieval * len(logits))
            self.log("ranking", summed(ranked))
            loss = loss + recipe.ranking * ranked
        asked = query_rows[share[share < int((query_rows >= 0).sum())]]
        more = self._more((memory, mask), asked, step)
        if more is not None:
            loss = loss + more * (len(share) / len(rows))
        self.optimize(loss, self.model.parameters(), logged=summed(loss))

    def _weight(self, step: int) -> float:
        """Of the cross-entropy at a step."""
        return 1.0

    def _more(
        self, read: tuple[Tensor, Tensor], query_rows: np.ndarray, step: int
    ) -> Tensor | None:
        """What else is minimised: of the memory of a batch, whose first examples are of these train
        queries."""
        return None

    def _by_level(
        self, logits: list[Tensor], path: Tensor, query_rows: np.ndarray, rows: np.ndarray
    ) -> Tensor:
        """L losses of examples, whose codes are `path` and whose products are `rows`."""
        smoothing = self._recipe.label_smoothing
        retrieval = int((query_rows >= 0).sum())
        if not self._recipe.soft_targets or not retrieval:
            return torch.stack(
                [
                    cross_entropy(values, path[:, level], label_smoothing=smoothing)
                    for level, values in enumerate(logits)
                ]
            )
        shares = self._shares(
            query_rows[:retrieval], path[:retrieval], [x.shape[1] for x in logits]
        )
        losses = []
        for level, (values, share) in enumerate(zip(logits, shares, strict=True)):
            target = torch.zeros_like(values).scatter_(1, path[:, level : level + 1], 1.0)
            target[:retrieval] = share
            losses.append(cross_entropy(values, target, label_smoothing=smoothing))
        return torch.stack(losses)

    def _shares(self, query_rows: np.ndarray, path: Tensor, sizes: list[int]) -> list[Tensor]:
        """For each level B×K shares of the codes among the query's positives below the prefix."""
        begin = self._positives.indptr
        count = begin[query_rows + 1] - begin[query_rows]
        places = (
            np.minimum(np.arange(count.max()), (count - 1)[:, None]) + begin[query_rows][:, None]
        )
        known = self._on(np.arange(count.max()) < count[:, None])
        codes = self._codes[self._on(self._positives.rows[places])]  # B×P×L
        shares = []
        for level, size in enumerate(sizes):
            weight = known.float()
            share = torch.zeros(len(path), size, device=path.device)
            share.scatter_add_(1, codes[:, :, level], weight)
            shares.append(share / share.sum(dim=1, keepdim=True))
            known = known & (codes[:, :, level] == path[:, level : level + 1])
        return shares

    def _others(self, query_rows: np.ndarray, step: int) -> np.ndarray:
        """A worse product for each query: one that was judged so, else one of the catalogue."""
        rng = np.random.default_rng([self._recipe.schedule.seed, 1, step])
        drawn = self._worse.draw(query_rows, 1, rng)[:, 0]
        return np.where(drawn >= 0, drawn, rng.integers(0, len(self._codes), len(query_rows)))

    def _ranking(
        self, memory: Tensor, mask: Tensor, logits: list[Tensor], path: Tensor, rows: np.ndarray
    ) -> Tensor:
        """Sum of log(1 + exp(S_l(worse) - S_l(positive))) over the prefixes that differ.

        `rows`: the worse product of each retrieval example.
        """
        retrieval, other = len(rows), self._codes[self._on(rows)]
        theirs = self.model.decoder(memory[:retrieval], mask[:retrieval], other)
        losses = torch.zeros(retrieval, device=self.device)
        worse, same, terms = losses, losses == 0, []
        for level, (good, bad) in enumerate(zip(logits, theirs, strict=True)):
            right, wrong = path[:retrieval, level], other[:, level]
            losses = losses + good[:retrieval].log_softmax(-1).gather(1, right[:, None])[:, 0]
            worse = worse + bad.log_softmax(-1).gather(1, wrong[:, None])[:, 0]
            same = same & (right == wrong)
            terms.append(softplus(worse - losses).masked_fill(same, 0.0))
        return torch.stack(terms).sum()

    def _on(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        indexing = self._batches.indexing
        return {"pairs": len(self._batches.pairs[0]), "indexing examples a batch": indexing}

    def validate(self) -> float:
        """nDCG@10 of the dev queries by constrained search in the whole catalogue."""
        self.model.eval()
        trie = self._trie.to(self.device)
        kind = self.device.type
        with torch.autocast(kind, enabled=False):
            sequences = search(self.model, self._dev, trie, self._recipe.beam, self.device)
        self.model.train()
        queries = self._data.queries("dev")
        buckets = trie.bucket_begin, trie.bucket_rows
        rows, scores = expand(sequences.scores, sequences.nodes, buckets, 10, None)
        run = Run.from_arrays(rows, scores, queries, self._data.catalogue)
        judgments = self._data.judgments("dev")
        metrics = per_query(run, queries, judgments, self._recipe.gain, ("nDCG@10",))
        return float(metrics["nDCG@10"].to_numpy().mean())
