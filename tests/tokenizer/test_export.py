"""Exports of semantic IDs, by hand."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.tokenizer.export import as_csv, as_index

IDS = SemanticIds(np.array([[3, 0], [12, 255]]), (16, 256), 2)
PRODUCTS = pl.Series(["p1", "p,2"])


def test_a_row_a_product() -> None:
    assert as_csv(IDS, PRODUCTS).decode() == 'product_id,code_1,code_2\np1,3,0\n"p,2",12,255\n'


def test_a_token_a_level() -> None:
    index = json.loads(as_index(IDS, PRODUCTS))
    assert index == {"p1": ["<a_3>", "<b_0>"], "p,2": ["<a_12>", "<b_255>"]}


def test_more_levels_than_letters_are_refused() -> None:
    long = SemanticIds(np.zeros((1, 27), dtype=np.int32), (1,) * 27, 27)
    with pytest.raises(InputError, match="26 levels, not 27"):
        as_index(long, pl.Series(["p"]))
