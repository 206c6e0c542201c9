"""A tree of the repository as it was at a commit, and what its code and files say.

For `changed.py`. An older tree gets today's way of following code, so that old and new are
followed alike.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

import yaml
from behind import APART, ROOT

from neurosearch.core.fingerprint import NUMERIC, SAME
from neurosearch.core.normalised import normalised

METHOD = [f"neurosearch/core/{name}.py" for name in ("compiled", "definitions", "fingerprint")]
METHOD.append("neurosearch/core/normalised.py")
RELEASES = "constraints.txt"

Followed = dict[str, dict[str, str]]  # root -> definition that it reaches -> digest of its source


def followed(tree: Path, roots: Iterable[str]) -> Followed:
    """For each root, every definition that it reaches in a tree -> a digest of its source."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("following.py")],
        env={"PYTHONPATH": str(tree)},
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
        ["git", "archive", commit, "neurosearch", "conf", "experiments", RELEASES],
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
    if path.name == RELEASES:
        pinned = {name for own in NUMERIC.values() for name in SAME.get(own, (own,))}
        lines = path.read_text("utf-8").splitlines()
        return "\n".join(line for line in lines if line.split("==")[0] in pinned)
    if path.suffix == ".py":
        return normalised(path.read_bytes())
    held = yaml.safe_load(path.read_text("utf-8")) or {}
    if path.parent.name == "experiment":
        held = {key: value for key, value in held.items() if key not in (*APART, "name")}
        held |= {"hydra": held.get("hydra", {}).get("sweeper")}
    return json.dumps(held, sort_keys=True)
