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
# # 5. Semantic IDs with RQ-VAE
#
# **Question.** Can a product be named by a few small numbers, so that similar products have
# similar names?
#
# **Idea.** Residual quantization. Replace a vector by its nearest code of a codebook, subtract
# that code, quantize what is left with the next codebook, and so on: level $l$ chooses
#
# $$c_l = \arg\min_k \lVert r_{l} - e^{(l)}_k \rVert^2, \qquad r_{l+1} = r_l - e^{(l)}_{c_l},
# \qquad r_1 = x .$$
#
# With four levels of 256 codes, four numbers name up to $256^4$ products, and a shared prefix
# means nearness. RQ-k-means fits each codebook by k-means on the residuals. RQ-VAE learns an
# encoder, a decoder and the codebooks together, by reconstruction and a commitment loss; it is
# easily trained so that a few codes take everything (collapse), so its health is measured before
# it is used. Its loss is
#
# $$\lVert x - \hat{x} \rVert^2 + \sum_l \big( \lVert \mathrm{sg}[r_l] - e_l \rVert^2
# + \beta \lVert r_l - \mathrm{sg}[e_l] \rVert^2 \big),$$
#
# with $\hat{x}$ decoded from the sum of the codes, $\mathrm{sg}$ the stop of the gradient, and
# $\beta$ the weight of the commitment (.25).
#
# Papers: Lee et al., "Autoregressive image generation using residual quantization" (2022); Rajput
# et al., "Recommender systems with generative retrieval" (TIGER, 2023).
#
# The same on the command line: `ns tokenizer=rqvae task=tokenize`, and pictures by `ns
# tokenizer=rqvae task=explore`.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans

import neurosearch as ns
from neurosearch.tokenizer.health import health_of

TOY = os.environ.get("NEUROSEARCH_COURSE") == "toy"  # the size that the tests run
runtime = ns.Runtime(Path(tempfile.mkdtemp()), device="cpu", progress=False)
shop = ns.Shop(n_products=500 if TOY else 10_000, n_queries=60, images=False)
data = shop.bound(runtime)
encoder = ns.Sentence()
vectors = np.asarray(runtime.get(encoder.product_embeddings(data)).vectors, np.float32)
titles = runtime.get(data).catalogue.all_texts(("title",))

# %% [markdown]
# ## Residual quantization in ten lines

# %%
levels, codes = 3, 16 if TOY else 64


def residual_codes(vectors: np.ndarray, levels: int, codes: int) -> tuple[np.ndarray, list[float]]:
    """N×L codes, and the squared error that is left after each level."""
    left, chosen, errors = vectors.copy(), [], [float((vectors**2).sum(axis=1).mean())]
    for level in range(levels):
        fitted = KMeans(codes, n_init=1, random_state=level).fit(left)
        chosen.append(fitted.labels_)
        left -= fitted.cluster_centers_[fitted.labels_]
        errors.append(float((left**2).sum(axis=1).mean()))
    return np.stack(chosen, axis=1), errors


mine, errors = residual_codes(vectors, levels, codes)
print("squared error after 0, 1, 2, 3 levels:", np.round(errors, 3))

# %% [markdown]
# Products that share their first two codes:

# %%
pairs, counts = np.unique(mine[:, :2], axis=0, return_counts=True)
shown = pairs[np.argsort(-counts)[:3]]
for pair in shown:
    inside = np.flatnonzero((mine[:, :2] == pair).all(axis=1))
    print(tuple(int(code) for code in pair), [titles[row] for row in inside[:3]])

# %% [markdown]
# ## Two tokenizers and their health
#
# *Usage* is the share of codes that are used. *Perplexity* is how many codes a level would have if
# all were used equally: $\exp(-\sum_k p_k \log p_k)$. `collision_rate` is one less the number of
# distinct IDs over the number of products. The verdict looks for collapse (levels of few codes in
# use); how many collisions are too many depends on the use, and a policy (`collisions=`) can give
# every product an ID of its own.

# %%
epochs = 20.0 if TOY else 60.0
schedule = ns.Schedule(epochs=epochs, lr=1e-3, validations=2, patience=0)
kmeans = ns.RQKMeans(encoder=encoder, levels=levels, codes=codes)
vae = ns.RQVAE(encoder=encoder, levels=levels, codes=codes, schedule=schedule)
reports = {}
for tokenizer in (kmeans, vae):
    report = runtime.get(health_of(tokenizer, data))
    reports[tokenizer.label()] = report
    summary = report["summary"]
    print(f"{tokenizer.label():24s} {report['verdict']:10s}", end=" ")
    print(
        {key: round(summary[key], 3) for key in ("min_usage", "min_perplexity", "collision_rate")}
    )
    for reason in report["reasons"] or []:
        print("   ", reason)

# %% [markdown]
# Here RQ-k-means is ahead of RQ-VAE in all three numbers: a network has to earn what k-means gives
# for nothing, and with few products and short trainings it often does not. What it can do that
# k-means can't is learn from more than distances (chapter 8).

# %%
fig, panels = plt.subplots(1, levels, figsize=(9, 2.8), layout="constrained", sharey=True)
for number, axes in enumerate(panels):
    for name, report in reports.items():
        usage = np.sort(report["levels"][number]["counts"])[::-1]
        axes.plot(usage, label=name)
    axes.set(title=f"level {number + 1}", xlabel="codes, most used first")
panels[0].set_ylabel("products")
panels[0].legend(fontsize=7)

# %% [markdown]
# ## Are products with a common prefix near each other?
#
# If IDs are good, products with a common prefix are near each other: compare the mean cosine of
# pairs that share a prefix with that of random pairs.

# %%
ids = np.asarray(runtime.get(kmeans.semantic_ids(data)).codes)
rng = np.random.default_rng(0)


def mean_cosine(length: int) -> float:
    """Of random pairs of products that share their first `length` codes."""
    keys = (
        np.unique(ids[:, :length], axis=0, return_inverse=True)[1]
        if length
        else np.zeros(len(ids), int)
    )
    order = rng.permutation(len(ids))
    order = order[np.argsort(keys[order], kind="stable")]
    one, other = order[:-1], order[1:]
    same = keys[one] == keys[other]
    return float(np.einsum("nd,nd->n", vectors[one], vectors[other])[same].mean())


nearness = [mean_cosine(length) for length in range(3)]
print("mean cosine of pairs that share 0, 1, 2 codes:", np.round(nearness, 3))

# %% [markdown]
# ## Exercises
#
# 1. How many IDs can three levels of 64 codes name, and how many bits is one?
# 2. Show that the squared error of RQ-k-means can't grow from one level to the next on the vectors
#    that it was fitted on. Why is that not so for new products?
# 3. A level uses 2 of its 64 codes, equally often. What are its usage and its perplexity?

# %%
assert 64**3 == 262_144 and 3 * np.log2(64) == 18
assert np.all(np.diff(errors) <= 0)
noise = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
assert np.all(np.diff(residual_codes(noise, 3, 8)[1]) <= 0)
share = np.array([0.5, 0.5])
assert np.isclose(np.exp(-(share * np.log(share)).sum()), 2.0)
print("1. 262,144 IDs of 18 bits")
print("2. a cluster's mean minimises its squared error, so subtracting it adds none;")
print("   a new product's code is frozen, and may be far from what is left of it")
print("3. usage 2/64 = .031, perplexity 2")

# %% [markdown]
# **In production.** IDs must stay when the catalogue changes: new products are assigned with
# frozen codebooks, and drift shows as error that grows. Which tokenizer is healthiest on real data
# is measured in [tokenizers](../../experiments/tokenizers/README.md).

# %%
answers = {
    "squared error after three levels": errors[-1],
    "cosine of pairs that share two codes": nearness[2],
    "collision rate of RQ-k-means": reports[kmeans.label()]["summary"]["collision_rate"],
}
answers
