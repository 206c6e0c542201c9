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
# # 7. Words and pictures
#
# **Question.** A query says "red mug"; the picture shows red, the title may not say it. What does
# a picture add to words, and where should the two meet?
#
# **Idea.** *Late fusion*: two lists, one by titles and one by pictures, mixed with a weight that
# dev queries choose. *Early fusion*: one vector a product, the two modalities side by side. To
# compare a query's words with a picture, both must live in one space: a linear map is learnt from
# product titles to their own pictures (ridge regression on frozen encoders), or a jointly trained
# model such as CLIP is used. Vectors of two modalities do not mix by themselves: each lies around
# its own mean (the *modality gap*), so both are centred first.
#
# Papers: Radford et al., "Learning transferable visual models from natural language supervision"
# (CLIP, 2021); Liang et al., "Mind the gap" (2022).
#
# The same on the command line: `ns -m experiment=multimodal data.images=true`.

# %%
import io
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import neurosearch as ns
from neurosearch import app  # noqa: F401  (registers what configs need)
from neurosearch.task.jobs import job_of

TOY = os.environ.get("NEUROSEARCH_COURSE") == "toy"  # the size that the tests run
runtime = ns.Runtime(Path(tempfile.mkdtemp()), device="cpu", progress=False)
shop = ns.Shop(n_products=500 if TOY else 2000, n_queries=60 if TOY else 400, images=True)
data = shop.bound(runtime)
opened = runtime.get(data)

# %% [markdown]
# ## What the pictures look like
#
# Pictures of the simulated shop are drawn from the product's attributes: shape by type, colour by
# colour. Real data: `data=fashion_small` (see the experiment
# [multimodal](../../experiments/multimodal/README.md)).

# %%
first = next(iter(opened.catalogue.batches(["title", "image"], 60)))
fig, panels = plt.subplots(1, 6, figsize=(9, 2.2), layout="constrained")
for axes, (title, picture) in zip(panels, first[::10].iter_rows(), strict=True):
    axes.imshow(Image.open(io.BytesIO(picture)))
    axes.set_title(title[:22], fontsize=7)
    axes.axis("off")

# %% [markdown]
# ## Four systems by config
#
# What has no short name in Python is composed as on the command line: `job_of` takes overrides.

# %%
CHOICES = {
    "titles": "dense",
    "pictures": "dense/words_to_pictures",
    "late fusion": "hybrid/late_fusion",
    "early fusion": "dense/early_fusion",
}
systems = {
    name: job_of([f"retriever={choice}", "data=shop", "data.images=true"]).retriever
    for name, choice in CHOICES.items()
}
table = ns.compare(systems, shop, baseline="titles", runtime=runtime, progress=False)
table

# %% [markdown]
# ## The weight of the words
#
# Late fusion's score is $w\,s_\text{words} + (1 - w)\,s_\text{picture}$, each score normalised
# first. Dev queries choose $w$ and the normalisation; here is a curve of that kind (min-max), of
# the share of good products that are found, on dev.

# %%
from neurosearch.core.retrieval import RetrievalRequest

request = RetrievalRequest(ns.NoProcessing(), "dev", 100)
weights = [0.0, 0.25, 0.5, 0.75, 1.0]
good = opened.judgments("dev").frame.filter(label="E").select("query_id", "product_id")


def found_by(weight: float) -> float:
    """Share of the good products of dev queries among the first ten."""
    fusion = ns.Convex(weights={"text": weight, "image": 1 - weight}, norm="min-max")
    members = {"text": systems["titles"], "image": systems["pictures"]}
    run = runtime.get(ns.Hybrid(members, fusion, ns.gain("shop")).run(data, request)).frame
    ten = run.filter(run["rank"] <= 10)
    return good.join(ten, on=["query_id", "product_id"], how="semi").height / good.height


curve = [found_by(weight) for weight in weights]
fig, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
axes.plot(weights, curve, marker="o")
axes.set(xlabel="weight of the words", ylabel="good products in the first ten (dev)")
print(np.round(curve, 3))

# %% [markdown]
# ## Vectors of one modality share a mean
#
# Unit vectors of one modality share a large mean. Two random products then look similar, and
# adding the modalities adds mostly their means. The modality gap is the distance between two such
# means; here is the mean of the titles.

# %%
encoder = ns.Sentence()
words = np.asarray(runtime.get(encoder.product_embeddings(data)).vectors, np.float32)
mean = words.mean(axis=0)
centred = words - mean
centred /= np.linalg.norm(centred, axis=1, keepdims=True)
rng = np.random.default_rng(0)
one, other = rng.integers(len(words), size=(2, 2000))
plain = float(np.einsum("nd,nd->n", words[one], words[other]).mean())
without = float(np.einsum("nd,nd->n", centred[one], centred[other]).mean())
print(
    f"mean cosine of random titles: {plain:.3f}; after centring {without:.3f}; length of the mean {np.linalg.norm(mean):.3f}"
)

# %% [markdown]
# ## Exercises
#
# 1. The mean cosine of two random unit vectors of a modality is about $\lVert m \rVert^2$, with
#    $m$ the mean vector. Show it, and check it above.
# 2. A shop's pictures show no brand. For which queries should the picture's weight be 0?
# 3. If the weight were chosen on test queries, which number of the table could no longer be
#    trusted?

# %%
assert abs(plain - float(mean @ mean)) < 0.03
print("1. E[x·y] = E[x]·E[y] = |m|², for independent draws")
print("2. queries that name nothing but a brand")
print("3. the fused row's: its weight has seen the answers; this is why the test split is sealed")

# %% [markdown]
# **In production.** Pictures add an encoder and a map to indexing, and late fusion searches a
# second index for each query. Products without a picture need a defined score (here: their words
# alone).

# %%
scores = table.frame.filter(metric="nDCG@10")
answers = {
    "nDCG@10 titles": scores["mean"][0],
    "nDCG@10 late fusion": scores["mean"][2],
    "cosine of random titles": plain,
}
answers
