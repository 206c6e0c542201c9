"""Training steps per second, beside sentence-transformers' trainer, in one run.

The same weights, pairs, batch, lengths, precision, loss (InfoNCE of one temperature) and optimizer
(AdamW). Timed from the first step after a warm-up to the end of the last one; medians of
alternating rounds, as CSV in results/training.csv. Two differences are by design: ours tokenizes
all texts once, before its first step, theirs those of a batch in each step; and ours drops no
attention weights out.

    python experiments/speed/training.py data=home_depot       # NEUROSEARCH_DATA is set
    python experiments/speed/training.py data=home_depot encoder@retriever.encoder=biencoder
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from encoding import Row, case_of, write
from hydra import compose, initialize_config_module

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.biencoder.training import BiEncoderModule
from neurosearch.nn.pretrained import local_folder
from neurosearch.task.base import build
from neurosearch.training.trainer import fit

ROUNDS = 3


class Clock:
    """Reads the time at the first step after `warm` ones and at the end of the last."""

    def __init__(self, warm: int, steps: int, device: torch.device) -> None:
        self.warm, self.steps, self.device = warm, steps, device
        self.began = self.ended = 0.0

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def before(self, step: int) -> None:
        if step == self.warm:
            self.began = self.now()

    def after(self, step: int) -> None:
        if step == self.steps - 1:
            self.ended = self.now()

    @property
    def rate(self) -> float:
        """Steps a second."""
        return (self.steps - self.warm) / (self.ended - self.began)


def ours(artifact: Any, clock: Clock, runtime: Runtime) -> float:
    """Steps a second of the project's own runtime."""
    with tempfile.TemporaryDirectory() as folder:
        module = artifact.module(Path(folder), runtime)
        step = module.training_step

        def timed(number: int, batch_idx: int) -> None:
            clock.before(number)
            step(number, batch_idx)
            clock.after(number)

        module.training_step = timed
        module.validate = lambda: 0.0
        module.steps = clock.steps
        fit(module, Path(folder), runtime)
    return clock.rate


def theirs(module: BiEncoderModule, artifact: Any, clock: Clock, runtime: Runtime) -> float:
    """Steps a second of SentenceTransformerTrainer over the same pairs."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    class Timer(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            clock.before(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            clock.after(state.global_step - 1)

    texts, batches = module._texts, module._batches
    columns: dict[str, list[str]] = {}
    drawn = [batches.draw(step) for step in range(clock.steps)]
    for _, rows in drawn:
        assert len(rows) % batches.batch_size == 0
    columns["anchor"] = [texts.train_queries[q] for queries, _ in drawn for q in queries]
    for place in range(len(drawn[0][1]) // batches.batch_size):
        slots = [rows[place * batches.batch_size :][: batches.batch_size] for _, rows in drawn]
        name = f"negative_{place}" if place else "positive"
        columns[name] = [texts.products[r] for slot in slots for r in slot]
    device = runtime.torch_device()
    model = SentenceTransformer(str(local_folder(artifact.shape.model)), device=str(device))
    model.max_seq_length = artifact.shape.product_max_length
    schedule = artifact.schedule
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder,
            per_device_train_batch_size=batches.batch_size,
            max_steps=clock.steps,
            learning_rate=schedule.lr,
            weight_decay=schedule.weight_decay,
            warmup_steps=round(schedule.warmup * clock.steps),
            max_grad_norm=schedule.clip,
            bf16=schedule.half,
            use_cpu=device.type == "cpu",
            report_to=[],
            save_strategy="no",
            logging_steps=20,
            disable_tqdm=True,
        )
        loss = MultipleNegativesRankingLoss(model, scale=1 / artifact.objective.loss.temperature)
        trainer = SentenceTransformerTrainer(
            model, arguments, Dataset.from_dict(columns), loss=loss, callbacks=[Timer()]
        )
        trainer.train()
    return clock.rate


def main() -> None:
    """Measure the cases and write the CSV."""
    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        config = compose("config", ["retriever=dense/finetuned", *sys.argv[1:]])
    runtime, data = build(config, "runtime"), build(config, "data")
    device = runtime.torch_device()
    warm, steps = (20, 90) if device.type == "cuda" else (2, 8)
    rows = []
    encoder = build(config, "retriever").encoder
    for batch in (64, 256):
        schedule = replace(encoder.schedule, validations=1)  # after the last step: not timed
        artifact = replace(encoder, batch_size=batch, schedule=schedule).trained(data.dataset())
        for source in artifact.negatives:
            runtime.get(source)
        plain = replace(runtime, graphs="off")
        values: dict[str, list[float]] = {"ours": [], "plain": [], "theirs": []}
        case = case_of(data, encoder.schedule.precision, runtime)
        case += f", batch {batch}, {encoder.negatives.label()}"
        for _ in range(ROUNDS):
            clock = Clock(warm, steps, device)
            values["ours"].append(ours(artifact, clock, runtime))
            if device.type == "cuda":
                clock = Clock(warm, steps, device)
                values["plain"].append(ours(artifact, clock, plain))
                eager = statistics.median(values["plain"])
                rate = statistics.median(values["ours"])
                line = Row("training, captured", case, rate, "plain calls", eager, "steps/s")
                print(line, flush=True)
            clock = Clock(warm, steps, device)
            with tempfile.TemporaryDirectory() as folder:
                module = artifact.module(Path(folder), runtime)
            values["theirs"].append(theirs(module, artifact, clock, runtime))
        mine, peer = (statistics.median(values[name]) for name in ("ours", "theirs"))
        rows.append(Row("training", case, mine, "sentence-transformers trainer", peer, "steps/s"))
        rows += [line] if values["plain"] else []
        print(*rows[-2:], sep="\n", flush=True)
        write("training.csv", rows)


if __name__ == "__main__":
    main()
