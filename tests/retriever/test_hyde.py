"""HyDE: the formula by hand; weight 1 and empty texts leave the query; live as in batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import neurosearch as ns
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.image import ImageEncoder as Image
from neurosearch.query.none import NoProcessing
from neurosearch.retriever.dense import Dense
from neurosearch.retriever.hyde import Hyde
from neurosearch.writer.recorded import Recorded
from neurosearch.writer.template import Template
from neurosearch.writer.titles import Titles
from tests.requests import ask

ENCODER = Hashing(dimensions=64, query_prefix="query: ", product_prefix="product: ")


def test_the_formula(shop, shop_runtime: Runtime, runtime: Runtime, tmp_path: Path) -> None:
    texts = shop_runtime.get(shop).queries("test").texts
    lines = [{"prompt": f"for {t}", "text": f"{t} {n}"} for t in texts for n in ("blue", "oak")]
    lines[2]["text"] = "  "  # of the second query one text is empty
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    system = Hyde(ENCODER, writer=Recorded(str(path)), prompt="for {query}", samples=2, weight=0.3)
    written = system._queries(shop, ask(depth=50))
    vectors = shop_runtime.get(written).vectors
    plain = Hashing(dimensions=64).live(runtime)
    for number, text in enumerate(texts):
        own = [f"product: {text} blue", f"product: {text} oak"]
        own = own[1:] if number == 1 else own
        mean = plain.encode(own).mean(axis=0)
        moved = 0.3 * plain.encode([f"query: {text}"])[0] + 0.7 * mean
        assert vectors[number] == pytest.approx(moved / np.linalg.norm(moved), abs=1e-5)
    assert shop_runtime.store.manifest(written)["details"]["empty texts"] == 1
    run = shop_runtime.get(system.run(shop, ask(depth=50))).frame
    with system.searcher(shop, ask(depth=50), shop_runtime) as live:
        for _ in range(2):  # reading products must not change how queries are read
            _, scores = live.search(texts[:5], 50)
    for number, query in enumerate(shop_runtime.get(shop).queries("test").ids.to_list()[:5]):
        own = run.filter(query_id=query)["score"].to_numpy()
        assert scores[number][: len(own)] == pytest.approx(own, abs=1e-5)


def test_the_whole_weight_is_no_feedback(shop, shop_runtime: Runtime) -> None:
    plain = shop_runtime.get(Dense(ENCODER).run(shop, ask(depth=50))).frame["score"].to_numpy()
    alone = Hyde(ENCODER, writer=Template(), weight=1.0)
    assert shop_runtime.get(alone.run(shop, ask(depth=50))).frame["score"].to_numpy() == (
        pytest.approx(plain, abs=1e-5)
    )
    other = Hyde(ENCODER, writer=Template("oak sofa {prompt}"), weight=0.5)
    moved = shop_runtime.get(other.run(shop, ask(depth=50))).frame["score"].to_numpy()
    assert len(moved) != len(plain) or not np.allclose(moved, plain, atol=1e-3)


def test_the_trained_writer_is_served_too_and_its_training_counts(shop) -> None:
    writer = Titles(gain=ns.gain("shop"), query=NoProcessing())
    (index,) = Dense(ENCODER).serving(shop, ask())
    served = Hyde(ENCODER, writer=writer).serving(shop, ask())
    assert served[0] == index and [part.kind for part in served[1:]] == ["writer"]
    assert Hyde(ENCODER, writer=Template()).serving(shop, ask()) == [index]


def test_bad_settings() -> None:
    with pytest.raises(InputError, match=r"does not say where \{query\} goes"):
        Hyde(writer=Template(), prompt="a product")
    with pytest.raises(InputError, match="reads no words"):
        Hyde(Image(), writer=Template())
