# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 8. MMQ: semantic IDs of words and pictures
#
# **Question.** A product has a title and a picture. Which part of its ID should say what both
# share, and which what only one of them knows?
#
# **Idea.** MMQ (multimodal mixture-of-quantization) has several *experts*, each an encoder with a
# codebook. Shared experts see both modalities, specific ones see one. An orthogonality term keeps
# experts from learning the same thing; each modality is reconstructed from the shared experts and
# its own. The ID is the list of the experts' codes. A second stage may tune it by behaviour.
#
# Paper: "MMQ: Multimodal mixture-of-quantization tokenization for semantic ID generation and user
# behavioral adaptation" (2025). Its method section was not at hand here: the mechanism is built,
# not the published numbers.
#
# The same on the command line: `ns task=tokenize tokenizer=mmq`, and the experiment
# [mmq](../../experiments/mmq/README.md).

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl

import neurosearch as ns
from neurosearch import app  # noqa: F401  (registers what configs need)
from neurosearch.task.jobs import job_of
from neurosearch.task.tokenize import tokenizer_of
from neurosearch.tokenizer.health import health_of

TOY = os.environ.get("NEUROSEARCH_COURSE") == "toy"  # the size that the tests run
runtime = ns.Runtime(Path(tempfile.mkdtemp()), device="cpu", progress=False)
shop = ns.Shop(n_products=500 if TOY else 2000, n_queries=60, images=True)
data = shop.bound(runtime)
codes = 16 if TOY else 64
epochs = 20 if TOY else 100

# %% [markdown]
# ## Four ways to an ID of four codes
#
# `rqkmeans` and `rqvae` see both modalities as one vector. `mmq/free` is MMQ without the
# orthogonality term.

# %%
SIZE = [f"tokenizer.codes={codes}", "task=tokenize", "data.images=true"]
TRAINED = [*SIZE, f"tokenizer.schedule.epochs={epochs}"]
FUSED = "encoder@tokenizer.encoder=multimodal/fused"
tokenizers = {
    "RQ-k-means": tokenizer_of(job_of(["tokenizer=rqkmeans", FUSED, *SIZE])),
    "RQ-VAE": tokenizer_of(job_of(["tokenizer=rqvae", FUSED, *TRAINED])),
    "MMQ": tokenizer_of(job_of(["tokenizer=mmq", *TRAINED])),
    "MMQ, no orthogonality": tokenizer_of(job_of(["tokenizer=mmq/free", *TRAINED])),
}
KEYS = ("neighbour_consistency", "min_usage", "min_perplexity", "collision_rate")
reports = {name: runtime.get(health_of(tokenizer, data)) for name, tokenizer in tokenizers.items()}
for name, report in reports.items():
    cells = "  ".join(f"{key} {report['summary'][key]:.3f}" for key in KEYS)
    print(f"{name:22s} {report['verdict']:10s} {cells}")

# %% [markdown]
# ## What does each code know?
#
# MMQ's codes are sorted by how much they tell, so a column of the picture does not name its
# expert. The shop's products have known attributes. How much of an attribute does one code tell?
# Normalised mutual information is 0 where the code says nothing and 1 where it says all.

# %%
attributes = ["colour", "category", "brand"]
frame = pl.concat(list(runtime.get(data).catalogue.batches(attributes, 1000)))


def information(one: np.ndarray, other: np.ndarray) -> float:
    """Normalised mutual information of two labellings."""
    joint = np.zeros((one.max() + 1, other.max() + 1))
    np.add.at(joint, (one, other), 1 / len(one))
    p, q = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    inside = joint > 0
    mutual = (joint[inside] * np.log(joint[inside] / (p @ q)[inside])).sum()
    entropies = [-(x[x > 0] * np.log(x[x > 0])).sum() for x in (p, q)]
    return float(mutual / max(1e-12, np.sqrt(max(0.0, entropies[0] * entropies[1]))))


fig, panels = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)
told: dict[str, np.ndarray] = {}
for axes, name in zip(panels, ("RQ-k-means", "MMQ"), strict=True):
    ids = np.asarray(runtime.get(tokenizers[name].semantic_ids(data)).codes)
    labels = {
        a: np.unique(frame[a].fill_null("").to_numpy(), return_inverse=True)[1] for a in attributes
    }
    levels = min(4, ids.shape[1])
    told[name] = np.array(
        [[information(ids[:, n], labels[a]) for n in range(levels)] for a in attributes]
    )
    axes.imshow(told[name], vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set(title=name, xticks=range(levels), xticklabels=[f"code {n + 1}" for n in range(levels)])
    axes.set_yticks(range(len(attributes)), attributes)
    for (row, column), value in np.ndenumerate(told[name]):
        axes.text(
            column, row, f"{value:.2f}", ha="center", va="center", color="w" if value < 0.6 else "k"
        )

# %% [markdown]
# Compare the figures with each other: IDs can be healthy and still hold neighbours together less than
# those of plain k-means do.
#
# ## IDs in use
#
# IDs are judged by what a system finds with them: multiphase retrieval over MMQ's first code,
# scored by the fused vectors, beside the same without a tree.

# %%
fused = job_of(["retriever=dense/early_fusion", "data.images=true"]).retriever
walk = ns.Multiphase(tokenizer=tokenizers["MMQ"], probes=4)
table = ns.compare(
    {"exact": fused, "MMQ, 4 prefixes": walk},
    shop,
    baseline="exact",
    runtime=runtime,
    progress=False,
)
table

# %% [markdown]
# ## Exercises
#
# 1. MMQ has two shared experts and one for each modality, with 64 codes each. How many IDs are
#    there?
# 2. Swap the experts' order. Which of the four health figures must stay the same, and why?
# 3. What is the normalised mutual information of a labelling with itself, and with a constant?

# %%
assert 64**4 == 16_777_216
rng = np.random.default_rng(0)
some = rng.integers(0, 5, 500)
assert np.isclose(information(some, some), 1) and information(some, np.zeros(500, int)) < 1e-9
ids = np.asarray(runtime.get(tokenizers["MMQ"].semantic_ids(data)).codes)
swapped = ids[:, ::-1]
assert len(np.unique(ids, axis=0)) == len(np.unique(swapped, axis=0))
used = [sorted(len(np.unique(column)) for column in some.T) for some in (ids, swapped)]
assert used[0] == used[1]
print("1. 16.8 million")
print("2. collision_rate, min_usage and min_perplexity; neighbour_consistency counts prefixes")
print("3. 1 and 0")

# %% [markdown]
# **In production.** New products have no behaviour yet; IDs from words and pictures place them
# beside products that do. Whether the parts earn their place must be measured on the shop's own
# data: on ours, see which parts did in the experiment.

# %%
answers = {
    "neighbour consistency of MMQ": reports["MMQ"]["summary"]["neighbour_consistency"],
    "neighbour consistency of RQ-k-means": reports["RQ-k-means"]["summary"][
        "neighbour_consistency"
    ],
    "collision rate of MMQ": reports["MMQ"]["summary"]["collision_rate"],
}
answers
