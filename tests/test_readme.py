"""Every command of the README runs, at toy size; every file that it names exists."""

from __future__ import annotations

import os
import random
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from neurosearch.task.load import started
from tests.commands import run

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^ns (.*?)(?:\s+#.*)?$", README, flags=re.M) + re.findall(
    r"`ns ([^`]+)`", README
)
OWN = (("red mug", 2), ("long hose", 0))  # titles and grades of the tables of one's own


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Home Depot's published schema, and tables of one's own: made up, small."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    nouns, kinds = ["mug", "sofa", "lamp", "hose", "drill"], ["red", "blue", "oak", "steel", "long"]
    rows = []
    for query in range(120):
        words = f"{rng.choice(kinds)} {rng.choice(nouns)} {query % 30}"
        for _ in range(4):
            product = rng.randrange(200)
            title = f"{kinds[product % 5]} {nouns[product // 5 % 5]} {product % 30}"
            rows.append((product, title, words, rng.choice([1, 2, 2.67, 3])))
    unique = {(product, words): (title, label) for product, title, words, label in rows}
    lines = [
        f'{n},{p},"{title}","{words}",{label}\n'
        for n, ((p, words), (title, label)) in enumerate(unique.items())
    ]
    (folder / "home_depot").mkdir()
    header = '"id","product_uid","product_title","search_term","relevance"\n'
    (folder / "home_depot" / "train.csv").write_text(header + "".join(lines))
    (folder / "products.csv").write_text("title\nred mug\nblue mug\nlong hose\n")
    judged = [f"mug {n},{title},{grade}\n" for n in range(10) for title, grade in OWN]
    (folder / "judged.csv").write_text("query,product_id,grade\n" + "".join(judged))
    return folder


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) >= 7


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory, toy_outputs: Path) -> Path:
    """Tables of their own, and the artifacts of all toys."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "artifacts").symlink_to(toy_outputs / "artifacts", target_is_directory=True)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_it_runs(command: str, published: Path, outputs: Path) -> None:
    words = shlex.split(command.replace("/your/folder", str(published)))
    toy = ["runtime.threads=1"]
    few = ["evaluation.resamples=200", "evaluation.latency.queries=20"]
    toy += [] if "task=" in command else few
    if "data=" not in command:
        toy += ["debug=tiny"]
    if "-m experiment=" in command:
        toy += ["seed=0"]
    places = {"NEUROSEARCH_DATA": str(published), "NEUROSEARCH_OUTPUTS": str(outputs)}
    if "task=serve" in command:
        asked_of_a_server([*words, *toy], places, outputs)
        return
    if "task=dashboard" in command:  # shows jobs that ran before
        assert run(["retriever=random", "debug=tiny"], places).returncode == 0
    done = run([*words, *toy], places)
    assert done.returncode == 0, done.stderr[-2000:]


def asked_of_a_server(words: list[str], places: dict[str, str], folder: Path) -> None:
    """Serve the system of a command, ask it three queries, and stop it."""
    kept = [word for word in words if not word.startswith("task=")]
    with started(kept, folder, places) as (url, process):
        for number in range(3):
            body = {"query": ("red mixer", "blue kettle", "wooden shelf")[number]}
            answer = httpx.post(f"{url}/v1/search", json=body)
            assert answer.status_code == 200, answer.text
    assert process.returncode == 0


def test_the_python_lines_run(outputs: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    environment = {**os.environ, "NEUROSEARCH_OUTPUTS": str(outputs / "python")}
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| Hybrid RRF |" in done.stdout and "mixer" in done.stdout
    assert list((outputs / "python" / "tables").rglob("*.html"))


def test_links_and_files_exist() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("experiments/*/README.md")]:
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"


def test_the_readme_is_one_screen() -> None:
    assert len(README.splitlines()) <= 90


def test_its_table_is_the_published_one() -> None:
    made = runpy.run_path(str(ROOT / "experiments" / "overview.py"))
    before, after = made["MARKS"]
    assert README.split(before)[1].split(after)[0].strip() == made["first_table"]()
