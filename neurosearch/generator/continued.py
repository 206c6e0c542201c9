"""Decoders of a catalogue that grew (`data=changing`): as they were, or trained on with replay."""

from __future__ import annotations

from dataclasses import replace

from neurosearch.core import view
from neurosearch.core.artifact import Artifact
from neurosearch.core.semantic_ids import SemanticIds
from neurosearch.core.types import Dataset
from neurosearch.core.view import DataSource
from neurosearch.generator.base import CodeModelFiles, Generator, TrainedGenerator
from neurosearch.tokenizer.base import SemanticTokenizer


def decoder_of(
    generator: Generator, tokenizer: SemanticTokenizer, data: Artifact[Dataset]
) -> tuple[Artifact[SemanticIds], Artifact[CodeModelFiles]]:
    """The catalogue's IDs and the decoder that writes them.

    Args:
        generator: how it is trained.
        tokenizer: whose IDs it writes.
        data: the data set, or a view of it.

    Returns:
        The IDs of all products, and the trained decoder.
    """
    ids, earlier = tokenizer.semantic_ids(data), view.before(data)
    if earlier is data:
        return ids, generator.trained(data, ids)
    source = data.stored()
    assert isinstance(source, DataSource)
    if not source.passes():
        return ids, generator.trained(earlier, tokenizer.semantic_ids(earlier))
    _, trained = decoder_of(generator, tokenizer, source.states()[-1])  # it continued at each step
    # One validation, at the end: dev has judgments of older products alone, so it can't say when
    # new ones are learnt. The last weights are kept.
    schedule = replace(generator.schedule, epochs=source.passes(), validations=1, patience=0)
    shorter = replace(generator, schedule=schedule)
    learnt = earlier if source.replays() else data
    again = shorter.trained(learnt, tokenizer.semantic_ids(learnt))
    assert isinstance(again, TrainedGenerator)
    return ids, replace(again, start=trained)
