"""Constrained decoding, beside transformers' generate, in one run.

A small T5 (4 + 4 layers, width 128) with random weights, 32 queries, IDs of 4 codes of 256, the
same weights on both sides. End to end: text to the best IDs, constrained by a dict of prefixes
(`prefix_allowed_tokens_fn`) or not at all. The step alone: what masks the logits of the third code.
That both find the same IDs is asserted.

    python experiments/speed/decoding.py            # runtime.device=cpu for the CPU
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from encoding import Row, write
from hydra import compose, initialize_config_module
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PrefixConstrainedLogitsProcessor,
    T5Config,
    T5ForConditionalGeneration,
)

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.generator.beam import beam_search, grown
from neurosearch.generator.decoder import CodeDecoder, take_t5
from neurosearch.generator.decoder_config import Shape
from neurosearch.generator.graphs import Graphs
from neurosearch.generator.network import CodeModel, Seq2SeqReader, search
from neurosearch.generator.trie import Trie
from neurosearch.nn.text_encoder import Batch, padded
from neurosearch.nn.tokens import Tokens
from neurosearch.task.base import build

QUERIES, LENGTH, LEVELS, CODES, WORDS = 32, 16, 4, 256, 1000
COUNTS = (100_000, 1_000_000, 1_000)
COMPILED = 100_000  # IDs at which torch.compile is measured: it compiles for minutes
BEAMS = (10, 100)


def models(device: torch.device) -> tuple[T5ForConditionalGeneration, CodeModel]:
    """The same weights, theirs and ours; code c of level l is token WORDS + 256 l + c of theirs."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=WORDS + LEVELS * CODES,
        d_model=128,
        d_kv=32,
        d_ff=512,
        num_heads=4,
        num_layers=4,
        num_decoder_layers=4,
        decoder_start_token_id=0,
        eos_token_id=None,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    theirs = T5ForConditionalGeneration(config).eval()
    decoder = CodeDecoder((CODES,) * LEVELS, Shape(128, 4, 32, 512, 4), 128)
    take_t5(decoder, theirs)
    with torch.no_grad():
        for level in range(LEVELS):
            rows = slice(WORDS + level * CODES, WORDS + (level + 1) * CODES)
            decoder.heads[level].weight.copy_(theirs.lm_head.weight[rows])
            if level + 1 < LEVELS:
                decoder.embeddings[level].weight.copy_(theirs.shared.weight[rows])
    ours = CodeModel(Seq2SeqReader(theirs.encoder, None), decoder).eval()
    return theirs.to(device), ours.to(device)


class OwnLevel(LogitsProcessor):
    """Log-probabilities over the codes of the level that is being written."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        first = WORDS + CODES * (input_ids.shape[1] - 1)
        own = scores[:, first : first + CODES]
        return scores - own.logsumexp(dim=1, keepdim=True)


def allowed(codes: np.ndarray) -> dict[tuple[int, ...], list[int]]:
    """The tokens that may follow each prefix of tokens."""
    found: dict[tuple[int, ...], list[int]] = {}
    tokens = codes + WORDS + CODES * np.arange(LEVELS)
    for level in range(LEVELS):
        nodes = np.unique(tokens[:, : level + 1], axis=0)
        above, first = np.unique(nodes[:, :level], axis=0, return_index=True)
        children = np.split(nodes[:, level], first[1:]) if level else [nodes[:, 0]]
        keys = above.tolist() if level else [[]]
        found |= {tuple(k): c.tolist() for k, c in zip(keys, children, strict=True)}
    return found


def timed(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """Median seconds, after one call that is not counted."""
    values = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        values.append(time.perf_counter() - start)
    return statistics.median(values[1:])


def main() -> None:
    """Measure the cases and write the CSV."""
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        runtime = build(compose("config", sys.argv[1:]), "runtime")
    device = runtime.torch_device()
    repeats = 10 if device.type == "cuda" else 3
    theirs, ours = models(device)
    rng = np.random.default_rng(0)
    text = rng.integers(1, WORDS, (QUERIES, LENGTH))
    tokens = Tokens(text.ravel(), np.arange(QUERIES + 1) * LENGTH)
    inputs = {"input_ids": torch.from_numpy(text).to(device)}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    rows = []
    for count in COUNTS:
        # Kept clear of every fourth first code, so that the constraint does something.
        drawn = rng.integers(0, CODES, (count, LEVELS)).astype(np.int32)
        drawn[:, 0] -= drawn[:, 0] % 4 == 3
        codes = np.unique(drawn, axis=0)
        trie = Trie.of(SemanticIds(codes, (CODES,) * LEVELS, LEVELS)).to(device)
        known = allowed(codes)

        def follow(_: int, prefix: torch.Tensor, known: Any = known) -> list[int]:
            return known[tuple(prefix[1:].tolist())]

        for beams in BEAMS:
            options = {
                "num_beams": beams,
                "num_return_sequences": beams,
                "max_new_tokens": LEVELS,
                "do_sample": False,
                "length_penalty": 0.0,
            }

            def generate(rule: Any, options: Any = options) -> Any:
                with torch.inference_mode():
                    return theirs.generate(**inputs, **options, prefix_allowed_tokens_fn=rule)

            graphs = Graphs() if device.type == "cuda" else None

            def own(trie: Any = trie, beams: int = beams, graphs: Any = graphs) -> Any:
                return search(ours, tokens, trie, beams, device, graphs=graphs)

            # Their softmax is over all tokens; with ours both find the same IDs.
            masks = PrefixConstrainedLogitsProcessor(follow, beams)
            rules = LogitsProcessorList([OwnLevel(), masks])
            with torch.inference_mode():
                written = theirs.generate(**inputs, **options, logits_processor=rules)
            written = written[:, 1:].view(QUERIES, beams, LEVELS).cpu().numpy()
            same = written - WORDS - CODES * np.arange(LEVELS) == own().codes
            agreement = same.all(axis=2)[:, :5].mean()  # rounding may swap near equals
            assert agreement > 0.95, f"only {agreement:.2f} of the best five IDs agree"
            mine = timed(own, device, repeats)
            case = f"{count:,} IDs, {beams} beams, {device.type}"
            if graphs is not None:
                rows += captured(ours, tokens, trie, beams, device, case)
            for peer, rule in (("generate, constrained", follow), ("generate, free", None)):
                value = timed(lambda rule=rule: generate(rule), device, repeats)
                label = f"transformers {peer}"
                rates = QUERIES / mine, QUERIES / value
                rows.append(Row("decoding", case, rates[0], label, rates[1], "queries/s"))
                print(rows[-1], flush=True)
            rows.append(step(trie, codes, follow, beams, case, device, repeats, rng))
            print(rows[-1], flush=True)
            write("decoding.csv", rows)


def captured(
    model: CodeModel, tokens: Tokens, trie: Trie, beams: int, device: torch.device, case: str
) -> list[Row]:
    """A captured graph beside plain calls and beside torch.compile, for 32 queries and for one."""

    def compiled(some: Tokens) -> Callable[[], Any]:
        def work(ids: torch.Tensor, mask: torch.Tensor) -> Any:
            stepper = model.decoder.decoding(*model.reader(Batch(ids, mask, None, None, LENGTH)))
            return beam_search(stepper, trie, beams).scores

        ready = torch.compile(work, mode="reduce-overhead")

        def call() -> Any:
            batch = padded(some, device)
            with torch.inference_mode():
                torch.compiler.cudagraph_mark_step_begin()
                return ready(batch.tokens, batch.mask).cpu()

        return call

    found = []
    for queries in (QUERIES, 1):
        graphs, some = Graphs(), tokens.take(np.arange(queries))
        plain = search(model, some, trie, beams, device)
        replayed = [search(model, some, trie, beams, device, graphs=graphs) for _ in range(3)]
        assert not graphs.failed
        for one in replayed:
            np.testing.assert_allclose(one.scores, plain.scores, atol=1e-4)
            same = (one.nodes == plain.nodes).mean()
            assert same > 0.999, f"{same:.4f} of the beams are the same"

        def call(graphs: Graphs | None, some: Tokens = some) -> Any:
            return search(model, some, trie, beams, device, graphs=graphs)

        mine = timed(partial(call, graphs), device, 200)
        peers = {"plain calls": timed(partial(call, None), device, 50)}
        if COMPILED / 2 < trie.leaves <= COMPILED:
            peers["torch.compile, reduce-overhead"] = timed(compiled(some), device, 50)
        words = "32 queries" if queries == QUERIES else "a single query"
        for name, value in peers.items():
            figures = 1000 * mine, 1000 * value
            print(words, case, name, *(f"{x:.3f} ms" for x in figures), flush=True)
            rate = queries / mine, queries / value
            found.append(Row(f"captured, {words}", case, rate[0], name, rate[1], "queries/s"))
    return found


def step(
    trie: Trie,
    codes: np.ndarray,
    follow: Any,
    beams: int,
    case: str,
    device: torch.device,
    repeats: int,
    rng: np.random.Generator,
) -> Row:
    """The third code: prefixes of two codes that the catalogue has, random scores."""
    picked = rng.integers(0, len(codes), (QUERIES, beams))
    prefix = codes[picked][:, :, :2].astype(np.int64)
    begun = torch.zeros(QUERIES * beams, 1, dtype=torch.long)
    tokens = torch.from_numpy((prefix + WORDS + CODES * np.arange(2)).reshape(-1, 2))
    ids = torch.cat([begun, tokens], dim=1).to(device)
    scores = torch.randn(QUERIES * beams, WORDS + LEVELS * CODES, device=device)
    masks = PrefixConstrainedLogitsProcessor(follow, beams)
    peer = timed(lambda: masks(ids, scores.clone()), device, repeats)
    nodes = torch.from_numpy(trie.prefixes(2)[picked]).to(device)
    logp = torch.randn(QUERIES, beams, CODES, device=device)
    sums = torch.randn(QUERIES, beams, device=device)
    mine = timed(lambda: grown(trie.levels[2], logp, sums, nodes), device, 10 * repeats)
    return Row("masking step", case, 1 / mine, "transformers prefix processor", 1 / peer, "steps/s")


if __name__ == "__main__":
    main()
