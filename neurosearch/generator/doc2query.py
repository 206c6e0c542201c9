"""Queries that a sequence model writes for products (docTTTTTquery, Nogueira & Lin 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.digests import content
from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset
from neurosearch.nn.pretrained import weights_digest


@dataclass(frozen=True)
class Doc2Query(Recipe):
    """Attributes:
    model: a sequence-to-sequence model, by name or path, such as
        doc2query/msmarco-t5-base-v1.
    per_product: queries each.
    top_k: that sampling draws from.
    """

    model: str = content(weights_digest)
    per_product: int = setting(5, least=1)
    max_length: int = setting(24, least=1)
    top_k: int = setting(10, least=1)


@dataclass(frozen=True)
class PseudoQueries(Artifact[pl.DataFrame]):
    """queries.parquet: `row` of the product and `text`, without empty ones."""

    kind: ClassVar[str] = "pseudo_queries"
    data: Artifact[Dataset]
    recipe: Doc2Query
    fields: tuple[str, ...]
    separator: str
    seed: int

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        import torch
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        from neurosearch.nn.pretrained import WHOLE, model_source

        catalogue = runtime.get(self.data).catalogue
        texts = catalogue.all_texts(self.fields, self.separator)
        device = runtime.torch_device()
        with model_source("generator.doc2query.model", self.recipe.model) as source:
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            model = AutoModelForSeq2SeqLM.from_pretrained(source, **WHOLE).to(device).eval()
        torch.manual_seed(self.seed)
        rows, queries = [], []
        order = np.argsort([len(text) for text in texts], kind="stable")[::-1]
        size = 256 if device.type == "cuda" else 32
        with runtime.progressing("writing queries for products", len(texts)) as advance:
            for start in range(0, len(order), size):
                part = order[start : start + size]
                written = self._written(model, tokenizer, [texts[row] for row in part], device)
                rows.append(np.repeat(part, self.recipe.per_product))
                queries.extend(written)
                advance(len(part))
        frame = pl.DataFrame({"row": np.concatenate(rows), "text": queries})
        frame = frame.with_columns(pl.col("text").str.strip_chars()).unique(maintain_order=True)
        frame = frame.filter(pl.col("text") != "").sort("row", maintain_order=True)
        if frame.is_empty():
            raise InputError(f"generator.doc2query.model={self.recipe.model!r} wrote no query")
        frame.write_parquet(folder / "queries.parquet")
        return {"queries": frame.height}

    def _written(self, model: Any, tokenizer: Any, texts: Sequence[str], device: Any) -> list[str]:
        import torch

        inputs = tokenizer(
            list(texts), return_tensors="pt", padding=True, truncation=True, max_length=256
        ).to(device)
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                do_sample=True,
                top_k=self.recipe.top_k,
                max_new_tokens=self.recipe.max_length,
                num_return_sequences=self.recipe.per_product,
            )
        written: list[str] = tokenizer.batch_decode(output, skip_special_tokens=True)
        return written

    def load(self, folder: Path) -> pl.DataFrame:
        return pl.read_parquet(folder / "queries.parquet", glob=False)
