"""task=tokenize and task=explore, from the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.report.pictures import tree_picture
from neurosearch.task.explore import PROJECTIONS, spread, variances
from tests import commands

SMALL = ["debug=tiny", "encoder@tokenizer.encoder=hashing", "tokenizer.codes=16"]


def run(outputs: Path, *words: str) -> commands.Done:
    return commands.run(words, {"NEUROSEARCH_OUTPUTS": str(outputs)})


def test_a_sweep_of_tokenizers_is_a_table_that_names_the_collapsed(tmp_path: Path) -> None:
    words = ["-m", "tokenizer=rqkmeans", "task=tokenize", "name=ids", "seed=0,1", *SMALL]
    strict = "tokenizer.thresholds.perplexity=0.0,1.0"
    columns = "report.columns=[distinct,collision_rate,healthy]"
    done = run(tmp_path, *words, strict, columns)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (tmp_path / "tables" / "ids").glob("*.csv")
    with path.open() as handle:
        rows = list(csv.DictReader(handle))
    values = {(row["system"], row["metric"]): row for row in rows}
    kind, sick = "rqkmeans · perplexity=0.0", "rqkmeans · perplexity=1.0"
    assert values[kind, "healthy"]["mean"] == "1" and values[sick, "healthy"]["mean"] == "0"
    assert values[kind, "distinct"]["n_seeds"] == "2"
    records = [json.loads(p.read_text()) for p in tmp_path.glob("jobs/ids/*/record.json")]
    lenient = [r for r in records if "tokenizer.thresholds.perplexity=0.0" in r["overrides"]]
    healthy = [r["means"]["distinct"] for r in lenient]
    spread = np.std(healthy, ddof=1)
    assert float(values[kind, "distinct"]["sd_seeds"]) == pytest.approx(spread, rel=1e-4)
    page = path.with_suffix(".md").read_text()
    assert f"| {sick} (collapsed) |" in page and f"| {kind} |" in page
    assert "95 %" not in page and "SIMULATED DATA" in page


def test_exploring_makes_a_page_with_pictures(tmp_path: Path) -> None:
    words = ["task=explore", "tokenizer=rqkmeans", "name=look", "task.sample=100", *SMALL]
    done = run(tmp_path, *words, "task.projections=[pca,tsne]")
    assert done.returncode == 0, done.stderr[-2000:]
    (folder,) = (tmp_path / "jobs" / "look").glob("*/explore")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *(
            "index.html",
            "profile.json",
            "profile.png",
            "usage.png",
            "tree.png",
            "map.png",
            "scree.png",
        )
    }
    page = (folder / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page.replace("http-equiv", "")
    facts = json.loads((folder / "profile.json").read_text())
    assert facts["products"] == 500
    assert "<h2>Semantic IDs: <span>healthy</span></h2>" in page


def test_variance_and_distances_are_what_they_say() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(500, 6)) * [3, 2, 1, 1, 1, 0]).astype(np.float32)
    shares = variances(vectors)
    assert shares == pytest.approx(PCA(6).fit(vectors).explained_variance_ratio_, abs=1e-6)
    line = np.array([[0, 0], [2, 0], [5, 1], [5, 1]], np.float32)
    assert spread(line, np.array([7, 7, 9, 9])).tolist() == [1, 1, 0, 0]


def test_every_code_of_the_sunburst_has_a_colour() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 200, (3000, 2)).astype(np.int32)
    drawn = np.asarray(Image.open(io.BytesIO(tree_picture(SemanticIds(codes, (200, 200), 2)))))
    ring = drawn.reshape(-1, drawn.shape[-1])[:, :3].astype(int)
    grey = (np.ptp(ring, axis=1) < 8) & (ring.min(axis=1) > 60) & (ring.max(axis=1) < 245)
    assert grey.mean() < 0.03  # the letters' edges


@pytest.mark.parametrize("name", PROJECTIONS)
def test_a_projection_keeps_two_groups_apart(name: str) -> None:
    """In a process of its own, where umap is interpreted: to compile it takes far longer."""
    code = (
        "import json, numpy as np; from neurosearch.task.explore import project;"
        "x = np.random.default_rng(0).normal(size=(24, 8)); x[12:] += 20;"
        f"print(json.dumps(np.asarray(project(x, {name!r}, 0)).tolist()))"
    )
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    points = np.array(json.loads(done.stdout))
    assert points.shape == (24, 2) and np.isfinite(points).all()
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert ((distance.argmin(axis=1) >= 12) == (np.arange(24) >= 12)).all()


def test_the_plan_of_a_tokenizer_is_its_health(tmp_path: Path) -> None:
    done = run(tmp_path, "task=plan", "tokenizer=rqkmeans", *SMALL)
    assert done.returncode == 0, done.stderr[-2000:]
    for kind in ("health", "semantic_ids", "tokenizer", "embeddings"):
        assert f"{kind} " in done.stdout
    assert "rqkmeans" in done.stdout and "to build" in done.stdout


@pytest.mark.parametrize(
    "words, message",
    [
        (["task=tokenize"], "config key 'tokenizer' is null"),
        (["task=explore", "task.projections=[mds]"], "task.projections has ['mds']"),
        (["task=tokenize", "tokenizer=rqkmeans", "tokenizer.beam=0"], "tokenizer.beam"),
    ],
)
def test_what_is_wrong_is_said_at_once(tmp_path: Path, words: list[str], message: str) -> None:
    done = run(tmp_path, "debug=tiny", *words)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr
