"""Tests. Each of several pytest processes, and what it starts, keeps to a core of its own.

Processes that all start a thread for each core wait for one another most of the time.
"""

import os

_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if _worker:
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker.removeprefix("gw")) % len(_cores)]})
