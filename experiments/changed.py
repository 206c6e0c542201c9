"""Which code behind each published table has changed since the commit that the table names.

    python experiments/changed.py             # writes experiments/CHANGED.md; minutes; needs git
    python experiments/changed.py TABLE …     # all that changed behind some tables, printed

Behind a table is what its rows' configs name, or what its script imports and composes
(`behind.py`), and all code that can be reached from there, as fingerprints follow it
(`neurosearch/core/fingerprint.py`): at the table's commit and now. The config files that Hydra
reads count too, and the pinned releases of packages that compute. Comments, docstrings,
annotations and labels don't, nor does what only moves bytes (`INFRASTRUCTURE`).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from behind import ROOT, Behind, of_command, of_script
from tables import command, link
from trees import RELEASES, Followed, as_was, followed, meaning

from neurosearch.core.fingerprint import INFRASTRUCTURE
from neurosearch.core.machine import git_commit

HERE = Path(__file__).parent
SHOWN = 4


@dataclass(frozen=True)
class Published:
    """Attributes:
    path: of the readable table.
    commits: that it names.
    behind: what its numbers rest on.
    """

    path: Path
    commits: tuple[str, ...]
    behind: Behind


def published(paths: Iterable[Path]) -> list[Published]:
    """Those of some tables that name a commit."""
    found = []
    for path in paths:
        text = path.read_text("utf-8")
        commits = re.findall(r"Commits?(?: of the jobs)?: ((?:[0-9a-f]{7,40}(?:, )?)+)", text)
        if commits:
            every = {commit for some in commits for commit in some.rstrip(", ").split(", ")}
            found.append(Published(path, tuple(sorted(every)), behind(path, text)))
    return found


def behind(path: Path, text: str) -> Behind:
    """What a table rests on, by its command; where it has none, by its folder."""
    words = command(text)
    script = next((word for word in words if word.startswith("experiments/")), None)
    name = path.relative_to(HERE).parts[0]
    own = HERE / name / f"{name}.py"
    if not words and own.exists():
        script = own.relative_to(ROOT).as_posix()
    if script is not None:
        return of_script(script)
    data = re.split(r"[,.]", path.stem)[0]
    known = (ROOT / "conf" / "data" / f"{data}.yaml").exists()
    rows = re.findall(r"^\| (.*?) \|", text, re.M)
    return of_command(words or ["task=table"], name, data if known else "", rows)


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
        read = {RELEASES, *(file for table in tables for file in table.behind.files)}
        edited = {file for file in read if meaning(tree / file) != meaning(ROOT / file)}
        for table in tables:
            old: dict[str, str] = {}
            new: dict[str, str] = {}
            for root in table.behind.roots:
                old |= before.get(root, {})
                new |= now[root]
            names = sorted(name for name in new if old.get(name) != new[name])
            own = {*table.behind.files, RELEASES}
            yield Compared(
                table.path,
                commit,
                len(new) + len(own),
                [*names, *sorted(own & edited)] if there else None,
            )


def all_compared(tables: Sequence[Published]) -> list[Compared]:
    """What differs behind tables, each at each commit that it names."""
    roots = {root for table in tables for root in table.behind.roots}
    now = followed(ROOT, roots)
    lost = [r for r in sorted(roots) if not now[r] and r.split(":")[0] not in INFRASTRUCTURE]
    if lost:
        raise SystemExit(f"nothing is reached from {', '.join(lost)}")
    found: list[Compared] = []
    for commit in sorted({commit for table in tables for commit in table.commits}):
        found += compared(commit, [t for t in tables if commit in t.commits], now)
    return sorted(found, key=lambda one: (one.path, one.commit))


def page(found: Sequence[Compared]) -> str:
    """The whole page."""
    return "\n".join([*_head(found), "", *_by_table(found), "", *_by_part(found), ""])


def _head(found: Sequence[Compared]) -> Iterator[str]:
    tables = {one.path for one in found}
    changed = {one.path for one in found if one.changed != []}
    yield from (
        "# What has changed behind the tables",
        "",
        f"Generated by `python experiments/changed.py` at commit {git_commit()}.",
        "",
        "Each table names the commit that it was made at. Its numbers rest on many parts:",
        "functions, classes, constants, config files, and the pinned releases of packages. This",
        "page says how many of a table's parts are other ones today. Most edits move no number: a",
        "new option that is off counts as well as a new formula. So a count of 0 says that the",
        "table would come out the same; any other one says where to look:",
        "`python experiments/changed.py TABLE` lists all parts of a table that changed, and",
        "`git diff COMMIT -- FILE` shows how. Tables that were made again, number by number:",
        "[AGAIN.md](AGAIN.md). Comments, docstrings, annotations and labels don't count, nor does",
        "code that only moves bytes, such as the store.",
        "",
        f"Of {len(tables)} tables {len(tables - changed)} have no part that changed.",
        "",
        "| commit | day | tables | parts of a table | parts that changed |",
        "|:---|:---|---:|---:|---:|",
    )
    by_commit: dict[tuple[str, str], list[Compared]] = {}
    for one in found:
        by_commit.setdefault((date_of(one.commit), one.commit), []).append(one)
    for (when, commit), some in sorted(by_commit.items(), reverse=True):
        counts = [len(one.changed) for one in some if one.changed is not None]
        told = _span(counts) if counts else "not in this history"
        parts = _span([one.reached for one in some])
        yield f"| {commit} | {when[:10]} | {len(some)} | {parts} | {told} |"


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
    yield from ("| table | commit | parts that changed | such as |", "|:---|:---|---:|:---|")
    for one in found:
        names = [name.removeprefix("neurosearch.") for name in one.changed or ()]
        which = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
        count = "" if one.changed is None else str(len(names))
        yield f"| {link(one.path.relative_to(HERE))} | {one.commit} | {count} | {which} |"


def _by_part(found: Sequence[Compared]) -> Iterator[str]:
    yield from ("| part that changed | behind so many tables |", "|:---|---:|")
    tables: dict[str, set[Path]] = {}
    for one in found:
        for name in one.changed or ():
            tables.setdefault(name, set()).add(one.path)
    for name, behind_it in sorted(tables.items(), key=lambda item: (-len(item[1]), item[0])):
        yield f"| {name.removeprefix('neurosearch.')} | {len(behind_it)} |"


def main(arguments: Sequence[str]) -> None:
    """The page; or, for tables that are named, what changed behind them."""
    every = sorted(HERE.glob("*/results/**/*.md"))
    if not arguments:
        tables = published(every)
        (HERE / "CHANGED.md").write_text(page(all_compared(tables)), encoding="utf-8")
        return
    wanted = [Path(argument).resolve() for argument in arguments]
    tables = published(path for path in wanted if path in every)
    for path in wanted:
        if path not in {table.path for table in tables}:
            raise SystemExit(f"{path} is no published table that names a commit")
    for one in all_compared(tables):
        names = ["not in this history"] if one.changed is None else one.changed or ["nothing"]
        print(f"{one.path.relative_to(ROOT)} since {one.commit}:", *names, sep="\n  ")


if __name__ == "__main__":
    main(sys.argv[1:])
