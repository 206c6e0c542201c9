"""Networks of generators: a reader of texts, and the decoder over codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from neurosearch.core.errors import InputError
from neurosearch.generator.beam import Beams, beam_search, free_search
from neurosearch.generator.decoder import CodeDecoder
from neurosearch.generator.foreign_decoder import ForeignDecoder
from neurosearch.generator.graphs import Graphs
from neurosearch.generator.trie import Trie
from neurosearch.nn.pretrained import WHOLE, model_source
from neurosearch.nn.taken import taken
from neurosearch.nn.text_encoder import (
    Batch,
    TextTower,
    check_vocabulary,
    load_tokenizer,
    packed,
    padded,
)
from neurosearch.nn.tokens import Tokens, batches_by_budget

NO_SEQ2SEQ = "no sequence-to-sequence model that codes can be given to"


class Seq2SeqReader(nn.Module):
    """The encoder of T5, or of another such model: B×T×width states of its tokens."""

    def __init__(self, encoder: Any, tokenizer: Any) -> None:
        super().__init__()
        self.network, self.tokenizer = encoder, tokenizer
        self.width: int = encoder.config.d_model

    def packs(self, device: torch.device) -> bool:
        """Never: these models' positions need rows."""
        return False

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        output = self.network(input_ids=batch.tokens, attention_mask=batch.mask)
        assert batch.mask is not None
        return output.last_hidden_state, batch.mask.bool()


class DenseReader(nn.Module):
    """A sentence encoder: its vector as `prefix` tokens and, unless `vector_only`, its states.

    `frozen`: the encoder is used as it is.
    """

    def __init__(self, tower: TextTower, prefix: int, vector_only: bool, frozen: bool) -> None:
        super().__init__()
        self.network, self.tokenizer = tower, tower.tokenizer
        self.vector_only, self.frozen = vector_only, frozen
        self.width: int = tower.network.config.hidden_size
        self.prefix = nn.Linear(tower.dimensions, prefix * self.width)
        self.scale = nn.Parameter(torch.tensor(tower.dimensions**0.5))  # of a unit vector
        for parameter in tower.parameters():
            parameter.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> DenseReader:
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self

    def packs(self, device: torch.device) -> bool:
        """Whether texts are read packed: where the tower can, under half precision."""
        half = torch.is_autocast_enabled(device.type)
        return self.network.packs(device, half)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.parts(batch)[1:]

    def parts(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """B×D unit vectors of the texts, and the memory and its mask that are made of them."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            vectors, states = self.network.states(batch)
        tokens = self.prefix(vectors * self.scale).unflatten(1, (-1, self.width))
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if self.vector_only:
            return vectors, tokens, mask
        if batch.bounds is None:
            assert batch.mask is not None
            rows, there = states.to(tokens.dtype), batch.mask.bool()
        else:
            places = torch.arange(batch.longest, device=tokens.device)
            lengths = batch.bounds.diff()
            there = places < lengths[:, None]
            at = (batch.bounds[:-1, None] + places).clamp_(max=len(states) - 1)
            rows = states[at].to(tokens.dtype)
        return vectors, torch.cat([tokens, rows], dim=1), torch.cat([mask, there], dim=1)


class CodeModel(nn.Module):
    """Texts to codes. `reader` and `decoder` may be any that fit."""

    def __init__(self, reader: Any, decoder: CodeDecoder | ForeignDecoder) -> None:
        super().__init__()
        self.reader, self.decoder = reader, decoder

    def read(self, tokens: Tokens, device: torch.device) -> tuple[Tensor, Tensor]:
        """B×T×width memory and its B×T mask.

        Texts are read packed where the reader can, else in groups of similar length: padding is
        what costs.
        """
        if self.reader.packs(device):
            packing: tuple[Tensor, Tensor] = self.reader(packed(tokens, device))
            return packing
        groups = batches_by_budget(tokens.lengths, 16_384 if device.type == "cuda" else 2_048)
        read = [self.reader(padded(tokens.take(rows), device)) for rows in groups]
        if len(read) == 1:
            memory, mask = read[0]
        else:
            longest = max(states.shape[1] for states, _ in read)
            rooms = [longest - states.shape[1] for states, _ in read]
            memory = torch.cat(
                [pad(x, (0, 0, 0, n)) for (x, _), n in zip(read, rooms, strict=True)]
            )
            mask = torch.cat([pad(m, (0, n)) for (_, m), n in zip(read, rooms, strict=True)])
        order = torch.from_numpy(np.argsort(np.concatenate(groups))).to(device)
        return taken(memory, order), mask[order]


@dataclass(frozen=True)
class Found:
    """Beams of all queries, on the host: Q×W scores (float32) and nodes (int64), Q×W×l codes."""

    scores: np.ndarray
    nodes: np.ndarray
    codes: np.ndarray


@torch.inference_mode()
def search(
    model: CodeModel,
    tokens: Tokens,
    trie: Trie,
    width: int,
    device: torch.device,
    depth: int | None = None,
    constrained: bool = True,
    graphs: Graphs | None = None,
) -> Found:
    """The best IDs (or prefixes of `depth` codes) of each text, in slices of similar lengths.

    In fp32: the sums that rank hundreds of IDs are not for half precision.

    Args:
        tokens: of the texts.
        trie: of the catalogue's IDs.
        width: of the beam.
        depth: codes of a prefix; None for whole IDs.
        constrained: to the catalogue's IDs; otherwise all sequences of codes compete, and the node
            of one that no product has is -1.
        graphs: that few queries are decoded by on a GPU; None for plain calls.

    Returns:
        The beams of all texts, in their order.
    """

    def decoded(memory: Tensor, mask: Tensor) -> Beams:
        stepper = model.decoder.decoding(memory.float(), mask)
        if constrained:
            return beam_search(stepper, trie, width, depth)
        return free_search(stepper, trie.sizes, width)

    def whole(ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        beams = decoded(*model.reader(Batch(ids, mask, None, None, ids.shape[1])))
        return beams.scores, beams.nodes, beams.codes

    order = np.argsort(tokens.lengths, kind="stable")[::-1]
    size = max(1, (32_768 if device.type == "cuda" else 4_096) // width)
    parts: list[Beams] = []
    for start in range(0, len(order), size):
        some, found = tokens.take(order[start : start + size]), None
        if graphs is not None and graphs.fits(some, device):
            key = width, depth or 0, int(constrained), model, trie
            found = graphs.run(key, whole, some, device)
        beams = decoded(*model.read(some, device)) if found is None else Beams(*found)
        if not constrained:
            beams = Beams(beams.scores, trie.find(beams.codes), beams.codes)
        parts.append(beams)
    back = np.argsort(order)
    names = ("scores", "nodes", "codes")
    joined = (torch.cat([getattr(part, name) for part in parts]) for name in names)
    return Found(*(values.cpu().numpy()[back] for values in joined))


@torch.inference_mode()
def path_scores(
    model: CodeModel, tokens: Tokens, queries: np.ndarray, codes: np.ndarray, device: torch.device
) -> np.ndarray:
    """How likely each code of given IDs is, by teacher forcing.

    Args:
        tokens: of the queries.
        queries: P numbers of the pairs' queries.
        codes: P×L, the pairs' IDs.

    Returns:
        P×L float32 log-probabilities, each given the codes before it.
    """
    scores = np.empty(codes.shape, dtype=np.float32)
    size = 4_096 if device.type == "cuda" else 512
    order = np.argsort(queries, kind="stable")
    for start in range(0, len(order), size):
        pairs = order[start : start + size]
        distinct, back = np.unique(queries[pairs], return_inverse=True)
        memory, mask = model.read(tokens.take(distinct), device)
        again = torch.from_numpy(back).to(device)
        wanted = torch.from_numpy(codes[pairs].astype(np.int64)).to(device)
        logits = model.decoder(memory.float()[again], mask[again], wanted)
        for level, values in enumerate(logits):
            log_probability = values.log_softmax(-1).gather(1, wanted[:, level : level + 1])
            scores[pairs, level] = log_probability[:, 0].cpu().numpy()
    return scores


def pretrained_seq2seq(model: str) -> tuple[Any, Any]:
    """A model of transformers that reads and writes, and its tokenizer.

    Raises InputError where `model` is another kind.
    """
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    with model_source("generator.model", model) as source:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if not config.is_encoder_decoder or not hasattr(config, "d_model"):
            raise InputError(f"generator.model={model!r} is {config.model_type}: {NO_SEQ2SEQ}")
        tokenizer = load_tokenizer(source)
        check_vocabulary(tokenizer, config, source)
        return AutoModelForSeq2SeqLM.from_pretrained(source, **WHOLE), tokenizer
