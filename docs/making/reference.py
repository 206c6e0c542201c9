"""Reference pages that are made of the recipes: every group, choice and field; every module."""

from __future__ import annotations

import dataclasses
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from neurosearch.core.bounds import Bounds

ROOT = Path(__file__).parents[2]
CONF, PACKAGE = ROOT / "conf", ROOT / "neurosearch"
SHARED = yaml.safe_load((Path(__file__).parent / "fields.yaml").read_text("utf-8"))
SKIPPED = {"experiment", "hydra"}  # experiments have pages of their own


def config_pages() -> dict[str, str | bytes]:
    """A page a config group, and their index."""
    made: dict[str, str | bytes] = {}
    lines = ["# Configuration", "", "Every group of `conf/`, made from its recipes. " + HOW, ""]
    lines += ["| group | choices |", "|---|---|"]
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir()):
        choices = sorted(folder.rglob("*.yaml"))
        if folder.name in SKIPPED or not choices:
            continue
        parts = [f"# {folder.name}", ""]
        for path in choices:
            parts += choice(path, folder)
        made[f"reference/config/{folder.name}.md"] = "\n".join(parts)
        names = ", ".join(f"`{p.relative_to(folder).with_suffix('').as_posix()}`" for p in choices)
        lines.append(f"| [{folder.name}]({folder.name}.md) | {names} |")
    made["reference/config/index.md"] = "\n".join(lines)
    return made


HOW = (
    "A field is set by its path, such as `retriever.k1=0.6`; a part inside another one is chosen by "
    "its place, such as `encoder@retriever.encoder=hashing` (see [composing](../../guides/composing.md))."
)


def choice(path: Path, folder: Path) -> list[str]:
    """The lines about one choice."""
    name = path.relative_to(folder).with_suffix("").as_posix()
    text = path.read_text("utf-8")
    said = yaml.safe_load(text) or {}
    comments = [x.removeprefix("# ") for x in text.splitlines() if x.startswith("# ")]
    lines = [f"## {folder.name}={name}", ""]
    target = said.get("_target_")
    notes = [x for x in comments if not x.startswith("@package")]
    lines += [" ".join(notes), ""] if notes else []
    if target is None:
        held = text.replace("```", "")
        return [*lines, "```yaml", held.rstrip(), "```", ""]
    kind = getattr(import_module(target.rpartition(".")[0]), target.rpartition(".")[2])
    lines += [f"`{target}`: {first_sentence(kind)}", ""]
    if not dataclasses.is_dataclass(kind):
        return lines
    told = SHARED | yaml_comments(text) | meanings(kind)
    rows = [row(spec, said, told) for spec in dataclasses.fields(kind) if spec.init]
    head = ["| field | type | allowed | default | meaning |", "|---|---|---|---|---|"]
    return [*lines, *head, *rows, ""]


def row(spec: dataclasses.Field[Any], said: dict[str, Any], told: dict[str, str]) -> str:
    """A field's line of the table."""
    limits = spec.metadata.get("bounds")
    cells = [
        f"`{spec.name}`",
        f"`{str(spec.type).replace('|', 'or')}`",
        allowed(limits) if isinstance(limits, Bounds) else "",
        default(spec, said),
        told.get(spec.name, ""),
    ]
    return "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in cells) + " |"


def allowed(limits: Bounds) -> str:
    """Bounds in words."""
    if limits.choices:
        return ", ".join(f"`{one}`" for one in limits.choices)
    words = {
        "at least": limits.least,
        "above": limits.above,
        "at most": limits.most,
        "below": limits.below,
    }
    return ", ".join(f"{word} {x:g}" for word, x in words.items() if abs(x) != float("inf"))


def default(spec: dataclasses.Field[Any], said: dict[str, Any]) -> str:
    """Of the config, or else of the recipe."""
    if spec.name in said and not isinstance(said[spec.name], dict):
        return f"`{said[spec.name]}`".replace("None", "null")
    if spec.default is not dataclasses.MISSING:
        return f"`{spec.default}`".replace("None", "null")
    if spec.default_factory is not dataclasses.MISSING:
        return f"`{type(spec.default_factory()).__name__}`"
    return ""


def first_sentence(kind: type) -> str:
    """Of the class, or of its module where the class begins with its attributes."""
    said = inspect.getdoc(kind) or ""
    if not said or said.startswith(("Attributes:", f"{kind.__name__}(", "`")):
        said = inspect.getdoc(inspect.getmodule(kind)) or ""
    return " ".join(said.split("\n\n")[0].split())


def meanings(kind: type) -> dict[str, str]:
    """What docstrings of a class and its bases say of their attributes."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        text = inspect.cleandoc(one.__doc__ or "")
        for name, said in re.findall(r"`(\w+)`: ([^`]+?)(?=[.;]?\s*(?:`\w+`:|$)|[.;]\s)", text):
            found[name] = " ".join(said.split())
        if "Attributes:" not in text:
            continue
        block = text.split("Attributes:", 1)[1]
        for match in re.finditer(
            r"^ *([a-z_]\w*(?:, \w+)*): (.+(?:\n +(?!\w+(?:, \w+)*:).+)*)", block, flags=re.M
        ):
            for name in match.group(1).split(", "):
                found[name] = " ".join(match.group(2).split())
    return found


def yaml_comments(text: str) -> dict[str, str]:
    """Comments behind the keys of a YAML file."""
    return dict(re.findall(r"^([a-z_]\w*):.*?\s#\s(.+)$", text, flags=re.M))


def api_pages() -> dict[str, str | bytes]:
    """A page a package, with its modules, and their index."""
    made: dict[str, str | bytes] = {}
    lines = [
        "# Python",
        "",
        "Public names are `ns.<name>`; the packages below hold what they are made of.",
        "",
    ]
    lines += ["| package | what it is |", "|---|---|"]
    made["reference/api/public.md"] = "# Public names\n\n" + public()
    lines.append("| [public names](public.md) | what `import neurosearch as ns` offers |")
    for folder in sorted(p for p in PACKAGE.iterdir() if (p / "__init__.py").exists()):
        modules = [p for p in sorted(folder.rglob("*.py")) if p.name != "__init__.py"]
        if not modules:
            continue
        said = re.match(r'"""(.+?)"""', (folder / "__init__.py").read_text("utf-8"), flags=re.S)
        about = " ".join(said.group(1).split()) if said else ""
        parts = [f"# {folder.name}", "", about, ""]
        for path in modules:
            dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            parts += [f"::: {dotted}", ""]
        made[f"reference/api/{folder.name}.md"] = "\n".join(parts)
        lines.append(f"| [{folder.name}]({folder.name}.md) | {about} |")
    made["reference/api/index.md"] = "\n".join(lines)
    return made


SOURCE = re.compile(
    r"[A-Z][\w'-]+(?:(?:, | and |, and )[A-Z][\w'-]+)*(?: et al\.)?,?[^.()]{0,120}?\(?(?:19|20)\d\d\)?|arXiv[: ]\S+"
)


def methods_page() -> dict[str, str | bytes]:
    """What each module computes, where its docstring names a source."""
    lines = [
        "# Methods and sources",
        "",
        "What a module computes, in the first lines of its docstring, wherever it names a paper.",
        "",
    ]
    for folder in sorted(p for p in PACKAGE.iterdir() if (p / "__init__.py").exists()):
        rows = []
        for path in sorted(folder.rglob("*.py")):
            said = re.match(r'"""(.+?)"""', path.read_text("utf-8"), flags=re.S)
            if said and SOURCE.search(said.group(1)):
                name = path.relative_to(folder).with_suffix("").as_posix()
                paragraphs = [" ".join(x.split()) for x in said.group(1).split("\n\n")]
                cited = [x for x in paragraphs[1:] if SOURCE.search(x)]
                text = " ".join([paragraphs[0], *cited]).replace("|", "\\|")
                rows.append(f"| `{name}` | {text} |")
        if rows:
            lines += [
                f"## {folder.name}",
                "",
                "| module | method and source |",
                "|---|---|",
                *rows,
                "",
            ]
    return {"reference/methods.md": "\n".join(lines)}


def public() -> str:
    """The names of the package, by the modules they come from."""
    import neurosearch

    rows = ["| name | module |", "|---|---|"]
    for module, names in sorted(neurosearch._PUBLIC.items()):
        for name in names:
            kind = getattr(neurosearch, name)
            rows.append(f"| `ns.{name}` | `{module}`: {first_sentence(kind).replace('|', ' ')} |")
    return "\n".join(rows)
