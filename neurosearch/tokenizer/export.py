"""Semantic IDs for other programs: plain CSV, and the `index.json` of LC-Rec and MiniOneRec."""

from __future__ import annotations

import io
import json
import string

import numpy as np
import polars as pl

from neurosearch.core.errors import InputError
from neurosearch.core.semantic_ids import SemanticIds


def as_csv(ids: SemanticIds, products: pl.Series) -> bytes:
    """One row per product: `product_id`, then a column per level, `code_1` to `code_L`."""
    codes = np.asarray(ids.codes)
    levels = {f"code_{level + 1}": codes[:, level] for level in range(codes.shape[1])}
    stream = io.BytesIO()
    pl.DataFrame({"product_id": products, **levels}).write_csv(stream)
    return stream.getvalue()


def as_index(ids: SemanticIds, products: pl.Series) -> bytes:
    """`{product_id: ["<a_12>", "<b_3>", …]}`: a token per level, named by letter and code.

    Source: Zheng et al. 2024 (LC-Rec, arXiv 2311.09049), whose files MiniOneRec reads.

    Raises:
        InputError: an ID has more than 26 levels.
    """
    codes = np.asarray(ids.codes)
    if codes.shape[1] > len(string.ascii_lowercase):
        raise InputError(f"index.json has letters for 26 levels, not {codes.shape[1]}")
    tokens = [
        [f"<{letter}_{code}>" for letter, code in zip(string.ascii_lowercase, row, strict=False)]
        for row in codes.tolist()
    ]
    return json.dumps(dict(zip(products.to_list(), tokens, strict=True))).encode()
