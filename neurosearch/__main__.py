"""`python -m neurosearch`: exits with 1 where any job failed, 2 for an alarm, 130 where stopped."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra._internal import utils

from neurosearch import app
from neurosearch.core.command import command_line, mask_logs, masked
from neurosearch.core.stopping import stop_on_signals
from neurosearch.sweep import callback
from neurosearch.task.hints import plain


def main() -> None:
    """The console command."""
    stop_on_signals()
    mask_logs()
    _move_multirun()
    _check_outputs()
    _check_groups()
    utils.run_and_report = _reported
    try:
        app.main()
    except KeyboardInterrupt:
        callback.discard()
        print(f"stopped; this resumes it: {command_line(everything=True)}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)  # threads that still work must not hold the process back
    sys.exit(1 if callback.failed_jobs else 2 if callback.alarms else 0)


def _move_multirun() -> None:
    """Let `-m` stand anywhere: Hydra's parser wants it before the overrides."""
    words = [word for word in sys.argv[1:] if word not in ("-m", "--multirun")]
    if len(words) < len(sys.argv) - 1:
        sys.argv[1:] = ["-m", *words]


def _reported(work: Callable[[], Any]) -> Any:
    """What Hydra runs, with one line for what it finds wrong with the command.

    Its own report is a block of lines, or a traceback where a group is null.
    """
    try:
        return work()
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        message = plain(str(error), sys.argv[1:]) or "; ".join(lines)[:1000] or type(error).__name__
        if "missing EQUAL" in message:
            word = next((w for w in sys.argv[1:] if "=" not in w and w[:1] not in "-~"), "")
            message = f"{word}: an override is a key and its value, such as retriever=bm25"
        if "mismatched input '='" in message:
            word = next((w for w in sys.argv[1:] if w.count("=") > 1 and '"' not in w), "")
            key, _, value = word.partition("=")
            message = f"{word}: a value with an equals sign needs quotes: '{key}=\"{value}\"'"
        sys.exit(masked(f"error: {message}"))


def _check_outputs() -> None:
    """One line where results can't be written; Hydra would give a traceback."""
    said = [word.split("=", 1)[1] for word in sys.argv if word.startswith("paths.outputs=")]
    outputs = Path(said[-1] if said else os.environ.get("NEUROSEARCH_OUTPUTS", "outputs"))
    message = "can't be written (NEUROSEARCH_OUTPUTS sets the folder)"
    try:
        outputs.mkdir(parents=True, exist_ok=True)
    except OSError:
        sys.exit(f"error: {outputs} {message}")
    for place in (outputs, outputs / "jobs", outputs / "artifacts"):
        if place.exists() and not (place.is_dir() and os.access(place, os.W_OK)):
            sys.exit(f"error: {place} {message}")


def _check_groups() -> None:
    """One line, with the places where it could go, for a group that is typed without its place."""
    from importlib.resources import files

    conf = files("neurosearch.conf")
    roots = set(re.findall(r"^  - (?:override )?(\w+)(?=[:/])", _root(), flags=re.M))
    for word in sys.argv[1:]:
        match = re.match(r"(\w+)=([\w/]+)$", word)
        group = match.group(1) if match else ""
        if not match or group in roots or not conf.joinpath(group).is_dir():
            continue
        others = [w for w in sys.argv[1:] if "=" in w and w != word and "," not in w]
        held = [key for key in _choices(others) if key.startswith(f"{group}@")]
        value = match.group(2)
        hint = " or ".join(f"{key}={value}" for key in held) or f"{group}@<its place>={value}"
        sys.exit(f"error: {word}: the group {group} is part of another one; say {hint}")


def _root() -> str:
    from importlib.resources import files

    return files("neurosearch.conf").joinpath("config.yaml").read_text(encoding="utf-8")


def _choices(overrides: list[str]) -> list[str]:
    """The groups of a composed config, with their places; none where it can't be composed."""
    from hydra import compose, initialize_config_module

    try:
        with initialize_config_module("neurosearch.conf", version_base="1.3"):
            config = compose("config", overrides=overrides, return_hydra_config=True)
    except Exception:  # whatever else is wrong is told by Hydra itself
        return []
    return [str(key) for key in config.hydra.runtime.choices]


if __name__ == "__main__":
    main()
