"""The next item: what is read of a history, and the whole path."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.data.amazon_reviews import AmazonReviews
from neurosearch.encoder.hashing import Hashing
from neurosearch.evaluation.catalogue import CatalogueProtocol
from neurosearch.evaluation.gain import LabelGain
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.dense_prefix import DensePrefix
from neurosearch.generator.history import HistoryGenerator
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.generative import Generative
from neurosearch.retriever.multiphase import Multiphase
from neurosearch.tokenizer.random import RandomIds
from neurosearch.tokenizer.rqkmeans import RQKMeans
from neurosearch.training.schedule import Schedule

GAIN = LabelGain("bought", {"bought": 1}, {"bought": 1}, ("bought",))


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> AmazonReviews:
    """Users who walk through 40 products in order: the next one can be known."""
    folder = tmp_path_factory.mktemp("bought")
    rng = np.random.default_rng(0)
    colours = ("red", "green", "blue", "black", "white")
    titles = [f"{colours[i % 5]} pen number {i}" for i in range(40)]
    pl.DataFrame({"item_id": list(range(40)), "title": titles}).write_parquet(
        folder / "items.parquet"
    )
    walks = [[int((start + step) % 40) for step in range(6)] for start in rng.integers(0, 40, 150)]
    users = pl.DataFrame({"user_id": [f"u{i}" for i in range(150)], "item_ids": walks})
    users.write_parquet(folder / "sequences.parquet")
    return AmazonReviews(path=str(folder))


def test_a_history_is_read_as_codes(bought: AmazonReviews, runtime: Runtime) -> None:
    data = runtime.get(bought.dataset())
    codes = np.stack([np.arange(40) // 8, np.arange(40) % 8], axis=1)
    ids = SemanticIds(codes, (5, 8), 2)
    queries = data.queries("test")
    generator = HistoryGenerator(gain=GAIN, max_length=6)
    texts = generator.query_texts(queries, data.catalogue, ids)
    for text, history in zip(texts, queries.frame["history"], strict=True):
        latest = [int(item) for item in history][-3:]
        assert text == " ".join(f"0:{item // 8} 1:{item % 8}" for item in latest)


def test_it_learns_to_go_on(bought: AmazonReviews, runtime: Runtime) -> None:
    shape = Shape(width=64, heads=2, head_width=32, feed=128, layers=1, dropout=0.0)
    schedule = Schedule(epochs=200, lr=1e-2, validations=1, patience=0)
    generator = HistoryGenerator(gain=GAIN, shape=shape, batch_size=64, schedule=schedule)
    system = Generative(
        generator=generator, tokenizer=RandomIds(encoder=Hashing(), levels=2, codes=16)
    )
    protocol = CatalogueProtocol(GAIN, depth=100, by="popularity")
    metrics = runtime.get(protocol.metrics(system, bought.dataset(), NoProcessing()))
    assert metrics["Recall@5"].mean() > 0.4  # by chance .125
    sliced = [name for name in metrics.columns if re.fullmatch(r"nDCG@10 \w+", name)]
    parts = pl.concat([metrics[name].drop_nulls() for name in sliced if "exp" not in name])
    assert len(parts) == metrics.height
    assert parts.mean() == pytest.approx(metrics["nDCG@10"].mean())
    assert not system.is_live


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match=r"index_ratio must be 0"):
        HistoryGenerator(gain=GAIN, index_ratio=1.0)
    with pytest.raises(InputError, match="reads no words"):
        Multiphase(tokenizer=RQKMeans(), generator=HistoryGenerator(gain=GAIN))
    assert DensePrefix(gain=GAIN).reads_words
