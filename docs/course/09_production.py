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
# # 9. Production: an API, a cache, a monitor, a trial
#
# **Question.** The table named a winner. How does it come in front of people, how do we notice when
# it
# breaks, and how do we learn whether *they* prefer it?
#
# **Idea.** What is served must be what was measured: the same recipe, the same artifacts, the same
# lists. Around it stand a cache for frequent queries (queries follow a power law), a monitor that
# compares today's queries with earlier ones, and a trial. In an A/B trial every visitor sees one of
# two
# systems; the number of visitors that is needed for a difference $\delta$ of a metric with standard
# deviation $\sigma$ is
#
# $$n = \frac{2\,\sigma^2\,(z_{1-\alpha/2} + z_{1-\beta})^2}{\delta^2} \text{ visitors an arm.}$$
#
# Interleaving mixes both systems in one list and needs far fewer.
#
# Papers: Chapelle et al., "Large-scale validation and analysis of interleaved search evaluation"
# (2012); Kohavi, Tang, Xu, "Trustworthy online controlled experiments" (2020).
#
# The same on the command line: `ns task=serve retriever=bm25`, `ns task=load retriever=bm25`,
# `ns task=monitor retriever=bm25`, `ns task=trial task.visitors=2000`.

# %%
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

import neurosearch as ns
from neurosearch.trial.effect import users_needed

TOY = os.environ.get("NEUROSEARCH_COURSE") == "toy"  # the size that the tests run
outputs = Path(tempfile.mkdtemp())
SIZE = [
    f"data.n_products={500 if TOY else 5000}",
    f"data.n_queries={60 if TOY else 400}",
    "data.images=false",
]
SYSTEM = ["retriever=bm25", "data=shop", *SIZE]

# %% [markdown]
# ## A server
#
# The command line starts it; it builds what is missing, opens the page, and writes a query log.
# Keys
# and rate limits are settings (`task.server.keys`), and it refuses to listen on other addresses
# than
# this machine's without them.

# %%
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
environment = {**os.environ, "NEUROSEARCH_OUTPUTS": str(outputs)}
COMMAND = [sys.executable, "-W", "ignore", "-m", "neurosearch"]
server = subprocess.Popen(
    [*COMMAND, "task=serve", *SYSTEM, f"task.server.port={port}"],
    env=environment,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
address = f"http://127.0.0.1:{port}"
client = httpx.Client(base_url=address, timeout=10)


def is_ready() -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


deadline = time.monotonic() + 180
while not is_ready():
    assert server.poll() is None and time.monotonic() < deadline, "the server did not start"
    time.sleep(0.3)
answer = client.post("/v1/search", json={"query": "red mixer", "k": 3}).json()
print(json.dumps(answer["results"][0], indent=1)[:400])

# %% [markdown]
# ## The same list as in Python
#
# This is the promise that matters: what is served is what was measured.

# %%
shop = ns.Shop(n_products=500 if TOY else 5000, n_queries=60 if TOY else 400, images=False)
runtime = ns.Runtime(outputs, progress=False)
offline = ns.search(ns.BM25(), shop, "red mixer", k=3, runtime=runtime, progress=False)
assert offline["product_id"].to_list() == [one["product_id"] for one in answer["results"]]
offline

# %% [markdown]
# ## What the cache is worth
#
# A few queries are most of the traffic. If query $i$ is asked with probability proportional to
# $1/i$,
# what share of requests has been asked before?

# %%
queries = runtime.get(shop.bound(runtime)).queries("test").texts
rng = np.random.default_rng(0)
chances = 1 / np.arange(1, len(queries) + 1)
asked = rng.choice(len(queries), size=300 if TOY else 2000, p=chances / chances.sum())
seen: set[int] = set()
first, again = [], []
for number in asked:
    start = time.perf_counter()
    client.post("/v1/search", json={"query": queries[number], "k": 10}).raise_for_status()
    (again if number in seen else first).append(1000 * (time.perf_counter() - start))
    seen.add(int(number))
share = len(again) / len(asked)
print(f"{share:.2f} of the requests were asked before")

# %%
fig, axes = plt.subplots(figsize=(6, 3), layout="constrained")
bins = np.geomspace(0.3, 100, 40)
axes.hist(first, bins, alpha=0.6, label="first time")
axes.hist(again, bins, alpha=0.6, label="from the cache")
axes.set(xscale="log", xlabel="ms, seen by the client", ylabel="requests")
axes.legend()

# %% [markdown]
# ## Metrics, and an orderly end
#
# `/metrics` is what Prometheus reads. On SIGTERM the server answers what it has accepted, writes
# its
# log, and ends.

# %%
shown = [
    line for line in client.get("/metrics").text.splitlines() if "cache" in line and line[0] != "#"
]
print("\n".join(shown[:4]))
server.send_signal(signal.SIGTERM)
ended = server.wait(timeout=60)
print("exit status", ended)

# %% [markdown]
# ## The monitor
#
# It reads the query log: is today's traffic drawn as yesterday's was? Detectors are two-sample
# tests
# with permutations, corrected for how many there are; the exit status is 2 when something alarms.

# %%
window = (
    ["task.window=100", "task.reference=200"] if TOY else ["task.window=500", "task.reference=1500"]
)
done = subprocess.run(
    [*COMMAND, "task=monitor", *SYSTEM, *window],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
)
print("exit status", done.returncode)
print("\n".join(done.stdout.splitlines()[-14:]))

# %% [markdown]
# ## How many visitors does a trial need?

# %%
deviation, effect = 0.5, 0.01  # clicks an impression
by_formula = 2 * deviation**2 * (norm.ppf(0.975) + norm.ppf(0.8)) ** 2 / effect**2
print(f"{by_formula:,.0f} visitors an arm; by the library {users_needed(deviation, effect):,.0f}")
effects = np.geomspace(0.002, 0.05, 30)
fig, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.loglog(effects, [users_needed(deviation, e) for e in effects])
axes.set(xlabel="difference in clicks an impression", ylabel="visitors an arm (80 % power)")

# %% [markdown]
# ## Exercises
#
# 1. Half the effect: how many times the visitors?
# 2. Somebody looks at the p-value every day of a month and stops at the first p < .05. Simulate how
#    often two equal systems differ "significantly" then.
# 3. A server's cache keeps answers for 300 seconds. A product is sold out now. What does the
#    page show,
#    and what would you do?

# %%
assert np.isclose(
    users_needed(deviation, effect / 2) / users_needed(deviation, effect), 4, rtol=0.01
)
days, trials = 30, 2000
steps = np.random.default_rng(1).normal(size=(trials, days)).cumsum(axis=1) / np.sqrt(
    np.arange(1, days + 1)
)
false_alarms = float((np.abs(steps) > norm.ppf(0.975)).any(axis=1).mean())
assert false_alarms > 0.2
print("1. four times")
print(
    f"2. {false_alarms:.2f} of the trials, in place of .05; a stopping rule made for looking holds its level"
)
print(
    "3. the old list for up to 300 s: filter stock outside the cache, or make the catalogue's fingerprint part of its key"
)

# %% [markdown]
# **In production.** Put a reverse proxy with TLS in front; let a scheduler run the monitor and page
# somebody on exit status 2; plan a trial's length before it begins, and keep a guardrail on latency
# and on searches without a result.

# %%
answers = {
    "exit status of the server": float(ended),
    "share asked before": share,
    "false alarms of daily looks": false_alarms,
}
answers
