"""Models on the hub: pinned to a revision, downloaded once, read from the cache afterwards.

`name@revision` asks for one revision (a commit, a tag or a branch); a name alone means the newest
that the cache has or, where it has none, the newest that the hub has.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from neurosearch.core.errors import InputError, first_line
from neurosearch.core.machine import log

TIMEOUT = 10  # seconds, of one question to the hub
# Weights that are pickled, which may hold code, are downloaded where a recipe allows them only.
WANTED = ("*.json", "*.jinja", "*.metadata", "*.model", "*.safetensors", "*.txt")
UNWANTED = ("onnx/*", "openvino/*")


def revision_of(model: str) -> str:
    """The commit that `model` means; '' where neither the cache nor the hub can say."""
    return cached_revision(model) or _newest(model)


def cached_revision(model: str) -> str:
    """The commit that lies in the hub's cache; '' for none. Touches no network."""
    folder = cached_folder(model)
    return "" if folder is None else folder.name


def cached_folder(model: str) -> Path | None:
    """The folder of a model in the hub's cache, whole or not; None where it has none.

    Raises InputError for what is no name of a model.
    """
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = model.partition("@")
    for file in ("config.json", "modules.json", "adapter_config.json"):
        try:
            path = try_to_load_from_cache(name, file, revision=revision or "main")
        except ValueError:  # the hub's names have rules
            reason = "no such folder, and no name that a model of the hub can have"
            raise InputError(f"{model!r}: {reason}") from None
        if isinstance(path, str):
            return Path(path).parent
    return None


@cache
def _newest(model: str) -> str:
    from huggingface_hub import HfApi

    name, _, revision = model.partition("@")
    try:
        return HfApi().model_info(name, revision=revision or None, timeout=TIMEOUT).sha or ""
    except Exception:  # no network, no such model: whoever loads it says so
        return ""


def download(model: str, key: str, allow: tuple[str, ...] = ()) -> Path:
    """The folder of a model of the hub; files that are not in the cache are downloaded.

    A download shows how far it is, and goes on where an earlier one stopped.

    Args:
        key: of the config, for messages.
        allow: `pickle`, `remote_code`: what else is downloaded.

    Raises:
        InputError: the hub can't be reached, or has no such model.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    name, _, wanted = model.partition("@")
    cached = cached_revision(model)
    more = [kind for use, kind in (("pickle", "*.bin"), ("remote_code", "*.py")) if use in allow]
    try:
        if not cached and not _newest(model):
            raise LocalEntryNotFoundError("the hub did not answer, or does not know it")
        if not cached:
            log.info("downloading %s from the hub", model)
        # By its name, so that the cache remembers which commit the name meant.
        revision = cached or wanted or "main"
        patterns = [*WANTED, *more]
        folder: str = snapshot_download(
            name, revision=revision, allow_patterns=patterns, ignore_patterns=list(UNWANTED)
        )
        return Path(folder)
    except GatedRepoError:
        reason = "its authors ask for a licence to be accepted: log in with `hf auth login`"
    except Exception as error:  # of many kinds, some of many lines
        reason = first_line(error)
    places = "no such folder, no package carries it, and the hub did not give it"
    raise InputError(f"{key}={model!r}: {places} ({reason})")
