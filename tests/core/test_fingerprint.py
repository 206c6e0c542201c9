"""Code fingerprints: edits of reached code change them, nothing else does."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from neurosearch.core import definitions, fingerprint
from neurosearch.core.normalised import normalised
from neurosearch.retriever.bm25 import BM25Run
from neurosearch.retriever.lucene import LuceneIndex

BASE = '''
"""A module."""
import math

SCALE = 2

def used(x):
    """Doc."""
    return x * SCALE  # comment

def unused(x):
    return x

class Thing:
    """Doc."""
    def work(self, x: int) -> int:
        return used(x)
    def label(self):
        return "thing"
'''


CACHES = (
    fingerprint.code_digest,
    definitions.definition,
    definitions.parsed,
    definitions._source_of,
)


@pytest.fixture
def digest_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Digest of class Thing of a module with the given source."""
    monkeypatch.setattr(definitions, "PACKAGE", "sample")
    package = tmp_path / "sample"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(source: str, other: str = "") -> str:
        (package / "thing.py").write_text(source)
        (package / "other.py").write_text(other)
        for name in [n for n in sys.modules if n.startswith("sample")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        for cached in CACHES:
            cached.cache_clear()
        return fingerprint.code_digest(importlib.import_module("sample.thing").Thing)

    yield digest
    for cached in CACHES:
        cached.cache_clear()


@pytest.mark.parametrize(
    "old, new",
    [
        ("# comment", "# a better comment"),
        ('"""Doc."""', '"""Better docs."""'),
        ("def unused(x):\n    return x", "def unused(x):\n    return 5"),
        ("x: int) -> int", "x: float) -> float"),
        ('return "thing"', 'return "a better name"'),
    ],
)
def test_what_decides_no_result_costs_nothing(digest_of, old: str, new: str) -> None:
    assert old in BASE
    assert digest_of(BASE) == digest_of(BASE.replace(old, new))


@pytest.mark.parametrize(
    "old, new",
    [
        ("x * SCALE", "x + SCALE"),
        ("SCALE = 2", "SCALE = 3"),
        ("return used(x)", "return used(x) + 1"),
    ],
)
def test_an_edit_of_reached_code_counts(digest_of, old: str, new: str) -> None:
    assert digest_of(BASE) != digest_of(BASE.replace(old, new))


@pytest.mark.parametrize(
    "line, use",
    [
        ("from sample.other import helper", "helper(x)"),
        ("from sample import other", "other.helper(x)"),
        ("import sample.other as o", "o.helper(x)"),
        ("import sample.other", "sample.other.helper(x)"),
    ],
)
def test_imported_code_counts_wherever_it_is_imported(digest_of, line: str, use: str) -> None:
    source = BASE.replace("return used(x)", f"{line}\n        return {use}")
    one = "def helper(x):\n    return deep(x)\ndef deep(x):\n    return 1\n"
    assert digest_of(source, one) != digest_of(source, one.replace("return 1", "return 2"))
    assert digest_of(source, one) == digest_of(source, one + "\ndef more():\n    return 3\n")


def test_what_is_a_field_of_a_dataclass_counts(digest_of) -> None:
    source = BASE.replace("import math", "import math\nfrom typing import ClassVar")
    source = source.replace("class Thing:", "class Thing:\n    kept: int = 3")
    assert digest_of(source) == digest_of(source.replace("kept: int", "kept: float"))
    assert digest_of(source) != digest_of(source.replace("kept: int", "kept: ClassVar[int]"))


def test_what_is_defined_where_something_is_tried_counts(digest_of) -> None:
    tried = (
        "try:\n    def used(x):\n        return x * SCALE\nexcept ImportError:\n    used = None\n"
    )
    start, end = BASE.index("def used"), BASE.index("def unused")
    source = BASE[:start] + tried + BASE[end:]
    assert digest_of(source) != digest_of(source.replace("x * SCALE", "x + SCALE"))
    assert digest_of(source) != digest_of(source.replace("used = None", "used = abs"))


def test_words_about_an_async_function_cost_nothing(digest_of) -> None:
    source = BASE.replace("def used(x):", "async def used(x) -> int:")
    assert digest_of(source) == digest_of(source.replace('"""Doc."""', '"""Others."""'))


def test_a_script_run_by_its_path_counts() -> None:
    reached = fingerprint.reached(BM25Run)
    assert "neurosearch.retriever.lucene_worker:Answerer" in reached


def test_infrastructure_is_left_out_and_dependencies_are_found() -> None:
    reached = fingerprint.reached(LuceneIndex)
    assert "neurosearch.query.analyzer:Tokenizer" not in reached  # reached through the recipe
    assert "neurosearch.retriever.lucene:document_tokens" in reached
    assert not [name for name in reached if name.startswith("neurosearch.core.runtime")]
    assert "neurosearch.core.run:Run" in fingerprint.reached(BM25Run)


def test_an_edit_while_running_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What runs is the old code; filing it under the new one would be a lie."""
    file = tmp_path / "method.py"
    before = b'def score(x):\n    """Doc."""\n    return x + 1\n'
    file.write_bytes(before)
    monkeypatch.setattr(fingerprint, "SNAPSHOT", {file: before})
    assert fingerprint.edited_since_start() == []
    file.write_bytes(before.replace(b"Doc.", b"Better doc."))
    assert fingerprint.edited_since_start() == []
    file.write_bytes(before.replace(b"x + 1", b"x + 2"))
    assert fingerprint.edited_since_start() == ["method.py"]


def test_a_plan_imports_no_network() -> None:
    """Fingerprints are of sources that are read: what they import takes seconds to load."""
    heavy = ["torch", "transformers", "faiss", "ranx", "numba", "pytorch_lightning"]
    fingerprint = "import sys; from neurosearch import __main__ as m\n"
    fingerprint += "try: m.main()\nexcept SystemExit: pass\n"
    fingerprint += f"print('loaded:', [n for n in {heavy} if n in sys.modules])"
    words = [sys.executable, "-c", fingerprint, "task=plan", "retriever=reranked"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr


def test_releases_of_numeric_packages_are_part_of_an_identity(monkeypatch) -> None:
    """An upgrade of what a result's numbers rest on builds anew; of anything else, nothing."""
    from neurosearch.core import fingerprint
    from neurosearch.encoder.hashing import Hashing
    from neurosearch.encoder.sentence import Sentence
    from neurosearch.index.flat import Flat
    from neurosearch.retriever.bm25s_engine import Bm25sIndex
    from neurosearch.retriever.lucene import LuceneIndex

    assert {"torch", "transformers", "tokenizers"} <= set(fingerprint.releases(Sentence))
    assert "faiss-cpu" in fingerprint.releases(Flat) and "bm25s" in fingerprint.releases(Bm25sIndex)
    assert "pyserini" in fingerprint.releases(LuceneIndex)  # Lucene comes in its jar
    assert "torch" not in fingerprint.releases(Hashing)
    assert not any("+" in release for release in fingerprint.releases(Sentence).values())
    before = {cls: fingerprint.code_digest(cls) for cls in (Sentence, Flat, Hashing)}
    real = fingerprint._release

    def upgraded(name: str) -> str:
        return "99.0" if name == "faiss-cpu" else real(name)

    monkeypatch.setattr(fingerprint, "_release", upgraded)
    fingerprint.releases.cache_clear()
    fingerprint.code_digest.cache_clear()
    after = {cls: fingerprint.code_digest(cls) for cls in before}
    assert [cls for cls in before if before[cls] != after[cls]] == [Flat]
    monkeypatch.undo()
    fingerprint.releases.cache_clear()
    fingerprint.code_digest.cache_clear()


USERS = {
    "__init__.py": "",
    "short.py": "from .scale import times\nfrom mine import one\nclass Short:\n"
    "    def work(self, x):\n        return times(x) + one(x)\n",
    "scale.py": "def times(x):\n    return 2 * x\ndef unused(x):\n    return x\n",
}


def test_a_users_own_packages_and_modules_count(tmp_path: Path) -> None:
    """Followed as this package is, over relative imports and single files."""
    (tmp_path / "theirs").mkdir()
    for name, text in USERS.items():
        (tmp_path / "theirs" / name).write_text(text)
    (tmp_path / "mine.py").write_text("def one(x):\n    return 1\n")

    def digest() -> str:
        code = "from theirs.short import Short; from neurosearch.core.fingerprint import *;"
        return _printed(f"{code} print(code_digest(Short), releases(Short))", tmp_path)

    before = digest()
    edits = [
        ("theirs/scale.py", "2 * x", "3 * x", True),
        ("mine.py", "return 1", "return 7", True),
        ("theirs/scale.py", "    return x\n", "    return 5\n", False),
        ("theirs/short.py", "+ one", "- one", True),
    ]
    for name, old, new, counts in edits:
        path = tmp_path / name
        path.write_text(path.read_text().replace(old, new))
        after = digest()
        assert (after != before) == counts, (name, new)
        before = after


@pytest.mark.parametrize("as_file", [True, False])
def test_what_a_script_or_a_notebook_defines_counts(as_file: bool, tmp_path: Path) -> None:
    """A notebook has no file: there the compiled code counts, without its docstrings."""
    source = '''
from neurosearch.core.fingerprint import code_digest
FACTOR = 2
def helper(x):
    """Doc."""
    return FACTOR * x
class Base:
    def more(self):
        return "base"
class Mine(Base):
    def work(self, xs):
        """Doc."""
        return [helper(x) for x in xs]
print(code_digest(Mine))
'''

    def digest(text: str) -> str:
        (tmp_path / "script.py").write_text(text)
        return _printed(None if as_file else text, tmp_path)

    before = digest(source)
    assert digest(source.replace('"""Doc."""', '"""Better docs."""')) == before
    for old, new in (
        ("FACTOR = 2", "FACTOR = 3"),
        ("* x", "+ x"),
        ("[helper(x)", "[helper(-x)"),
        ('"base"', '"other"'),
    ):
        assert digest(source.replace(old, new)) != before, new


def _printed(code: str | None, folder: Path) -> str:
    words = [sys.executable, *(["script.py"] if code is None else ["-c", code])]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
    return done.stdout


def test_strings_with_fields_are_the_same_in_all_releases_of_python() -> None:
    """Written as calls: what `ast.unparse` makes of them depends on the release."""
    text = normalised(b"""x = f'a "{b!r:>{w}}" it\\'s'""")
    assert text == """x = 'f'('a "', (b, 114, 'f'('>', (w, -1, None))), '" it\\'s')"""


@pytest.mark.parametrize("other", ["f'a{x}'", "f'{y}'", "f'{x!r}'", "f'{x:.2f}'", "'{x}'"])
def test_every_part_of_a_string_with_fields_counts(digest_of, other: str) -> None:
    source = BASE.replace("used(x)\n    def", "TEXT\n    def")
    before = digest_of(source.replace("TEXT", "f'{x}'"))
    assert digest_of(source.replace("TEXT", 'f"{x}"')) == before
    assert digest_of(source.replace("TEXT", other)) != before
