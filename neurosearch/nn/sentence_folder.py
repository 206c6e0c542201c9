"""What a sentence-transformers folder says of its vectors: modules, pooling, prompts, lengths.

A folder saved by sentence-transformers (Reimers and Gurevych 2019) lists its modules in
`modules.json`: a transformer, a pooling, dense layers, a normalisation, each with a folder of its
own. They are read here without importing a model library, so that a recipe can be checked before
anything is built. Names of all its releases are known: `sentence_transformers.models.Pooling` and
`sentence_transformers.sentence_transformer.modules.pooling.Pooling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurosearch.core.errors import InputError
from neurosearch.nn.pretrained import declared_kind, model_folder, read_json

ADAPTER = "adapter_config.json"  # of PEFT: the folder changes another model
POOLINGS = ("mean", "cls", "max", "sqrt", "weighted", "last")
_MODES = {
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "max": "max",
    "max_tokens": "max",
    "mean_sqrt_len_tokens": "sqrt",
    "weightedmean": "weighted",
    "weightedmean_tokens": "weighted",
    "lasttoken": "last",
}
# Prompt names, by side, in the order in which sentence-transformers looks for them.
_SIDES = (("query",), ("document", "passage", "corpus"))
# Dense layers' activations; a folder names a class, which is never imported.
ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
}


@dataclass(frozen=True)
class Layer:
    """A module after the pooling: `kind` is `Dense` or `LayerNorm`."""

    kind: str
    folder: Path
    config: Mapping[str, Any]


@dataclass(frozen=True)
class SentenceFolder:
    """How vectors are made of texts.

    Attributes:
        transformer: folder of the Hugging Face model.
        pooling: modes (`POOLINGS`) whose vectors are concatenated; empty where nothing is said.
        layers: what the pooled vector goes through.
        normalized: whether vectors are scaled to length 1.
        max_length: tokens of a text, special ones included; None where nothing is said.
        lower_case: whether texts are lower-cased before the tokenizer sees them.
        prompts: what stands before a query, and before a product.
        similarity: `cosine`, `dot`, `euclidean` or `manhattan`.
        static: folder of a table of token vectors, instead of a transformer.
        dimensions: the first of a vector's that are kept; None for all.
        foreign: the first module that only sentence-transformers itself can compute; '' for none.
    """

    transformer: Path
    pooling: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    normalized: bool = False
    max_length: int | None = None
    lower_case: bool = False
    prompts: tuple[str, str] = ("", "")
    similarity: str = "cosine"
    static: Path | None = None
    dimensions: int | None = None
    foreign: str = ""


def read_folder(folder: Path, key: str = "encoder.model") -> SentenceFolder:
    """Read a model's folder, of sentence-transformers or of transformers alone.

    Args:
        key: of the config, for messages.

    Raises:
        InputError: the folder is no model, or one of its files is missing, damaged or not
            understood; the message names it.
    """
    listing = folder / "modules.json"
    base = adapted(folder, key)
    if base is not None and not listing.is_file():
        return replace(read_folder(base, key), transformer=folder)
    if not listing.is_file():
        if _is_model2vec(folder) or _wordllama(folder):
            return SentenceFolder(folder, static=folder)
        if not (folder / "config.json").is_file():
            raise InputError(f"{key}: {folder} has neither modules.json nor config.json: no model")
        lengths = longest_text(folder, read_json(folder / "config.json"))
        return SentenceFolder(folder, max_length=lengths)
    modules = read_json(listing, list)
    try:
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
        places = [folder / str(module["path"]) for module in modules]
    except (KeyError, TypeError, IndexError):
        raise InputError(f"{listing}: not a list of modules with a type and a path") from None
    for place, kind in zip(places, kinds, strict=True):
        if folder.resolve() not in (place.resolve(), *place.resolve().parents):
            raise InputError(f"{listing}: the module {kind} lies outside the folder ({place})")
        if kind != "Normalize" and not place.is_dir():  # Normalize has no files of its own
            raise InputError(
                f"{listing}: the module {kind} should lie in {place}, which is missing"
            )
    settings = folder / "config_sentence_transformers.json"
    facts = read_json(settings) if settings.is_file() else {}
    first = places[0] if places else folder
    read = SentenceFolder(
        first,
        prompts=_prompts(facts, settings),
        similarity=facts.get("similarity_fn_name") or "cosine",
        normalized=kinds[-1:] == ["Normalize"],
        dimensions=facts.get("truncate_dim"),
    )
    if read.similarity in ("euclidean", "manhattan") and not read.normalized:
        raise InputError(
            f"{settings}: vectors are compared by their {read.similarity} distance, and here by "
            "cosine or inner product only"
        )
    middle = list(zip(kinds[1:], places[1:], strict=True))
    if kinds[-1:] == ["Normalize"]:
        middle = middle[:-1]
    if kinds[:1] == ["StaticEmbedding"]:
        others = [kind for kind, _ in middle]
        return replace(read, static=first, foreign=others[0] if others else "")
    if kinds[:1] != ["Transformer"]:
        return replace(read, foreign=kinds[0] if kinds else "nothing")
    read = replace(read, **_transformer(first))
    if middle[:1] and middle[0][0] == "Pooling":
        pooling, include_prompt = _pooling(middle[0][1])
        middle = middle[1:]
    else:
        return replace(read, foreign=middle[0][0] if middle else "no pooling")
    layers, foreign = _layers(middle)
    if not include_prompt:
        foreign = foreign or "Pooling without the prompt"
    return replace(read, pooling=pooling, layers=layers, foreign=foreign)


def refuse_other_kinds(folder: Path, key: str = "encoder.model") -> None:
    """Raise InputError for a model that gives no vector a text: a ColBERT, a cross-encoder."""
    kind, names = declared_kind(folder)
    if kind in ("ColBERT", "MultiVectorEncoder", "CrossEncoder", "SparseEncoder"):
        raise InputError(f"{key}: {folder} is a {kind}, no sentence encoder")
    if "HF_ColBERT" in names:
        raise InputError(f"{key}: {folder} is a ColBERT, no sentence encoder")
    pairs = [name for name in names if name.endswith("ForSequenceClassification")]
    if pairs and not (folder / "modules.json").is_file():
        hint = "it scores pairs (reranker=published)"
        raise InputError(f"{key}: {folder} is a {pairs[0]}, no sentence encoder; {hint}")


def prompts_of(model: str, key: str = "encoder.model") -> tuple[str, str]:
    """The prompts that a model's folder names, before queries and before products."""
    return read_folder(model_folder(model, key), key).prompts


def adapted(folder: Path, key: str = "encoder.model") -> Path | None:
    """The folder of the model that an adapter's folder changes; None for a whole model."""
    if (folder / "config.json").is_file() or not (folder / ADAPTER).is_file():
        return None
    name = read_json(folder / ADAPTER).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise InputError(f"{folder / ADAPTER}: base_model_name_or_path names no model")
    try:
        base = model_folder(name, key)
    except InputError as error:
        reason = f"the model that the adapter changes is missing ({error})"
        raise InputError(f"{folder / ADAPTER}: {reason}") from None
    if base.resolve() == folder.resolve():
        raise InputError(f"{folder / ADAPTER}: the adapter names itself as the model it changes")
    return base


def _transformer(folder: Path) -> dict[str, Any]:
    path = folder / "sentence_bert_config.json"
    facts = read_json(path) if path.is_file() else {}
    length = facts.get("max_seq_length")
    if length is None:
        whole = adapted(folder) or folder
        length = longest_text(whole, read_json(whole / "config.json"))
    return {"max_length": length, "lower_case": bool(facts.get("do_lower_case", False))}


def longest_text(folder: Path, config: dict[str, Any]) -> int | None:
    """The tokenizer's limit where it is one, and the network's."""
    path = folder / "tokenizer_config.json"
    limit = read_json(path).get("model_max_length") if path.is_file() else None
    known = [
        n for n in (limit, config.get("max_position_embeddings")) if isinstance(n, int | float)
    ]
    plausible = [int(n) for n in known if 0 < n < 10**9]
    return min(plausible) if plausible else None


def _pooling(folder: Path) -> tuple[tuple[str, ...], bool]:
    path = folder / "config.json"
    facts = read_json(path)
    named = facts.get("pooling_mode")
    if named is None:
        flag = "pooling_mode_"
        named = [
            k.removeprefix(flag) for k, on in facts.items() if k.startswith(flag) and on is True
        ]
    names = [named] if isinstance(named, str) else list(named)
    unknown = [str(name) for name in names if name not in _MODES]
    if unknown or not names:
        reason = f"pools by {unknown[0]!r}, which is not known" if unknown else "pools by nothing"
        raise InputError(f"{path}: {reason}")
    return tuple(_MODES[name] for name in names), bool(facts.get("include_prompt", True))


def _layers(modules: list[tuple[str, Path]]) -> tuple[tuple[Layer, ...], str]:
    """The layers that are computed here, and the first module that is not."""
    layers: list[Layer] = []
    for kind, folder in modules:
        if kind == "Dropout":  # does nothing in inference
            continue
        if kind not in ("Dense", "LayerNorm"):
            return tuple(layers), kind
        config = read_json(folder / "config.json")
        plain = config.get("module_input_name", "sentence_embedding") == "sentence_embedding"
        known = config.get("activation_function", "torch.nn.modules.activation.Tanh") in ACTIVATIONS
        if kind == "Dense" and not (known and plain and not config.get("use_residual")):
            return tuple(layers), kind
        layers.append(Layer(kind, folder, config))
    return tuple(layers), ""


def _prompts(facts: dict[str, Any], path: Path) -> tuple[str, str]:
    prompts = facts.get("prompts") or {}
    default = facts.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise InputError(f"{path}: default_prompt_name is {default!r}, which is no prompt there")
    usual = prompts.get(default) or ""
    query, product = (
        next((prompts[name] or "" for name in names if name in prompts), usual) for names in _SIDES
    )
    return query, product


def static_files(folder: Path) -> tuple[Path, Path]:
    """The tokenizer and the table of token vectors of a static model's folder."""
    return _wordllama(folder) or (folder / "tokenizer.json", folder / "model.safetensors")


def _wordllama(folder: Path) -> tuple[Path, Path] | None:
    """The two files where the folder is the package wordllama; None for another folder."""
    tokenizers = sorted(folder.glob("tokenizers/*_tokenizer_config.json"))
    weights = sorted(folder.glob("weights/*.safetensors"))
    return (tokenizers[0], weights[0]) if tokenizers and weights else None


def _is_model2vec(folder: Path) -> bool:
    path = folder / "config.json"
    if not path.is_file() or not (folder / "tokenizer.json").is_file():
        return False
    facts = read_json(path)
    return facts.get("model_type") == "model2vec" or "StaticModel" in (
        facts.get("architectures") or []
    )
