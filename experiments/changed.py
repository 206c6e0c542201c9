"""Which code behind each published table has changed since the commit that the table names.

    python experiments/changed.py        # writes experiments/CHANGED.md; five minutes; needs git

A table is made of what its rows' configs name: the experiment's jobs, or what its script imports
and composes. From there all code is followed as fingerprints follow it
(`neurosearch/core/fingerprint.py`), at the table's commit and now, and so are the config files
that Hydra reads. Comments, docstrings, annotations and labels are left out. Where nothing differs,
the code of today would make the same table; where something does, the page says what, and a reader
can look it up with `git diff`.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from behind import APART, ROOT, Behind, of_experiment, of_script

from neurosearch.core.machine import git_commit
from neurosearch.core.normalised import normalised

HERE = Path(__file__).parent
# Copied into an older tree, so that old and new code are followed by one method.
METHOD = [f"neurosearch/core/{name}.py" for name in ("compiled", "definitions", "fingerprint")]
METHOD.append("neurosearch/core/normalised.py")
SHOWN = 4

Followed = dict[str, dict[str, str]]  # root -> definition that it reaches -> digest of its source


@dataclass(frozen=True)
class Published:
    """Attributes:
    path: of the readable table. commits: that it names. behind: what its numbers rest on.
    """

    path: Path
    commits: tuple[str, ...]
    behind: Behind


def published() -> list[Published]:
    """All tables that name a commit."""
    found = []
    for path in sorted(HERE.glob("*/results/**/*.md")):
        text = path.read_text("utf-8")
        commits = re.findall(r"Commits?: ([0-9a-f]{7,40}(?:, [0-9a-f]{7,40})*)", text)
        if not commits:
            continue
        script = re.search(r"Command: .*?(experiments/[\w/]+\.py)", text)
        name = path.relative_to(HERE).parts[0]
        if script:
            behind = of_script(script.group(1))
        elif not (ROOT / "conf" / "experiment" / f"{name}.yaml").exists():
            behind = of_script(f"experiments/{name}/{name}.py")
        else:
            data = path.stem.split(",")[0].split(".")[0]
            known = (ROOT / "conf" / "data" / f"{data}.yaml").exists()
            behind = of_experiment(name, data if known else "")
        found.append(Published(path, tuple(sorted(set(commits[0].split(", ")))), behind))
    return found


def followed(tree: Path, roots: Iterable[str]) -> Followed:
    """For each root, every definition that it reaches in a tree -> a digest of its source."""
    code = (
        "import hashlib, json, sys; from neurosearch.core.fingerprint import reach\n"
        "print(json.dumps({root: {':'.join(key): hashlib.blake2b(text.encode()).hexdigest()[:16]"
        " for key, text in reach(*root.split(':')).items()} for root in json.load(sys.stdin)}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tree,
        env={"PATH": ""},
        input=json.dumps(sorted(roots)),
        capture_output=True,
        text=True,
        check=True,
    )
    found: Followed = json.loads(done.stdout)
    return found


def as_was(commit: str, tree: Path) -> bool:
    """Lay out the tree of a commit, with today's way of following code; False where it is none."""
    packed = subprocess.run(
        ["git", "archive", commit, "neurosearch", "conf", "experiments"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if packed.returncode:
        return False
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, filter="data")
    for name in METHOD:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    return True


def meaning(path: Path) -> str:
    """What of a config file or a script moves a number; empty where there is no such file."""
    if not path.exists():
        return ""
    if path.suffix == ".py":
        return normalised(path.read_bytes())
    held = yaml.safe_load(path.read_text("utf-8")) or {}
    if path.parent.name == "experiment":
        held = {key: value for key, value in held.items() if key not in (*APART, "name")}
    return json.dumps(held, sort_keys=True)


@dataclass(frozen=True)
class Compared:
    """A table at one of its commits.

    Attributes:
        reached: number of definitions and files that its numbers rest on today.
        changed: those that differ, as `module:name`, and config files and scripts that do; None
            where git doesn't have the commit.
    """

    path: Path
    commit: str
    reached: int
    changed: list[str] | None


def compared(commit: str, tables: Sequence[Published], now: Followed) -> Iterator[Compared]:
    """What differs behind each of the tables of a commit."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        there = as_was(commit, tree)
        roots = {root for table in tables for root in table.behind.roots}
        before = followed(tree, roots) if there else {}
        for table in tables:
            old: dict[str, str] = {}
            new: dict[str, str] = {}
            for root in table.behind.roots:
                old |= before.get(root, {})
                new |= now[root]
            names = sorted(name for name in new if old.get(name) != new[name])
            files = sorted(f for f in table.behind.files if meaning(tree / f) != meaning(ROOT / f))
            yield Compared(
                table.path,
                commit,
                len(new) + len(table.behind.files),
                [*names, *files] if there else None,
            )


def page(tables: Sequence[Published]) -> str:
    """The whole page."""
    roots = {root for table in tables for root in table.behind.roots}
    now = followed(ROOT, roots)
    found: list[Compared] = []
    for commit in sorted({commit for table in tables for commit in table.commits}):
        found += compared(commit, [t for t in tables if commit in t.commits], now)
    found.sort(key=lambda one: (one.path, one.commit))
    return "\n".join([*_head(found), "", *_by_table(found), "", *_by_definition(found), ""])


def _head(found: Sequence[Compared]) -> Iterator[str]:
    alike = sum(one.changed == [] for one in found)
    yield from (
        "# What has changed behind the tables",
        "",
        f"Generated by `python experiments/changed.py` at commit {git_commit()}. Each table names",
        "the commit that it was made at. Here all code that its numbers rest on is followed, at",
        "that commit and now, and so are the config files. Any edit counts, also one that moves no",
        "number; comments, docstrings, annotations and labels do not.",
        "",
        f"Of {len(found)} tables {alike} would be made by exactly the same code and configs today.",
        "",
        "| commit | date | tables | definitions and files behind one | changed of them |",
        "|:---|:---|---:|---:|---:|",
    )
    by_commit: dict[tuple[str, str], list[Compared]] = {}
    for one in found:
        by_commit.setdefault((date_of(one.commit), one.commit), []).append(one)
    for (when, commit), tables in sorted(by_commit.items(), reverse=True):
        counts = [len(one.changed) for one in tables if one.changed is not None]
        changed = _span(counts) if counts else "not in this history"
        behind = _span([one.reached for one in tables])
        yield f"| {commit} | {when[:10]} | {len(tables)} | {behind} | {changed} |"


def _span(counts: Sequence[int]) -> str:
    """The least and the most of some counts."""
    least, most = min(counts), max(counts)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def date_of(commit: str) -> str:
    """The time of a commit; empty where git doesn't have it."""
    words = ["git", "show", "-s", "--format=%cI", commit]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _by_table(found: Sequence[Compared]) -> Iterator[str]:
    yield from ("| table | commit | changed | which |", "|:---|:---|---:|:---|")
    for one in found:
        place = one.path.relative_to(HERE).as_posix()
        link = f"[{place.removesuffix('.md').replace('/results', '')}]({place})"
        short = [n.rpartition(".")[2] if ":" in n else n for n in one.changed or ()]
        which = ", ".join(short[:SHOWN])
        which += f" and {len(short) - SHOWN} more" if len(short) > SHOWN else ""
        count = "" if one.changed is None else str(len(short))
        yield f"| {link} | {one.commit} | {count} | {which} |"


def _by_definition(found: Sequence[Compared]) -> Iterator[str]:
    yield from ("| changed since the commit of a table | tables |", "|:---|---:|")
    counts = Counter(name for one in found for name in one.changed or ())
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield f"| {name} | {count} |"


if __name__ == "__main__":
    (HERE / "CHANGED.md").write_text(page(published()), encoding="utf-8")
