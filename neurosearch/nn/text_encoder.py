"""The network of text encoders: a Hugging Face encoder, pooling, an optional projection.

A batch reaches it in one of two layouts. Padded: B×T tokens and a mask, of texts of similar
length, which any encoder takes and a CPU likes. Packed: all texts one after another in a single
row, with their bounds, so that nothing is padded and queries and products of any length go
through the network in one call; attention then is FlashAttention's kernel for sequences of
varying length (Dao 2023), on GPUs in bf16 and for the BERT family, where a position is a lookup.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging

from neurosearch.core.errors import InputError, first_line
from neurosearch.core.runtime import Runtime
from neurosearch.nn.adapters import merged
from neurosearch.nn.pooling import load_layers, pool, pool_packed, pools_packed
from neurosearch.nn.pretrained import (
    WHOLE,
    check_tokenizer,
    model_folder,
    model_source,
    refuse_longer,
)
from neurosearch.nn.sentence_folder import SentenceFolder, adapted, read_folder
from neurosearch.nn.taken import taken
from neurosearch.nn.tokens import Tokens, batches_by_budget, character_lengths, tokenize

ATTENTION = "neurosearch"
AHEAD = 2  # collections of texts tokenized while the device works on one


@dataclass(frozen=True)
class Batch:
    """B texts as one input of a network.

    Attributes:
        tokens: B×T padded, or 1×S packed.
        mask: B×T; None where packed.
        positions: 1×S place of each token in its text; None where padded.
        bounds: B+1 int32 places where texts begin; None where padded.
        longest: tokens of the longest text.
    """

    tokens: Tensor
    mask: Tensor | None
    positions: Tensor | None
    bounds: Tensor | None
    longest: int


def padded(tokens: Tokens, device: torch.device, filling: int = 0) -> Batch:
    """The texts as rows, filled up to the longest."""
    lengths = tokens.lengths
    longest = int(lengths.max())
    mask = np.arange(longest)[None, :] < lengths[:, None]
    filled = np.full(mask.shape, filling, dtype=np.int64)
    filled[mask] = tokens.ids
    return Batch(_on(filled, device), _on(mask.astype(np.int64), device), None, None, longest)


def packed(tokens: Tokens, device: torch.device) -> Batch:
    """The texts one after another."""
    lengths = tokens.lengths
    positions = np.arange(len(tokens.ids)) - np.repeat(tokens.offsets[:-1], lengths)
    bounds = _on(tokens.offsets.astype(np.int32), device)
    longest = int(lengths.max())
    return Batch(_on(tokens.ids[None], device), None, _on(positions[None], device), bounds, longest)


def _on(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device, non_blocking=True)


def check_length(network: Any, key: str, length: int) -> None:
    """Raise InputError where a text of `length` tokens is longer than the network reads."""
    refuse_longer(getattr(network.config, "max_position_embeddings", None), key, length)


def packs(network: Any, device: torch.device, half: bool) -> bool:
    """Whether batches of a network on `device` are packed."""
    kernel = importlib.util.find_spec("torch.nn.attention.varlen") is not None
    return kernel and half and network.config.model_type == "bert" and device.type == "cuda"


class TextTower(nn.Module):
    """Texts to vectors, as the model's folder says. Attention weights are never dropped out.

    Args:
        model: a folder, a name that a package carries, or a name on the hub.
        pooling: instead of the folder's own (mean where it says nothing).
        projection: dimensions of a linear map of ours after everything else; None for none.
        key: of the config, for messages.

    Raises:
        InputError: the model can't be loaded, or has a module that is not computed here.
    """

    def __init__(
        self,
        model: str,
        pooling: str | None = None,
        projection: int | None = None,
        key: str = "encoder.model",
    ) -> None:
        super().__init__()
        folder = model_folder(model, key)
        self.format = read_folder(folder, key)
        refuse_foreign(self.format, model, key)
        self.network, self.tokenizer = load_pretrained(str(self.format.transformer), key)
        if self.format.lower_case:
            lower_cased(self.tokenizer)
        self.pooling = (pooling,) if pooling else self.format.pooling or ("mean",)
        width: int = self.network.config.hidden_size
        self.layers, width = load_layers(self.format.layers, width * len(self.pooling))
        self.dimensions = projection or width
        self.projection = nn.Linear(width, projection, bias=False) if projection else None
        # Vectors of a model that compares by inner product keep their lengths.
        self.has_unit_length = self.format.normalized or self.format.similarity != "dot"

    def check_length(self, key: str, length: int) -> None:
        """Raise InputError where a text of `length` tokens is longer than the network reads."""
        check_length(self.network, key, length)

    def packs(self, device: torch.device, half: bool) -> bool:
        """Whether batches on `device` are packed."""
        return pools_packed(self.pooling) and packs(self.network, device, half)

    def forward(self, batch: Batch) -> Tensor:
        """B×D float32 vectors, of unit length unless the model says otherwise."""
        return self.states(batch)[0]

    def states(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """B×D float32 vectors, and token states: B×T×width padded, or S×width packed."""
        if batch.bounds is None:
            output = self.network(input_ids=batch.tokens, attention_mask=batch.mask)
            states = output.last_hidden_state
            pooled = pool(states, batch.mask, self.pooling)
        else:
            extent = {"cu_seq_lens_q": batch.bounds, "max_length_q": batch.longest}
            output = self.network(batch.tokens, position_ids=batch.positions, **extent)
            states = output.last_hidden_state[0]
            pooled = pool_packed(states, batch.bounds, self.pooling)
        for layer in self.layers:
            weight = getattr(layer, "weight", None)
            pooled = layer(pooled if weight is None else pooled.to(weight.dtype))
        if self.projection is not None:
            pooled = self.projection(pooled.to(self.projection.weight.dtype))
        vectors = pooled.float()
        return (normalize(vectors, dim=-1) if self.has_unit_length else vectors), states

    def encode(self, tokens: Tokens, budget: int, device: torch.device, half: bool) -> Tensor:
        """N×D vectors in the order of `tokens`, batch by batch, with a graph where one is on.

        `budget`: tokens of a batch; padding counts.
        """
        is_packed = self.packs(device, half)
        layout = packed if is_packed else padded
        batches = batches_by_budget(tokens.lengths, budget, is_packed)
        vectors = [self(layout(tokens.take(rows), device)) for rows in batches]
        order = torch.from_numpy(np.argsort(np.concatenate(batches)))
        return taken(torch.cat(vectors), order.to(device))


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """Attention within each text: B×H×T×D states and a mask, or 1×H×S×D states and bounds."""
    bounds = options.get("cu_seq_lens_q")
    if bounds is None:
        outputs: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, mask, **options
        )
        return outputs
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        longest = options["max_length_q"]
        # Its default scale is what every BERT has, one over the root of a head's width.
        result = varlen_attn(q, k, v, bounds, bounds, longest, longest)
        assert isinstance(result, Tensor)
        return result.unsqueeze(0), None
    # No such kernel on a CPU; a mask of blocks says the same.
    text_of = torch.searchsorted(bounds[1:].long(), torch.arange(query.shape[2]), right=True)
    blocks = text_of[:, None] == text_of[None, :]
    mixed = scaled_dot_product_attention(query, key, value, attn_mask=blocks)
    return mixed.transpose(1, 2), None


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def load_pretrained(model: str, key: str = "encoder.model") -> tuple[Any, Any]:
    """The transformers model and its `tokenizers` tokenizer, from folder, package or hub.

    Raises InputError, naming the config `key`, where none of them has it.
    """
    folder = model_folder(model, key)
    base = adapted(folder, key)
    if base is not None:
        network, tokenizer = load_pretrained(str(read_folder(base, key).transformer), key)
        own = (folder / "tokenizer.json").is_file()
        return merged(network, folder), load_tokenizer(str(folder)) if own else tokenizer
    with model_source(key, model) as source:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(f"{key}={model!r}: a {config.model_type} reads and writes: no encoder")
        if not hasattr(config, "hidden_size"):
            raise InputError(f"{key}={model!r}: a {config.model_type}, no encoder of texts alone")
        if hasattr(config, "attention_probs_dropout_prob"):
            config.attention_probs_dropout_prob = 0.0
        known = _network(source, config)
        if getattr(known, "pooler", None) is not None:
            known.pooler = None  # BERT's pooler is never used: it must not count as untrained.
        tokenizer = load_tokenizer(source)
        check_vocabulary(tokenizer, config, source)
        return known, tokenizer


def check_vocabulary(tokenizer: Any, config: Any, source: str) -> None:
    """Raise InputError for a tokenizer with tokens that the network has no vectors of."""
    tokens, vectors = tokenizer.get_vocab_size(), getattr(config, "vocab_size", None)
    if vectors is not None and tokens > vectors:
        raise InputError(f"{source}: {tokens} tokens of the tokenizer, {vectors} of the network")


def _network(source: str, config: Any) -> Any:
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # of what a folder lacks, the exception below speaks
    try:
        network, report = AutoModel.from_pretrained(
            source, config=config, output_loading_info=True, **WHOLE
        )
    finally:
        logging.set_verbosity(level)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(f"{source}: its weights lack {missing[0]}{more}, which config.json names")
    # An architecture with its own attention (MPNet) would add our boolean mask to its scores.
    if network._supports_sdpa:
        network.set_attn_implementation(ATTENTION)
    return network


def refuse_foreign(folder: SentenceFolder, model: str, key: str) -> None:
    """Raise InputError for a model that only sentence-transformers itself can compute."""
    if folder.static is not None:
        raise InputError(f"{key}={model!r}: it is a table of token vectors, without a network")
    if folder.foreign:
        raise InputError(f"{key}={model!r}: its module {folder.foreign} is not supported here")


def lower_cased(tokenizer: Any) -> None:
    """Make a tokenizer lower-case its texts first, unless it does."""
    from tokenizers.normalizers import Lowercase, Sequence

    known = str(tokenizer.normalizer)
    if "Lowercase(" in known or "lowercase=True" in known:
        return
    rest = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
    tokenizer.normalizer = Sequence([Lowercase(), *rest])


def load_tokenizer(source: str) -> Any:
    """The `tokenizers` tokenizer of a model's folder, or of its name on the hub."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    # The tokenizer's threads are ours to count; forks of them only warn.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    check_tokenizer(Path(source))
    file, config = Path(source) / "tokenizer.json", Path(source) / "tokenizer_config.json"
    # What a tokenizer adds is in its own file, unless its config says otherwise.
    added = config.exists() and re.search(r'"add_(bos|eos)_token"', config.read_text("utf-8"))
    if file.exists() and not added:
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # of its own kind, which is a plain Exception
            raise InputError(f"{file}: can't be read ({first_line(error)})") from None
    else:
        slow = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        tokenizer = slow.backend_tokenizer
    tokenizer.no_padding()  # some files pad every text to a fixed length
    tokenizer.no_truncation()
    return tokenizer


class LiveText:
    """Towers on the runtime's device; encodes queries, or products."""

    def __init__(
        self,
        query: TextTower,
        product: TextTower,
        max_lengths: tuple[int, int],
        precision: str,
        runtime: Runtime,
    ) -> None:
        for tower, length in zip((query, product), max_lengths, strict=True):
            tower.check_length("encoder.max_length", length)
        self._device = runtime.torch_device()
        self._half = precision == "bf16"
        self._budget = runtime.batch_budget(self._device)
        kind = torch.bfloat16 if self._half else torch.float32
        self._towers = [x.to(self._device, kind).eval() for x in (query, product)]
        self._max_lengths = max_lengths
        self._side = 0
        self.dimensions = query.dimensions

    @property
    def towers(self) -> list[TextTower]:
        """Of queries and of products; the same one twice where it is shared."""
        return self._towers

    @property
    def max_lengths(self) -> tuple[int, int]:
        """Tokens of queries and of products."""
        return self._max_lengths

    def for_products(self) -> LiveText:
        self._side = 1
        return self

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        return character_lengths(texts)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return self._vectors(self._tokens(texts))

    def stream(self, collections: Iterable[Sequence[str]]) -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(1) as ahead:
            waiting: deque[Future[Tokens]] = deque()
            for texts in collections:
                waiting.append(ahead.submit(self._tokens, texts))
                if len(waiting) > AHEAD:
                    yield self._vectors(waiting.popleft().result())
            while waiting:
                yield self._vectors(waiting.popleft().result())

    def tokens(self, texts: Sequence[str], side: int) -> Tokens:
        """Of a side's texts: 0 for queries, 1 for products.

        Args:
            texts: with their prefixes.
            side: 0 or 1.

        Returns:
            Their tokens, cut at the side's length.
        """
        return tokenize(self._towers[side].tokenizer, texts, self._max_lengths[side])

    def _tokens(self, texts: Sequence[str]) -> Tokens:
        return self.tokens(texts, self._side)

    def _vectors(self, tokens: Tokens) -> np.ndarray:
        tower = self._towers[self._side]
        with torch.inference_mode():
            vectors = tower.encode(tokens, self._budget, self._device, self._half)
            array: np.ndarray = vectors.cpu().numpy()
        return array
