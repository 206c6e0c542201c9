"""Rewriting by a writer: what is read, what is looked up, and what an empty answer does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neurosearch.core.errors import InputError
from neurosearch.core.query import Query
from neurosearch.core.runtime import Runtime
from neurosearch.query.chain import Chain
from neurosearch.query.normalize import Normalize
from neurosearch.query.rewrite import Rewrite
from neurosearch.writer.recorded import Recorded
from neurosearch.writer.template import Template


def test_the_first_line_is_read_and_new_words_are_looked_up(
    runtime: Runtime, tmp_path: Path
) -> None:
    answers = {"thing for soup": ' "soup  ladle"\nIt is a ladle.', "mug": " ", "red": "red"}
    path = tmp_path / "texts.jsonl"
    rows = [{"prompt": f"clearer: {query}", "text": text} for query, text in answers.items()]
    path.write_text("\n".join(map(json.dumps, rows)))
    step = Rewrite(Recorded(str(path)), prompt="clearer: {query}", weight=0.25)
    soup, mug, red = step.reader(runtime).read(list(answers))
    assert (soup.text, soup.words) == ("soup ladle", "thing for soup")
    assert [(term.token, term.weight) for term in soup.terms] == [("ladl", 0.25)]
    assert soup.notes[0].why == "recorded (texts)"
    assert (mug, red) == (Query.of("mug"), Query.of("red"))
    with pytest.raises(InputError, match="1 prompts lack texts"):
        step.reader(runtime).read(["sofa"])


def test_in_a_chain_it_reads_what_earlier_steps_left(runtime: Runtime) -> None:
    steps = {"normalize": Normalize(), "rewrite": Rewrite(Template("{prompt}"), prompt="a {query}")}
    chain = Chain(("normalize", "rewrite"), steps)
    (query,) = chain.reader(runtime).read(["RED  mug"])
    assert query.text == "a red mug"
    with pytest.raises(InputError, match=r"does not say where \{query\} goes"):
        Rewrite(Template(), prompt="no")
