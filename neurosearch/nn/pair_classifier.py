"""Networks that score pairs of texts with a head of their own, as published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurosearch.core.errors import InputError
from neurosearch.core.ragged import offsets_of
from neurosearch.core.runtime import Runtime
from neurosearch.nn.foreign import loaded
from neurosearch.nn.pretrained import WHOLE, check_tokenizer, model_folder, model_source, read_json
from neurosearch.nn.sentence_folder import ACTIVATIONS, longest_text
from neurosearch.nn.text_encoder import check_vocabulary, padded
from neurosearch.nn.tokens import Tokens, batches_by_budget

KEY = "reranker.model"
LONGEST = 512  # tokens, of a model that names no limit
SLICE = 2_048  # pairs tokenized at a time


def load_pair_scorer(recipe: Any, runtime: Runtime) -> PairClassifier | ForeignPairs:
    """The model of a `reranker.published.Published`.

    Raises:
        InputError: the folder is no model of pairs, or a file of it is missing or damaged.
    """
    folder = model_folder(recipe.model, KEY, recipe.allow)
    config = read_json(folder / "config.json")
    listing = folder / "modules.json"
    modules = read_json(listing, list) if listing.is_file() else []
    architecture = str((config.get("architectures") or ["?"])[0])
    settings = folder / "config_sentence_transformers.json"
    prompted = settings.is_file() and read_json(settings).get("default_prompt_name")
    plain = len(modules) <= 1 and not (recipe.allow or recipe.instruction or prompted)
    if architecture.endswith("ForSequenceClassification") and plain:
        return PairClassifier(recipe, folder, config, runtime)
    classifies = architecture.endswith("ForSequenceClassification")
    says_yes = architecture.endswith("ForCausalLM") and not modules
    if not classifies and not says_yes and not (modules and _gives_scores(folder, modules[-1])):
        raise InputError(
            f"{KEY}={recipe.model!r}: {architecture} scores no pairs of texts "
            "(a model for sequence classification, or a CrossEncoder, is needed)"
        )
    return ForeignPairs(recipe, folder, runtime)


def _gives_scores(folder: Path, module: dict[str, Any]) -> bool:
    """Whether a CrossEncoder's last module gives scores: log-odds of tokens, or a linear layer."""
    kind = str(module.get("type")).rpartition(".")[2]
    if kind != "Dense":
        return kind == "LogitScore"
    config = read_json(folder / str(module.get("path")) / "config.json")
    return bool(config.get("module_output_name") == "scores")


class PairClassifier:
    """A sequence classifier of pairs; batches hold pairs of similar length."""

    def __init__(self, recipe: Any, folder: Path, config: dict[str, Any], runtime: Runtime) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        check_tokenizer(folder)
        with model_source(KEY, str(folder)) as source:
            network = AutoModelForSequenceClassification.from_pretrained(source, **WHOLE)
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        self._tokenizer = tokenizer.backend_tokenizer
        check_vocabulary(self._tokenizer, network.config, str(folder))
        self._segments = "token_type_ids" in tokenizer.model_input_names
        labels = int(network.config.num_labels)
        self._label = _label(recipe, labels)
        self._activation = _activation(folder, config, labels)
        self._runtime, self._device = runtime, runtime.torch_device()
        half = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
        self._network = network.to(self._device, half).eval()
        limit = recipe.max_length or longest_text(folder, config) or LONGEST
        self._tokenizer.enable_truncation(limit, strategy="longest_first")
        self._tokenizer.no_padding()

    def scores(self, queries: Sequence[str], products: Sequence[str]) -> np.ndarray:
        """P float64 scores of P pairs, in their order."""
        scores = np.empty(len(queries))
        with self._runtime.progressing("re-ranking pairs", len(queries)) as advance:
            for start in range(0, len(queries), SLICE):
                part = slice(start, start + SLICE)
                scores[part] = self._slice(queries[part], products[part])
                advance(len(queries[part]))
        return scores

    def _slice(self, queries: Sequence[str], products: Sequence[str]) -> np.ndarray:
        encoded = self._tokenizer.encode_batch(list(zip(queries, products, strict=True)))
        lengths = np.fromiter((len(pair.ids) for pair in encoded), np.int64, len(encoded))
        offsets, outputs = offsets_of(lengths), np.empty(len(encoded))
        ids = Tokens(np.concatenate([pair.ids for pair in encoded]), offsets)
        types = Tokens(np.concatenate([pair.type_ids for pair in encoded]), offsets)
        budget = self._runtime.batch_budget(self._device)
        for rows in batches_by_budget(lengths, budget):
            batch = padded(ids.take(rows), self._device, self._pad)
            tensors = {"input_ids": batch.tokens, "attention_mask": batch.mask}
            if self._segments:
                tensors["token_type_ids"] = padded(types.take(rows), self._device).tokens
            with torch.inference_mode():
                logits = self._network(**tensors).logits[:, self._label]
            outputs[rows] = self._activation(logits.double()).cpu().numpy()
        return outputs

    @property
    def _pad(self) -> int:
        # Some heads find the last token by looking for the padding.
        pad = self._network.config.pad_token_id
        return 0 if pad is None else int(pad)


class ForeignPairs:
    """What only sentence-transformers' CrossEncoder computes.

    Such as a decoder's "yes" or "no", or a linear layer over pooled states.
    """

    def __init__(self, recipe: Any, folder: Path, runtime: Runtime) -> None:
        use = recipe.precision, recipe.allow, runtime
        self._model = loaded("CrossEncoder", folder, *use, max_length=recipe.max_length)
        self._label = _label(recipe, int(self._model.num_labels))
        self._prompt = {} if recipe.instruction is None else {"prompt": recipe.instruction}

    def scores(self, queries: Sequence[str], products: Sequence[str]) -> np.ndarray:
        """P float64 scores of P pairs, in their order."""
        pairs = list(zip(queries, products, strict=True))
        scores = self._model.predict(pairs, show_progress_bar=False, **self._prompt)
        array = np.asarray(scores, dtype=np.float64)
        return array[:, self._label] if array.ndim == 2 else array


def _label(recipe: Any, labels: int) -> int:
    number = recipe.label_number
    if labels > 1 and number is None:
        raise InputError(
            f"{KEY}={recipe.model!r} has {labels} labels: reranker.label_number says which counts"
        )
    if number is not None and number >= labels:
        raise InputError(f"reranker.label_number={number}, but the model has {labels} labels")
    return number or 0


def _activation(folder: Path, config: dict[str, Any], labels: int) -> Any:
    settings = folder / "config_sentence_transformers.json"
    named = read_json(settings).get("activation_fn") if settings.is_file() else None
    named = named or (config.get("sentence_transformers") or {}).get("activation_fn")
    named = named or config.get("sbert_ce_default_activation_function")
    kind = ACTIVATIONS.get(named) if named else "sigmoid" if labels == 1 else "identity"
    known = {"identity": lambda values: values, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
    if kind not in known:
        raise InputError(f"{folder}: the activation {named!r} is not known")
    return known[kind]
