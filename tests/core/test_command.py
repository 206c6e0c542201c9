"""Passwords are kept out of what is shown and of the names of jobs."""

from __future__ import annotations

import pytest

from neurosearch.app import job_folder_name
from neurosearch.core.command import masked


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("https://me:secret@host:9200/x", "https://me:***@host:9200/x"),
        (
            "postgresql://me@host/x?sslpassword=secret&a=b",
            "postgresql://me@host/x?sslpassword=***&a=b",
        ),
        ("host=x password=secret user=me", "host=x password=*** user=me"),
        ("https://host:9200", "https://host:9200"),
        ("retriever=bm25", "retriever=bm25"),
    ],
)
def test_masked(typed: str, shown: str) -> None:
    assert masked(typed) == shown


def test_a_jobs_folder_has_no_password_in_its_name() -> None:
    name = job_folder_name(
        "retriever.engine.url=https://me:secret@host:9200,retriever=engine/words"
    )
    assert "secret" not in name and "retriever=engine_words" in name
