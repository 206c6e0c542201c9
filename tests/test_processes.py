"""What the tests' own processes are given."""

from __future__ import annotations

import os

import pytest

from neurosearch.core.runtime import Runtime


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process has all cores")
def test_a_worker_has_one_core(runtime: Runtime) -> None:
    import torch

    assert len(os.sched_getaffinity(0)) == runtime.cpu_threads == torch.get_num_threads() == 1
