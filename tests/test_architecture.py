"""The folder tree is the architecture: packages form no cycle, and arrows point one way."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "neurosearch"
# A package may import those of the lines above it, and itself.
LAYERS = (
    ("core",),
    ("clicks", "interleaving", "stopping", "users"),
    ("data", "evaluation", "nn", "loss", "collisions"),
    ("trial",),
    ("training", "negatives", "fusion", "annotation"),
    ("writer",),
    ("judge",),
    ("query",),
    ("logs",),
    ("propensity",),
    ("implicit",),
    ("detector",),
    ("encoder", "index"),
    ("engine",),
    ("tokenizer",),
    ("generator", "profile"),
    ("reranker",),
    ("classifier",),
    ("retriever",),
    ("explainer",),
    ("report",),
    ("serving",),
    ("monitoring",),
    ("task",),
    ("tracking", "sweep"),
    ("app", "comparison"),
    ("live",),
    ("__main__",),
)


def modules() -> dict[str, Path]:
    """Dotted names, without the package's own, and files."""
    files = PACKAGE.rglob("*.py")
    names = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules that a file imports anywhere, but for annotations alone (TYPE_CHECKING)."""
    found = set()
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("neurosearch"):
                module = str(node.module).removeprefix("neurosearch").removeprefix(".")
                for alias in node.names:
                    full = f"{module}.{alias.name}".removeprefix(".")
                    found.add(full if full in known else module)
    return found - {""}


def cycle_in(graph: dict[str, set[str]]) -> list[str]:
    """Nodes of a graph that lie on a cycle, or lead only to one; empty where there is none."""
    left = {node: set(targets) & set(graph) - {node} for node, targets in graph.items()}
    while True:
        done = [node for node, targets in left.items() if not targets]
        if not done:
            return sorted(left)
        for node in done:
            del left[node]
        for targets in left.values():
            targets.difference_update(done)


def test_a_cycle_is_found() -> None:
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert cycle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["a", "b", "c"]


def test_modules_form_no_cycle() -> None:
    known = modules()
    assert cycle_in({name: imports_of(path, known) for name, path in known.items()}) == []


def test_packages_import_only_what_lies_above_them() -> None:
    known, height = modules(), {p: n for n, layer in enumerate(LAYERS) for p in layer}
    wrong = []
    for name, path in known.items():
        for target in imports_of(path, known):
            a, b = name.split(".")[0], target.split(".")[0]
            if a != b and height[a] <= height[b]:
                wrong.append(f"{name} imports {target}")
    assert wrong == []


def test_recipes_import_no_torch() -> None:
    """Composing and planning stay instant: networks are imported where they are used."""
    heavy = ("torch", "transformers", "pytorch_lightning", "faiss", "sentence_transformers")
    wrong = []
    for path in (*PACKAGE.rglob("recipe.py"), *PACKAGE.rglob("base.py")):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                names = [a.name for a in statement.names] + [getattr(statement, "module", "") or ""]
                wrong += [f"{path}: {n}" for n in names if n.split(".")[0] in heavy]
    assert wrong == []


def test_one_package_alone_brings_faiss() -> None:
    """faiss-cpu and faiss-gpu are the same module: `gpu` is `all` with the one for the other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def closure(extra: str) -> set[str]:
        found: set[str] = set()
        for line in [*project["optional-dependencies"][extra], *project["dependencies"]]:
            wanted = Requirement(line)
            if wanted.name == "neurosearch":
                found |= set().union(*map(closure, wanted.extras))
            else:
                found.add(wanted.name)
        return found

    gpu, everything = closure("gpu"), closure("all")
    assert gpu - everything == {"faiss-gpu"} and everything - gpu == {"faiss-cpu"}
