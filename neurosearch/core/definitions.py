"""Top-level definitions of source files, and what each of them names of others.

Nothing is imported to find them: a module's file is looked up and parsed.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path

from neurosearch.core.normalised import stripped

PACKAGE = "neurosearch"

# The sources as they were when this process began: what runs is what is fingerprinted.
SNAPSHOT = {path: path.read_bytes() for path in Path(__file__).parents[1].rglob("*.py")}


class Module:
    """Top-level definitions and imports of one source file; `outside`: name -> outside package."""

    def __init__(self, path: Path, name: str) -> None:
        tree = ast.parse(SNAPSHOT.get(path) or path.read_bytes())
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, tuple[str, str | None]] = {}
        self.outside: dict[str, str] = {}
        for statement in tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                packages = imported(statement)
                for number, alias in enumerate(statement.names):
                    # `from a import b, c` is of one package, `import a, b` of one each.
                    package = packages[number % len(packages)]
                    self.outside[(alias.asname or alias.name).split(".")[0]] = package
            for defined in _defined_names(statement):
                self.definitions.setdefault(defined, []).append(statement)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if is_followed(alias.name):
                        self.imports[alias.asname or alias.name] = (alias.name, None)
            elif isinstance(node, ast.ImportFrom):
                module = _absolute(node, name, path)
                if not is_followed(module):
                    continue
                for alias in node.names:
                    target: tuple[str, str | None] = (module, alias.name)
                    if _source_of(f"{module}.{alias.name}") is not None:
                        target = (f"{module}.{alias.name}", None)
                    self.imports[alias.asname or alias.name] = target


@cache
def parsed(module: str) -> Module | None:
    """The definitions of a module, read once in a process.

    Args:
        module: its full name.

    Returns:
        None for what has no source file, such as a notebook.
    """
    path = _source_of(module)
    return None if path is None else Module(path, module)


@cache
def definition(module: str, name: str) -> tuple[str, list[tuple[str, str]]]:
    """The normalised source of a definition, and the definitions that it names.

    Args:
        module: a module that has a source file.
        name: of a top-level definition of it.

    Returns:
        Source, and pairs of a module and a name.
    """
    source = parsed(module)
    assert source is not None
    nodes = [stripped(statement) for statement in source.definitions[name]]
    text = "\n".join(ast.unparse(node) for node in nodes)
    return text, [use for node in nodes for use in _uses(node, module, source)]


def _uses(node: ast.AST, module: str, source: Module) -> list[tuple[str, str]]:
    uses: list[tuple[str, str]] = []
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            if part.id in source.definitions:
                uses.append((module, part.id))
            elif part.id in source.imports:
                target, name = source.imports[part.id]
                if name is not None:
                    uses.append((target, name))
        elif isinstance(part, ast.Attribute):
            target, name = source.imports.get(_dotted(part.value), ("", ""))
            if name is None:
                if part.attr == "__file__":  # a script that is run by its path counts whole
                    script = parsed(target)
                    uses += [(target, own) for own in (script.definitions if script else ())]
                uses.append((target, part.attr))
    return uses


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is only names and dots; empty for others."""
    if isinstance(node, ast.Name):
        return node.id
    before = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{before}.{node.attr}" if before and isinstance(node, ast.Attribute) else ""


def imported(node: ast.AST) -> list[str]:
    """Outside packages that a statement imports, or looks for with `find_spec("name")`.

    Args:
        node: any part of a syntax tree.

    Returns:
        Top-level names of packages; none for other statements.
    """
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").split(".")[0]]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("find_spec"):
        values = [a.value for a in node.args if isinstance(a, ast.Constant)]
        return [value for value in values if isinstance(value, str)]
    return []


def is_followed(module: str) -> bool:
    """Whether the code of a module counts: this package's, or a user's own.

    Args:
        module: its full name.

    Returns:
        False for Python's own and for installed distributions.
    """
    package = module.partition(".")[0]
    return package == PACKAGE or _is_users(package)


@cache
def _is_users(package: str) -> bool:
    """Whether a top-level module or package is neither Python's nor an installed distribution."""
    if package == "__main__":
        return True
    if not package or package in sys.stdlib_module_names:
        return False
    places = [str(place) for place in _places_of(package)]
    installed = ("site-packages", "dist-packages")
    return bool(places) and not any(name in place for place in places for name in installed)


def _places_of(package: str) -> list[Path]:
    """The folders of a package, or the file of a module; none where it is not written in Python."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


@cache
def _source_of(module: str) -> Path | None:
    """A module's file, found without importing anything: importlib would import its parents."""
    package, *parts = module.split(".")
    if package == "__main__":
        file = getattr(sys.modules.get(package), "__file__", None)
        return Path(file) if file and str(file).endswith(".py") else None
    places = _places_of(package)
    if len(places) == 1 and places[0].suffix == ".py":
        return None if parts else places[0]
    for root in places:
        place = Path(root, *parts)
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


def _absolute(node: ast.ImportFrom, name: str, path: Path) -> str:
    """The module that `from … import` names, in the module `name`."""
    if not node.level:
        return str(node.module or "")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    if name == "__main__":
        package = str(getattr(sys.modules.get(name), "__package__", "") or "")
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def _defined_names(statement: ast.stmt) -> list[str]:
    """What a statement defines; one with a body of its own counts whole for each name in it."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    if isinstance(statement, ast.If | ast.Try | ast.With):
        inner = [part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.stmt)]
        for handler in getattr(statement, "handlers", ()):
            inner += handler.body
        return list(dict.fromkeys(name for part in inner for name in _defined_names(part)))
    return []
