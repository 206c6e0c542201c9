"""Do MMQ's experts part what modalities share from what is theirs? Planted factors say.

Words are a linear map of shared and of private factors, pictures of the same shared factors and of
private ones of their own. Linear probes (ridge) are fitted on half of the products and asked about
the other half: the R² of every group of experts about every group of factors.

Run: python experiments/factors/factors.py   (writes results/factors.csv and factors.md)
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.multimodal.fused import Fused
from neurosearch.encoder.sentence import Sentence
from neurosearch.tokenizer.mmq.recipe import MMQ
from neurosearch.training.schedule import Schedule

WIDTH, FACTORS, NOISE = 48, 6, 0.1
GROUPS = {"shared": (0, 1), "words": (2,), "picture": (3,)}
SEEDS = (0, 1, 2)


def planted(products: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """N×2·WIDTH vectors of two unit views, and the N×FACTORS that they were made from."""
    rng = np.random.default_rng(seed)
    factors = {name: rng.normal(size=(products, FACTORS)) for name in GROUPS}
    views = []
    for own in ("words", "picture"):
        mixing = rng.normal(size=(2 * FACTORS, WIDTH))
        view = np.concatenate([factors["shared"], factors[own]], axis=1) @ mixing
        view += NOISE * rng.normal(size=view.shape)
        views.append(view / np.linalg.norm(view, axis=1, keepdims=True))
    return (np.concatenate(views, axis=1) / 2**0.5).astype(np.float32), factors


def probed(latents: np.ndarray, factors: np.ndarray) -> float:
    """R² on the second half of a ridge regression that was fitted on the first."""
    half = len(latents) // 2
    inputs = np.concatenate([latents, np.ones((len(latents), 1))], axis=1)
    gram = inputs[:half].T @ inputs[:half] + 1e-2 * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs[:half].T @ factors[:half])
    left = factors[half:] - inputs[half:] @ weights
    around = factors[half:] - factors[half:].mean(axis=0)
    return float(1 - (left**2).sum() / (around**2).sum())


def tokenizer(seed: int, weight: float, reading: str = "subspace", decoding: str = "own") -> MMQ:
    """A small MMQ; `weight` is the orthogonality's."""
    return MMQ(
        encoder=Fused(text=Sentence(), image=Sentence()),
        **{"codes": 64, "latent": 8, "hidden": 128, "batch_size": 512, "order": "experts"},
        **{"orthogonality": reading, "orthogonality_weight": weight, "decoding": decoding},
        seed=seed,
        schedule=Schedule(epochs=60, lr=2e-3, validations=2, patience=0, seed=seed),
    )


def measured(recipe: MMQ, products: int, seed: int) -> list[dict[str, object]]:
    """R² of each group of experts about each group of factors, on one planted catalogue."""
    vectors, factors = planted(products, seed)
    with tempfile.TemporaryDirectory() as name:
        runtime = Runtime(outputs=Path(name), device="cpu", progress=False)
        told = recipe.fit_views(vectors, WIDTH, Path(name), runtime)
        network = recipe.quantizer(Path(name)).network
    with torch.no_grad():
        inputs, _ = network.standardised(torch.from_numpy(vectors))
        latents = network.latents(inputs).numpy()
    return [
        {
            "experts": group,
            "factors": about,
            "r2": probed(np.concatenate([latents[m] for m in members], axis=1), values),
            "error": told["error"],
        }
        for group, members in GROUPS.items()
        for about, values in factors.items()
    ]


ROWS = {
    "no orthogonality, decoding from all": {"weight": 0.0, "decoding": "all"},
    "no orthogonality": {"weight": 0.0},
    "outputs, weight 1": {"weight": 1.0, "reading": "outputs"},
    "subspace, weight 1": {"weight": 1.0},
    "subspace, weight 3": {"weight": 3.0},
}


def main(products: int = 4000) -> None:
    """Measure every row with three seeds; write the table."""
    found = []
    for name, options in ROWS.items():
        for seed in SEEDS:
            recipe = replace(tokenizer(seed, 0.0), **renamed(options))
            found += [{"row": name, "seed": seed} | x for x in measured(recipe, products, seed)]
            print(name, seed, flush=True)
    frame = pl.DataFrame(found)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    frame.write_csv(folder / "factors.csv", float_precision=4)
    (folder / "factors.md").write_text(table(frame), encoding="utf-8")


def renamed(options: dict[str, object]) -> dict[str, object]:
    """Options of `tokenizer` as fields of its recipe."""
    names = {"weight": "orthogonality_weight", "reading": "orthogonality"}
    return {names.get(key, key): value for key, value in options.items()}


def table(frame: pl.DataFrame) -> str:
    """Markdown: a row a setting, a column for each pair of experts and factors."""
    pairs = [(group, about) for group in GROUPS for about in GROUPS]
    lines = [
        "R² of linear probes: experts → factors. Simulated vectors with planted factors.",
        "",
        "| MMQ | " + " | ".join(f"{a} → {b}" for a, b in pairs) + " | error |",
        "|:---|" + "---:|" * (len(pairs) + 1),
    ]
    for name in frame["row"].unique(maintain_order=True):
        cells = []
        for group, about in pairs:
            chosen = (pl.col("row") == name, pl.col("experts") == group, pl.col("factors") == about)
            values = frame.filter(*chosen)["r2"]
            cells.append(f"{values.mean():.2f} ± {values.std():.2f}")
        error = frame.filter(pl.col("row") == name)["error"].mean()
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {error:.3f} |")
    seeds = frame["seed"].n_unique()
    lines += ["", f"Seeds: {seeds} a row. Hardware: {hardware()}. Commit: {git_commit()}.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
