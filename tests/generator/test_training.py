"""Generators in training: they learn, they resume, their losses are the written ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.types import Dataset
from neurosearch.encoder.hashing import Hashing
from neurosearch.encoder.sentence import Sentence
from neurosearch.evaluation.gain import LabelGain
from neurosearch.generator.base import Generator
from neurosearch.generator.beam import free_search
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.dense_prefix import DensePrefix
from neurosearch.generator.doc2query import Doc2Query
from neurosearch.generator.t5 import T5
from neurosearch.generator.t5_scratch import ScratchT5
from neurosearch.nn.tokens import tokenize
from neurosearch.tokenizer.rqkmeans import RQKMeans
from neurosearch.training.schedule import Schedule

LABELS = {"E": 3.0, "S": 1.0, "C": 0.0, "I": 0.0}
GAIN = LabelGain("shop", LABELS, LABELS, ("E",))
SMALL = Shape(width=32, heads=2, head_width=16, feed=64, layers=1, dropout=0.1)
SCHEDULE = Schedule(epochs=4, lr=3e-3, warmup=0.05, validations=2, patience=0)
COMMON = {"batch_size": 64, "schedule": SCHEDULE, "beam": 5, "max_length": 16}


@pytest.fixture(scope="module")
def ids(shop: Artifact[Dataset]) -> Artifact[SemanticIds]:
    return RQKMeans(encoder=Hashing(dimensions=64), levels=2, codes=16).semantic_ids(shop)


def dense(tiny_model: str, **options) -> DensePrefix:
    encoder = Sentence(model=tiny_model, max_length=16)
    return DensePrefix(gain=GAIN, encoder=encoder, shape=SMALL, **{**COMMON, **options})


def module_of(recipe: Generator, runtime: Runtime, shop, ids):
    return recipe.trained(shop, ids).module(runtime)


@pytest.fixture(scope="module")
def tiny_bart(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BART of one layer and 32 dimensions over the same words."""
    from tokenizers import Tokenizer
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("bart")
    tokenizer = Tokenizer.from_file(f"{tiny_model}/tokenizer.json")
    sizes = {"d_model": 32, "max_position_embeddings": 64}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 1, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 64}
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3}
    torch.manual_seed(0)
    config = BartConfig(vocab_size=tokenizer.get_vocab_size(), scale_embedding=True, **sizes)
    config.update(special)
    BartForConditionalGeneration(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]")
    fast.save_pretrained(folder)
    return str(folder)


def test_any_decoder_is_searched_as_it_was_trained(tiny_bart: str) -> None:
    """Against teacher forcing of all IDs; and its first vector is that of its own first word."""
    from transformers import BartModel

    model = T5(gain=GAIN, model=tiny_bart, max_length=16).network((3, 2, 4), None).eval()
    theirs = BartModel.from_pretrained(tiny_bart).eval()
    first = theirs.decoder.embed_tokens(torch.tensor([3]))[0]
    assert torch.equal(model.decoder.start, first) and float(first.norm()) > 0
    codes = torch.cartesian_prod(*(torch.arange(n) for n in (3, 2, 4)))
    tokens = tokenize(model.reader.tokenizer, ["red mug", "a blue steel lamp"], 16)
    with torch.inference_mode():
        memory, mask = model.read(tokens, torch.device("cpu"))
        stepper = model.decoder.decoding(memory, mask)
        found = free_search(stepper, (3, 2, 4), 24)
        for query in range(2):
            rows = (x[query : query + 1].expand(24, *x.shape[1:]) for x in (memory, mask))
            logits = model.decoder(*rows, codes)
            known = sum(
                values.log_softmax(-1).gather(1, codes[:, level : level + 1])[:, 0]
                for level, values in enumerate(logits)
            )
            by_score = known.argsort(descending=True)
            assert found.scores[query].tolist() == pytest.approx(known[by_score].tolist(), abs=1e-5)
            assert found.codes[query].tolist() == codes[by_score].tolist()
        # Padding changes nothing.
        alone, there = model.read(tokens.take(np.array([0])), torch.device("cpu"))
        again = free_search(model.decoder.decoding(alone, there), (3, 2, 4), 24)
        assert again.scores[0].tolist() == pytest.approx(found.scores[0].tolist(), abs=1e-5)
    with pytest.raises(InputError, match=r"generator\.max_length=65, but the model reads 64"):
        T5(gain=GAIN, model=tiny_bart, max_length=65).network((3, 2), None)


@pytest.mark.parametrize("kind", ["states", "vector", "scratch", "t5", "bart"])
def test_training_helps(kind: str, tiny_model, tiny_t5, tiny_bart, shop_runtime, shop, ids) -> None:
    recipe: Generator
    if kind == "scratch":
        recipe = ScratchT5(gain=GAIN, vocabulary=tiny_model, shape=SMALL, **COMMON)
    elif kind in ("t5", "bart"):
        model = tiny_t5 if kind == "t5" else tiny_bart
        recipe = T5(gain=GAIN, model=model, reader_rate=1.0, **COMMON)
    else:
        recipe = dense(tiny_model, memory=kind, frozen=kind == "vector", reader_rate=0.3)
    artifact = recipe.trained(shop, ids)
    module = artifact.module(shop_runtime)
    assert module.steps == round(4 * 500 / 64)

    def loss(model) -> float:
        model.eval()
        tokens, rows, _ = module._batches.draw(10_000)
        memory, mask = model.read(tokens, torch.device("cpu"))
        path = module._codes[torch.from_numpy(rows)]
        with torch.no_grad():
            logits = model.decoder(memory, mask, path)
            return float(module._by_level(logits, path, np.full(len(rows), -1), rows).mean())

    before = loss(module.model)
    assert loss(shop_runtime.get(artifact).network()) < before - 0.3
    manifest = shop_runtime.store.manifest(artifact)
    assert manifest["details"]["steps"] == module.steps


def test_half_precision_trains_too(tiny_model: str, tmp_path: Path, shop, ids) -> None:
    runtime = Runtime(outputs=tmp_path, device="cpu", progress=False)
    brief = replace(SCHEDULE, epochs=0.5, validations=1, precision="bf16")
    artifact = dense(tiny_model, schedule=brief).trained(shop, ids)
    weights = load_file(runtime.store.ensure(artifact) / "generator.safetensors")
    assert all(torch.isfinite(x).all() for x in weights.values() if x.is_floating_point())


def test_soft_targets_are_shares_of_the_positives(tiny_model, shop_runtime, shop, ids) -> None:
    module = module_of(dense(tiny_model, soft_targets=True), shop_runtime, shop, ids)
    # Query 0 has products 0, 1, 2 and query 1 product 3, with these IDs:
    module._codes = torch.tensor([[0, 1], [0, 2], [1, 2], [2, 0]])
    module._positives = type(module._positives)(np.array([0, 3, 4]), np.array([0, 1, 2, 3]))
    path = torch.tensor([[0, 2], [2, 0]])
    first, second = module._shares(np.array([0, 1]), path, [3, 3])
    assert first[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert second[0].tolist() == pytest.approx([0, 0.5, 0.5])  # of those that begin with 0
    assert first[1].tolist() == [0, 0, 1] and second[1].tolist() == [1, 0, 0]
    # Cross-entropy of uniform logits against any distribution is log K.
    losses = module._by_level([torch.zeros(2, 3)] * 2, path, np.array([0, 1]), np.array([0, 0]))
    assert losses.tolist() == pytest.approx([np.log(3)] * 2)


def test_hard_targets_are_plain_cross_entropy(tiny_model, shop_runtime, shop, ids) -> None:
    module = module_of(dense(tiny_model), shop_runtime, shop, ids)
    logits = [torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[0.0, 1.0, 0.0]])]
    losses = module._by_level(logits, torch.tensor([[1, 0]]), np.array([0]), np.array([0]))
    wanted = [
        -np.log(np.exp(2) / (np.exp(1) + np.exp(2) + np.exp(0.5))),
        -np.log(1 / (2 + np.exp(1))),
    ]
    assert losses.tolist() == pytest.approx(wanted)


def test_ranking_compares_each_prefix_with_a_worse_product(
    tiny_model, shop_runtime, shop, ids
) -> None:
    module = module_of(dense(tiny_model, ranking=1.0), shop_runtime, shop, ids)
    module._codes = torch.tensor([[0, 1], [0, 0]])
    worse = type(module._positives)(np.array([0, 1]), np.array([1]))
    module._worse = worse
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])

    class Decoder(torch.nn.Module):
        def forward(self, memory, mask, codes):
            assert codes.tolist() == [[0, 0]]
            return [first, second]

    module.model.decoder = Decoder()
    memory, mask = torch.zeros(1, 1, 4), torch.ones(1, 1, dtype=torch.bool)
    other = module._others(np.array([0]), 0)
    assert other.tolist() == [1]
    loss = module._ranking(memory, mask, [first, second], torch.tensor([[0, 1]]), other)
    # The first codes are one prefix: nothing to rank. The second: S(worse) - S(own) = 0 - 2.
    assert float(loss) == pytest.approx(np.log(1 + np.exp(-2)))


def test_a_frozen_encoder_stays_as_it_is(tiny_model, shop_runtime, shop, ids) -> None:
    brief = replace(SCHEDULE, epochs=0.5, validations=1)
    recipe = dense(tiny_model, memory="vector", frozen=True, schedule=brief)
    network = shop_runtime.get(recipe.trained(shop, ids)).network()
    fresh = recipe.encoder.tower()
    for mine, theirs in zip(network.reader.network.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_packed_texts_read_as_padded_ones(tiny_model: str) -> None:
    from neurosearch.nn.text_encoder import packed, padded
    from neurosearch.nn.tokens import tokenize

    torch.manual_seed(0)
    network = dense(tiny_model).network((4, 4), None).eval()
    reader, device = network.reader, torch.device("cpu")
    tokens = tokenize(reader.tokenizer, ["red wool rug", "lamp", "a ceiling fan for the hall"], 16)
    with torch.no_grad():
        rows, mask = reader(padded(tokens, device))
        flat, there = reader(packed(tokens, device))
    assert torch.equal(mask, there)
    torch.testing.assert_close(rows[mask], flat[there], atol=1e-5, rtol=1e-5)


def test_products_own_queries_are_written(tiny_t5: str, tiny_model, runtime, shop, ids) -> None:
    brief = replace(SCHEDULE, epochs=0.5, validations=1)
    writer = Doc2Query(model=tiny_t5, per_product=2, max_length=4)
    recipe = dense(tiny_model, doc2query=writer, schedule=brief)
    artifact = recipe.trained(shop, ids)
    written = runtime.get(artifact.pseudo)
    assert written["row"].is_sorted() and 0 < written.height <= 1000
    assert (written["text"].str.len_chars() > 0).all()
    assert runtime.get(artifact).network() is not None


def test_killed_and_resumed_it_ends_the_same(
    tiny_model: str, tmp_path: Path, shop, ids, monkeypatch
) -> None:
    from neurosearch.generator.training import GeneratorModule

    artifact = dense(tiny_model, schedule=replace(SCHEDULE, epochs=2)).trained(shop, ids)
    whole = Runtime(outputs=tmp_path / "whole", device="cpu", progress=False)
    one = whole.store.ensure(artifact)
    runtime = Runtime(tmp_path / "killed", device="cpu", progress=False, checkpoint_seconds=0)
    step = GeneratorModule.training_step

    def dying(self, number, batch_idx):
        if number == 9:
            raise SystemExit("killed")
        return step(self, number, batch_idx)

    monkeypatch.setattr(GeneratorModule, "training_step", dying)
    with pytest.raises(SystemExit):
        runtime.get(artifact)
    assert runtime.store.manifest(artifact) is None
    monkeypatch.setattr(GeneratorModule, "training_step", step)
    two = runtime.store.ensure(artifact)
    assert runtime.store.manifest(artifact)["details"]["resumed at"] >= 8
    mine, theirs = (load_file(folder / "generator.safetensors") for folder in (one, two))
    for name, weight in mine.items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 1}, r"batch_size must be at least 2, not 1"),
        ({"index_ratio": 1000.0}, r"index_ratio is 1000\.0, which leaves no place"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be at least 0 and below 1"),
        ({"positive_share": 2.0}, r"positive_share must be above 0 and at most 1"),
        ({"fields": ("nope",)}, r"generator\.fields: \['nope'\]; known are title"),
        ({"memory": "none"}, r"memory must be one of states, vector"),
        ({"prefix_tokens": 0}, r"prefix_tokens must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused(tiny_model: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dense(tiny_model, **options)


def test_what_cannot_read_is_refused_at_once(tiny_model: str) -> None:
    with pytest.raises(InputError, match=r"model is .*, a bert, which does not write"):
        T5(gain=GAIN, model=tiny_model, **COMMON)
    with pytest.raises(InputError, match=r"encoder is Hashing, which has no network"):
        DensePrefix(gain=GAIN, encoder=Hashing(), shape=SMALL, **COMMON)


def test_the_encoders_prefix_goes_before_every_text(tiny_model, shop_runtime, shop, ids) -> None:
    encoder = Sentence(model=tiny_model, max_length=16, query_prefix="red ")
    recipe = replace(dense(tiny_model), encoder=encoder)
    module = module_of(recipe, shop_runtime, shop, ids)
    red = module.model.reader.tokenizer.token_to_id("red")
    tokens, _, _ = module._batches.draw(0)
    assert (tokens.ids[tokens.offsets[:-1] + 1] == red).all()
    assert (module._dev.ids[module._dev.offsets[:-1] + 1] == red).all()
