"""Where embedded engines keep their generations, and what these are called."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from pathlib import Path

from neurosearch.core.errors import InputError
from neurosearch.core.recipe import Recipe
from neurosearch.core.runtime import Runtime
from neurosearch.core.store import write_whole
from neurosearch.engine.base import PREFIX

OWNER = "owner"
TESTED = "c0c0c0c0"  # begins the fingerprints of what `task=conform` makes, and drops itself
ALIASES = "aliases.json"
# Of a generation: who loaded it, and the fingerprint of what it holds.
NAME = re.compile(rf"{PREFIX}_[0-9a-f]{{8}}_[0-9a-f]{{24}}")
ALIAS = re.compile(r"[a-z][a-z0-9_]{0,49}")


def folder_of(runtime: Runtime, engine: str) -> Path:
    """The folder of an embedded engine.

    Args:
        runtime: whose outputs.
        engine: its name.

    Returns:
        `outputs/engines/<engine>`.
    """
    return runtime.outputs / "engines" / engine


def owner_of(runtime: Runtime) -> str:
    """Whose generations these are: a server may be shared, and only one's own are pruned.

    Args:
        runtime: whose outputs.

    Returns:
        Eight hexadecimal digits, drawn once for these outputs.
    """
    path = runtime.outputs / "engines" / OWNER
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x", encoding="ascii") as file:
                file.write(secrets.token_hex(4))
        except FileExistsError:  # another process was faster
            pass
    return path.read_text(encoding="ascii").strip()


def name_of(owner: str, fingerprint: str) -> str:
    """The name of a generation on a server.

    Args:
        owner: `owner_of`.
        fingerprint: of the artifact.

    Returns:
        A name that every engine takes.
    """
    return f"{PREFIX}_{owner}_{fingerprint}"


def generations_in(root: Path) -> list[str]:
    """Generations that are folders.

    Args:
        root: of an embedded engine.

    Returns:
        Their names, sorted; other folders are left out.
    """
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if NAME.fullmatch(path.name))


def aliases_in(root: Path) -> dict[str, str]:
    """Aliases of an embedded engine.

    Args:
        root: of the engine.

    Returns:
        Generations by alias.
    """
    path = root / ALIASES
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def switch_in(root: Path, alias: str, name: str) -> None:
    """Let an alias of an embedded engine point to a generation.

    Args:
        root: of the engine.
        alias: that other programs use.
        name: of a generation that is there.
    """
    check_alias(alias, name, generations_in(root))
    write_whole(root / ALIASES, json.dumps({**aliases_in(root), alias: name}).encode())


def drop_in(root: Path, name: str) -> None:
    """Delete a generation's folder and the aliases that point to it.

    Args:
        root: of the engine.
        name: of the generation; nothing where it is not there.
    """
    if name not in generations_in(root):
        return
    left = {alias: one for alias, one in aliases_in(root).items() if one != name}
    if left != aliases_in(root):
        write_whole(root / ALIASES, json.dumps(left).encode())
    shutil.rmtree(root / name)


def check_secret(recipe: Recipe, field: str, address: str | None) -> None:
    """Raise InputError for an address with a password: names, configs and records would keep it.

    Args:
        recipe: of the engine.
        field: that holds the address.
        address: a URL or a connection string.
    """
    held = r"^\w[\w+.-]*://[^/@:]*:.+@|password\s*="
    if address is not None and re.search(held, address):
        raise recipe.error(field, "holds a password: give it by the environment (docs/engines.md)")


def check_authority(path: str | None) -> None:
    """Raise InputError for a certificate authority's file that is not there.

    Args:
        path: of the file; None for the system's.
    """
    if path is not None and not Path(path).is_file():
        raise InputError(f"retriever.engine.ca={path}: there is no such file")


def check_name(alias: str) -> None:
    """Raise InputError for an alias that some engine would not take.

    Args:
        alias: that other programs will use.
    """
    if not ALIAS.fullmatch(alias) or alias.startswith((PREFIX, "aliases")):
        message = f"1 to 50 of a-z, 0-9 and _, a letter first, and not aliases… or {PREFIX}…"
        raise InputError(f"task.alias must be {message}, not {alias!r}")


def check_alias(alias: str, name: str, known: list[str]) -> None:
    """As `check_name`, and raise InputError for an alias that points nowhere.

    Args:
        alias: that other programs will use.
        name: of the generation.
        known: generations that are there.
    """
    check_name(alias)
    if name not in known:
        raise InputError(f"alias {alias!r}: there is no generation {name}")
