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
# # A first table
#
# Three retrieval systems, one catalogue, one table with intervals and corrected tests. Everything
# here works the same way on your own data: replace the shop by `ns.Beir("/your/folder")`, or by
# `ns.TableFiles(...)` for two CSV or parquet files.
#
# This notebook is paired with `first_table.py` by jupytext; the tests execute it.

# %%
import tempfile
from pathlib import Path

import neurosearch as ns

# %% [markdown]
# The simulated shop is built in. Its numbers say nothing about real shops, and every table says so.
# Artifacts go to `outputs/`, or where `NEUROSEARCH_OUTPUTS` points; this notebook uses a temporary
# folder.

# %%
runtime = ns.Runtime(Path(tempfile.mkdtemp()), progress=False)
shop = ns.Shop(n_products=500, n_queries=60, n_sessions=100, images=False)

# %% [markdown]
# ## Systems
#
# A system is a recipe: a frozen dataclass. Recipes hold recipes.

# %%
bm25 = ns.BM25()
dense = ns.Dense(ns.Sentence())
hybrid = ns.Hybrid({"words": bm25, "vectors": dense}, ns.RRF(), ns.gain("shop"))
hybrid

# %% [markdown]
# ## The table
#
# `compare` builds what is missing, evaluates the test split, and tests each row against the
# baseline: paired randomisation tests, corrected by Holm's method.

# %%
table = ns.compare([bm25, dense, hybrid], shop, baseline=bm25, runtime=runtime, progress=False)
table

# %% [markdown]
# The same numbers as a polars frame, and as LaTeX for a paper.

# %%
table.frame.filter(table.frame["metric"] == "nDCG@10")

# %%
print(table.to_latex())

# %% [markdown]
# `table.page()` returns the path of a page: any two systems query by query, kinds of queries,
# quality against cost, and how each row was made.

# %%
table.page()

# %% [markdown]
# ## Use the winner

# %%
ns.search(hybrid, shop, "red mixer", k=5, runtime=runtime, progress=False)
