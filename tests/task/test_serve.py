"""What a reload may change, and how systems are named."""

from __future__ import annotations

import pytest

from neurosearch.core.errors import InputError
from neurosearch.task.serve import check_further, overrides_of


def test_a_reload_changes_the_system_and_nothing_else() -> None:
    check_further(["retriever.k1=0.6", "index@retriever.index=hnsw", "query=chain"])
    for override in (
        *("retriever._target_=os.system", "+retriever._partial_=true", "paths.outputs=/tmp"),
        *("task.server.host=0.0.0.0", "data.path=/etc", "hydra.run.dir=/tmp", "runtime.device=cpu"),
        "retriever={_target_: os.system}",
    ):
        with pytest.raises(InputError, match="a reload may set retriever"):
            check_further([override])


def test_a_system_is_a_choice_or_overrides() -> None:
    assert overrides_of("bm25") == ["retriever=bm25"]
    assert overrides_of("retriever=dense query=chain") == ["retriever=dense", "query=chain"]
