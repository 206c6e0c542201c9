"""Small writers: probabilities that sum to one, in training as in writing; draws of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosearch as ns
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.nn.text_encoder import padded
from neurosearch.nn.tokens import tokenize
from neurosearch.query.none import NoProcessing
from neurosearch.training.schedule import Schedule
from neurosearch.writer.queries.live import LiveWriter, Writing
from neurosearch.writer.queries.network import CopyNetwork
from neurosearch.writer.queries.recipe import CopyShape, Queries

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def network(tiny_model: str) -> CopyNetwork:
    torch.manual_seed(0)
    shape = CopyShape(2, 2, 32, 0.0, 12, 16, tiny_model)
    made = CopyNetwork(shape, 12).eval()
    made.start(tokenize(made.reader.tokenizer, ["red sofa", "blue lamp"], 12).ids)
    return made


def test_what_follows_sums_to_one(network: CopyNetwork) -> None:
    tokens = tokenize(network.reader.tokenizer, ["red armchair red", "lamp"], 16)
    writing = Writing(network, padded(tokens, DEVICE), 3)
    new = torch.full((2, 3), network.begin)
    with torch.inference_mode():
        for _ in range(3):
            likely = writing.advance(new)
            # The begin is never written: its share is what is missing.
            assert bool((likely.sum(dim=-1) <= 1 + 1e-5).all())
            assert bool((likely.sum(dim=-1) > 0.5).all())
            new = writing.tokens(likely.argmax(dim=-1, keepdim=True)[..., 0])


def test_training_and_writing_agree(network: CopyNetwork) -> None:
    """A text's loss is what the steps of writing it give, token by token."""
    tokenizer = network.reader.tokenizer
    shown = tokenize(tokenizer, ["red armchair leather"], 16)
    target = tokenize(tokenizer, ["red armchair"], 12)
    ids, place = network.words
    with torch.inference_mode():
        losses = network.losses(padded(shown, DEVICE), padded(target, DEVICE))[0]
        writing = Writing(network, padded(shown, DEVICE), 1)
        for step, wanted in enumerate(target.ids[1:]):
            likely = writing.advance(torch.tensor([[int(target.ids[step])]]))[0, 0]
            column = int(place[wanted])
            if column < 0:  # only copied: it has the column of its first place in the text
                column = len(ids) + shown.ids.tolist().index(int(wanted))
            assert float(losses[step]) == pytest.approx(-np.log(float(likely[column])), rel=1e-4)


def test_only_words_of_train_or_of_the_text_are_written(network: CopyNetwork) -> None:
    tokenizer = network.reader.tokenizer
    allowed = {*tokenize(tokenizer, ["red sofa blue lamp leather"], 16).ids.tolist()}
    shown = tokenize(tokenizer, ["leather sofa"], 16)
    writing = Writing(network, padded(shown, DEVICE), 1)
    columns = len(network.words[0]) + len(shown.ids)
    written = {int(writing.tokens(torch.tensor([[n]]))) for n in range(columns)}
    assert written <= allowed | {network.begin}
    assert {tokenizer.token_to_id("leather"), tokenizer.token_to_id("lamp")} <= written


def test_a_draw_is_its_own(network: CopyNetwork) -> None:
    """The same with other texts beside it; another one for another seed or sample."""
    live = LiveWriter(network, (16, 12), DEVICE)
    (alone,) = live.write(["red sofa"], 6, 10, 0)
    beside = live.write(["blue lamp leather", "red sofa", "lamp"], 6, 10, 0)[1]
    assert alone == beside and len(set(alone)) > 1
    assert live.write(["red sofa"], 6, 10, 1)[0] != alone
    assert len(set(live.write(["red sofa"], 6, 1, 0)[0])) == 1  # the likeliest text


def recipe(model: str, **options: Any) -> Queries:
    shape = CopyShape(2, 2, 64, 0.0, 12, 16, model)
    schedule = Schedule(epochs=30.0, lr=3e-3, validations=2, patience=0, warmup=0.1)
    fields = {"gain": ns.gain("shop"), "query": NoProcessing(), "shape": shape, "batch_size": 64}
    return Queries(**{**fields, "schedule": schedule, "reader_rate": 1.0, **options})


def test_it_learns_what_is_asked_for(tiny_model: str, shop: Any, shop_runtime: Runtime) -> None:
    """Queries that it writes for products share words with them; more than with others'."""
    writer = recipe(tiny_model).fitted(shop)
    titles = shop_runtime.get(shop).catalogue.all_texts(("title",))[:60]
    written = writer.write(titles, shop_runtime, 2)

    def shared(shift: int) -> float:
        pairs = zip(titles, written[shift:] + written[:shift], strict=True)
        found = [set(t.lower().split()) & set(q.split()) for t, texts in pairs for q in texts]
        return sum(map(bool, found)) / len(found)

    assert shared(0) > shared(17) + 0.2, written[:20]


def test_data_without_train_queries_is_refused(
    tiny_model: str, tmp_path: Path, runtime: Runtime
) -> None:
    from tests.explainer.test_grounded import shop_of

    data: Any = shop_of(tmp_path / "mugs", "")
    with pytest.raises(InputError, match=r"writer=queries is trained on .* has no train queries"):
        recipe(tiny_model).fitted(data.data.bound(runtime))


def test_an_untrained_writer_says_what_to_do(tiny_model: str, runtime: Runtime) -> None:
    with pytest.raises(InputError, match="is trained on a data set"):
        recipe(tiny_model).write(["a"], runtime)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fields": ("name",)}, "writer.fields: \\['name'\\]; known are title"),
        ({"positive_share": 1.5}, "Queries.positive_share must be"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str, tiny_model: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe(tiny_model, **options)


def test_heads_divide_the_width(tiny_model: str) -> None:
    with pytest.raises(InputError, match=r"writer\.shape\.heads=5 does not divide 32"):
        CopyNetwork(replace(CopyShape(model=tiny_model), heads=5), 12)
