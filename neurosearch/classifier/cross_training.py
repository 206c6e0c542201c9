"""The Lightning module that trains a cross-encoder on labelled pairs."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from neurosearch.core.distributed import world
from neurosearch.core.query import QueryProcessor
from neurosearch.core.run import Run, numbered_pairs
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.reranker.cross_encoder.network import cross_tower
from neurosearch.training.gather import in_order, shares
from neurosearch.training.module import TrainingModule


class ClassModule(TrainingModule):
    """What step s of seed r sees is a function of (r, s).

    Attributes:
        wanted: by split, the pairs' classes.
        prior: frequencies of the classes in train.
    """

    monitor: ClassVar[str] = "micro-F1"
    rate_key = "retriever.classifier.schedule.lr"

    def __init__(self, recipe: Any, data: Dataset, query: QueryProcessor, runtime: Runtime) -> None:
        super().__init__()
        self.automatic_optimization = False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.schedule.seed)
            self.network = cross_tower(recipe).train()
        self._runtime, self.schedule = runtime, recipe.schedule
        texts = data.catalogue.all_texts(recipe.fields, recipe.separator)
        self._products = self.network.tokens(texts, recipe.product_max_length, True)
        read = query.reader(runtime).texts
        self._asked, self._pairs, self.wanted = {}, {}, {}
        for split in ("train", "dev"):
            queries = data.queries(split).processed(read)
            self._asked[split] = self.network.tokens(queries.texts, recipe.query_max_length, False)
            labelled = Run(split, data.judgments(split).frame)
            judged = numbered_pairs(labelled, queries.ids, data.catalogue.ids).sort("query", "row")
            self._pairs[split] = judged["query"].to_numpy(), judged["row"].to_numpy()
            self.wanted[split] = recipe.classes.of(judged["label"])
        counts = np.bincount(self.wanted["train"], minlength=recipe.outputs)
        self.prior = counts / counts.sum()
        total = len(self.wanted["train"])
        self._size = min(recipe.schedule.batch(recipe.batch_size), total)
        self._per_epoch = max(1, total // self._size)
        self.steps = recipe.schedule.steps(self._per_epoch)

    def training_step(self, step: int, batch_idx: int) -> None:
        self.seed_step(step)
        epoch, within = divmod(step, self._per_epoch)
        rng = np.random.default_rng([self.schedule.seed, epoch])
        chosen = rng.permutation(len(self.wanted["train"]))
        chosen = chosen[within * self._size : (within + 1) * self._size]
        # Processes share the pairs; each one's loss is of all of them.
        order = shares(np.arange(len(chosen)))
        query, row = self._pairs["train"]
        mine = chosen[order[world()[0]]]
        outputs = in_order(self._outputs("train", query[mine], row[mine]), order)
        wanted = torch.from_numpy(self.wanted["train"][chosen]).to(self.device)
        self.optimize(cross_entropy(outputs, wanted), self.network.parameters())

    def _outputs(self, split: str, query: np.ndarray, row: np.ndarray) -> torch.Tensor:
        budget, half = self._runtime.batch_budget(self.device), self.schedule.half
        pairs, asked = (query, row), self._asked[split]
        return self.network.of_pairs(asked, self._products, pairs, budget, self.device, half)

    def dev_shares(self) -> np.ndarray:
        """P×C probabilities of the dev pairs, by the weights as they are now."""
        self.to(self._runtime.torch_device())  # a training leaves its weights on the processor
        self.network.eval()
        kind, half = self.device.type, self.schedule.half
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, half):
            outputs = self._outputs("dev", *self._pairs["dev"])
        self.network.train()
        found: np.ndarray = outputs.float().softmax(dim=1).cpu().double().numpy()
        return found

    def validate(self) -> float:
        """Micro-F1 of the dev pairs, which is the share that is right."""
        return float((self.dev_shares().argmax(axis=1) == self.wanted["dev"]).mean())
