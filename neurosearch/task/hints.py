"""Messages for overrides that name what does not exist: what exists instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any


def plain(message: str, words: Sequence[str]) -> str:
    """Reword what Hydra says of a key or a choice that does not exist.

    Args:
        message: Hydra's.
        words: of the command line.

    Returns:
        One line that names what exists instead; '' for a message about something else.
    """
    key = re.search(r"Could not override '([^']+)'", message)
    if key:
        return _unknown_key(key.group(1), words)
    searched = re.search(r"Could not find 'query/([^']*)'", message)
    if searched and "task=search" in words:
        typed = searched.group(1)
        return f"query={typed}: query is how queries are processed; say task.text={typed!r}"
    choice = re.search(r"Could not find '([\w/@.]+)'", message)
    if choice and "Available options" in message:
        group, _, typed = choice.group(1).partition("/")
        known = sorted(_variants(group))
        close = get_close_matches(typed, known, n=3)
        # Variants of a choice lie below it: a line of a hundred names tells nobody anything.
        named = close or [name for name in known if "/" not in name] or known
        more = "" if close or len(named) == len(known) else ", and variants of some"
        return f"{group}={typed}: no such choice; there are {', '.join(named)}{more}"
    return ""


def _unknown_key(key: str, words: Sequence[str]) -> str:
    """A key that the composed config lacks: what its parent has, and where else it stands."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import DictConfig, OmegaConf

    parent, _, name = key.rpartition(".")
    chosen = [w.split(",")[0] for w in words if re.match(r"[\w/@.]+=[\w/,]+$", w)]
    groups = [word for word in chosen if not word.startswith(key)]
    running = GlobalHydra.instance().hydra  # a sweep's, whose next job is composed by it
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("neurosearch.conf", version_base="1.3"):
            config = compose("config", overrides=groups)
        node = OmegaConf.select(config, parent) if parent else config
    except Exception:  # another override is wrong as well
        return f"{key}: there is no such key"
    finally:
        GlobalHydra.instance().hydra = running
    if not isinstance(node, DictConfig):
        _, at, place = key.partition("@")
        if at:  # a part, where the system that is composed has none
            holders = (word for word in words if re.match(r"retriever=|tokenizer=", word))
            holder = next(holders, "this system")
            if "," in holder:
                return _swept(key, holder, words)
            return f"{key}: {holder} has no {place.rpartition('.')[2]} there to replace"
        return f"{key}: {parent} holds no keys"
    known = [str(k) for k in node if not str(k).startswith("_")]
    if isinstance(node.get(name), DictConfig) and "_target_" not in node[name]:
        have = ", ".join(str(k) for k in node[name])
        return f"{key} has {have}: +{key}.name=… adds another one, ~{key}.name takes one out"
    several = [word for word in words if re.match(r"[\w/@.]+=[\w/]+(,[\w/]+)+$", word)]
    if name in known and several:
        return _swept(key, several[0], words)
    target = str(node.get("_target_", "")).rpartition(".")[2]
    places = [place for place in _places(config, name) if place != key][:3]
    where = f"; {name} is a key of {' and '.join(places)}" if places else ""
    close = get_close_matches(name, known, n=3)
    listed = f"is it {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
    if not target and known and parent and not places:
        listed += f"; +{key}=… adds it"
    return f"{key}: {target or parent or 'the config'} has no key {name!r}; {listed}{where}"


def _swept(key: str, holder: str, words: Sequence[str]) -> str:
    """A key of what is swept: Hydra first composes without the groups of a sweep."""
    value = next(w.partition("=")[2] for w in words if w.startswith(f"{key}="))
    swept = f"'{key}=choice({value})'"
    return f"{key}: beside a sweep over {holder}, say {swept} where all of them have it"


def _places(config: Any, name: str) -> list[str]:
    """The full keys that end in `name`."""
    from omegaconf import DictConfig

    found: list[str] = []

    def walk(node: Any, above: str) -> None:
        for key in node:
            full = f"{above}.{key}" if above else str(key)
            if key == name:
                found.append(full)
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_none():
                walk(child, full)

    walk(config, "")
    return found


def _variants(group: str) -> list[str]:
    """The choices of a group, with their variants, as they are typed."""
    from importlib.resources import files

    names: list[str] = []

    def walk(folder: Any, above: str) -> None:
        for item in folder.iterdir():
            if item.name.endswith(".yaml"):
                names.append(above + item.name.removesuffix(".yaml"))
            elif item.is_dir() and item.name != "__pycache__":
                walk(item, f"{above}{item.name}/")

    walk(files("neurosearch.conf").joinpath(group), "")
    return names
