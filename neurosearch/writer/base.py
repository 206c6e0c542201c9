"""The writer role: prompts to texts. What costs something is kept and paid for once.

A kept text is looked up by the model, its settings and the whole prompt, so an interrupted job
resumes where it stopped, and a changed prompt is a new question. Budgets are checked over all new
prompts before the first of them is sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.bounds import setting
from neurosearch.core.endpoint import Answers, key_of
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.core.recipe import Recipe, describe
from neurosearch.core.runtime import Runtime
from neurosearch.core.types import Dataset

CHARACTERS = 3  # of a token, at least: prompts are counted too high rather than too low


@dataclass(frozen=True)
class Text:
    """What a writer made of a prompt.

    Attributes:
        text: may be empty.
        tokens: read and written.
        seconds: that it took.
    """

    text: str
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Writer(Recipe):
    """Base of writers."""

    def fitted(self, data: Artifact[Dataset]) -> Writer:
        """The writer with what it learns from a data set; itself where it learns nothing.

        Args:
            data: to be trained on; only train and dev are read.

        Returns:
            A writer whose `write` works.
        """
        return self

    def serving(self) -> list[Artifact[Any]]:
        """What a fitted writer writes with.

        Returns:
            Artifacts of what was trained; none for the others.
        """
        return []

    def check(self, runtime: Runtime) -> None:
        """Raise InputError for what can be known to fail before anything is written.

        Args:
            runtime: devices, threads, progress and the store of artifacts.
        """

    def write(
        self,
        prompts: Sequence[str],
        runtime: Runtime,
        samples: int = 1,
        failures: float = 0.0,
        is_live: bool = False,
    ) -> list[list[str]]:
        """Texts for prompts.

        Args:
            prompts: N prompts.
            runtime: devices, threads, progress and the store of artifacts.
            samples: texts of each prompt.
            failures: share of the new texts that may fail, and are then empty.
            is_live: ask again for what is kept: latency is then the model's.

        Returns:
            N lists of `samples` texts.

        Raises:
            InputError: a budget would be exceeded, or too many texts failed.
        """
        raise TypeError(f"{type(self).__name__} does not say how it writes")


@dataclass(frozen=True)
class KeptWriter(Writer):
    """Base of writers that cost something.

    Attributes:
        budget: texts that may be written, at most, those of earlier runs included; of this model.
        budget_tokens: tokens read and written, likewise; None for no limit.
        budget_seconds: likewise; new texts are expected to take what earlier ones took.
        most_tokens: of a text.
        temperature: of sampling; 0 for the likeliest text.
        seed: of sampling.
    """

    budget: int = setting(1000, least=0, identity=False)
    budget_tokens: int | None = setting(None, least=0, identity=False)
    budget_seconds: float | None = setting(None, least=0, identity=False)
    most_tokens: int = setting(64, least=1)
    temperature: float = setting(0.0, least=0)
    seed: int = 0

    role: ClassVar[str] = "writer"

    def _name(self) -> str:
        """What its kept texts are filed under, with all that changes them but the prompt."""
        # Not the code: a change of ours is no reason to pay again.
        unread = {"code"} if self.temperature else {"code", "seed"}
        facts = {key: value for key, value in describe(self).items() if key not in unread}
        return json.dumps(facts, sort_keys=True)

    def _answers(self, runtime: Runtime) -> Answers:
        """The texts that are kept."""
        return Answers(runtime.outputs / "answers" / f"texts-{key_of(self._name())[:12]}.sqlite")

    def _asked(self, prompt: str, sample: int, runtime: Runtime) -> Text:
        """One text of the model. Raises InputError where it fails."""
        raise TypeError(f"{type(self).__name__} does not say how it writes")

    def write(
        self,
        prompts: Sequence[str],
        runtime: Runtime,
        samples: int = 1,
        failures: float = 0.0,
        is_live: bool = False,
    ) -> list[list[str]]:
        answers, name = self._answers(runtime), self._name()
        questions = {
            key_of(name, prompt, str(sample)): (prompt, sample)
            for prompt in prompts
            for sample in range(samples)
        }
        known = {} if is_live else answers.known(list(questions))
        texts = {key: _read(value).text for key, value in known.items()}
        missing = {key: asked for key, asked in questions.items() if key not in texts}
        spent = self._check_budgets([prompt for prompt, _ in missing.values()], answers)
        texts |= self._new(missing, runtime, answers, failures, spent)
        by_question = {asked: texts[key] for key, asked in questions.items()}
        return [[by_question[prompt, sample] for sample in range(samples)] for prompt in prompts]

    def _new(
        self,
        missing: dict[str, tuple[str, int]],
        runtime: Runtime,
        answers: Answers,
        failures: float,
        spent: float,
    ) -> dict[str, str]:
        texts: dict[str, str] = {}
        failed, most = 0, self.budget_seconds
        with runtime.progressing("writing texts", len(missing)) as advance:
            for key, (prompt, sample) in missing.items():
                if most is not None and spent > most:
                    reason = f"{self.role}.budget_seconds={most:g} are over"
                    raise InputError(f"{self.label()}: {reason}; {len(texts):,} texts are kept")
                try:
                    text = self._asked(prompt, sample, runtime)
                    spent += text.seconds
                    answers.keep({key: _written(text)})
                    texts[key] = text.text
                except InputError as error:
                    failed += 1
                    if failed > failures * len(missing):
                        raise InputError(f"{error}; {len(texts):,} texts are kept") from None
                    texts[key] = ""  # not kept: it is asked again
                advance(1)
        if failed:
            log.warning("%s: %d of %d texts failed", self.label(), failed, len(missing))
        return texts

    def _check_budgets(self, prompts: Sequence[str], answers: Answers) -> float:
        """Seconds that were spent before. Raises InputError where new prompts cost too much."""
        if not prompts:
            return 0.0
        before = [_read(value) for value in answers.values()]
        tokens = sum(len(prompt) // CHARACTERS + self.most_tokens for prompt in prompts)
        each = sum(text.seconds for text in before) / max(1, len(before))
        spent = (
            ("budget", len(prompts), len(before), self.budget),
            ("budget_tokens", tokens, sum(text.tokens for text in before), self.budget_tokens),
            (
                "budget_seconds",
                round(each * len(prompts)),
                round(sum(text.seconds for text in before)),
                self.budget_seconds,
            ),
        )
        for key, new, earlier, most in spent:
            if most is not None and new + earlier > most:
                unit = {"budget": "texts"}.get(key, key.removeprefix("budget_"))
                counts = f"about {new:,} {unit} are new, {earlier:,} were spent before"
                raise InputError(
                    f"{self.label()}: {counts}, {self.role}.{key}={most:,}; nothing was asked"
                )
        return sum(text.seconds for text in before)


def _written(text: Text) -> bytes:
    return json.dumps([text.text, text.tokens, round(text.seconds, 3)]).encode()


def _read(value: bytes) -> Text:
    return Text(*json.loads(value))
