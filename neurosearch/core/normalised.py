"""The source of a definition without what can't change a result."""

from __future__ import annotations

import ast

# Presentation only: a better name for a row must not re-run it.
PRESENTATION = frozenset({"label", "__repr__", "__str__"})
# Annotations that say what is a field of a dataclass.
FIELDS = frozenset({"ClassVar", "InitVar", "KW_ONLY"})


def normalised(source: bytes) -> str:
    """A file's source without comments, docstrings, annotations and presentation.

    Args:
        source: of a Python file.

    Returns:
        Source; empty where it is no Python.
    """
    try:
        return ast.unparse(_Strip().visit(ast.parse(source)))
    except SyntaxError:
        return ""


def stripped(statement: ast.stmt) -> ast.stmt:
    """A copy of a statement without docstrings, annotations and presentation.

    Args:
        statement: of a parsed file; it stays as it is.

    Returns:
        The copy.
    """
    copy = _Strip().visit(ast.parse(ast.unparse(statement)).body[0])
    assert isinstance(copy, ast.stmt)
    return copy


class _Strip(ast.NodeTransformer):
    """Removes what cannot change a result: docstrings, annotations, presentation methods.

    Strings with fields become calls of their parts: releases of Python quote them differently, and
    a store may be shared by several.
    """

    def _body(self, node: ast.AST) -> ast.AST:
        body = node.body  # type: ignore[attr-defined]
        first = body[0] if body else None
        text = first.value if isinstance(first, ast.Expr) else None
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            body = body[1:]
        node.body = body or [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        self.generic_visit(node)
        return self._body(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [
            item
            for item in node.body
            if not (isinstance(item, ast.FunctionDef) and item.name in PRESENTATION)
        ]
        self.generic_visit(node)
        return self._body(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        names = {part.id for part in ast.walk(node.annotation) if isinstance(part, ast.Name)}
        kept = sorted(names & FIELDS)
        node.annotation = ast.Name(kept[0]) if kept else ast.Constant(value=None)
        self.generic_visit(node)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        self.generic_visit(node)
        return ast.Call(ast.Constant(value="f"), node.values, [])

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        self.generic_visit(node)
        form = node.format_spec or ast.Constant(value=None)
        return ast.Tuple([node.value, ast.Constant(value=node.conversion), form], ast.Load())
