"""The command that was typed: shown to readers and to who resumes it, without passwords."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from typing import Any

_PASSWORD = re.compile(r"(\b\w[\w+.-]*://[^\s:/@]*):[^\s@/]+@|((?:ssl)?password\s*=)[^\s&'\",]+")
# Overrides that say where, not what.
_PLACES = re.compile(r"\+*(paths\.\w+|report\.publish)=")
# Overrides that say how: the table is the same one.
_HOW = re.compile(r"\+*(runtime|tracking|hydra|report|paths)[./=]")


def masked(text: str) -> str:
    """The text with the passwords of URLs and connection strings blotted out."""
    return _PASSWORD.sub(lambda m: f"{m[1]}:***@" if m[2] is None else f"{m[2]}***", text)


def command_line(everything: bool = False) -> str:
    """What was typed, as it can be typed again; `everything`: places too."""
    words = [word for word in sys.argv[1:] if everything or not _PLACES.match(word)]
    return masked(shlex.join(["python", "-m", "neurosearch", *words]))


def without_how(command: str) -> str:
    """A command without what leaves its table as it is: devices, trackers, launchers, reports."""
    return " ".join(word for word in shlex.split(command) if not _HOW.match(word))


def mask_logs() -> None:
    """Keep passwords out of what any logger writes in this process."""
    plain = logging.getLogRecordFactory()

    def record(*args: Any, **options: Any) -> logging.LogRecord:
        made = plain(*args, **options)
        made.msg, made.args = masked(made.getMessage()), None
        return made

    logging.setLogRecordFactory(record)
