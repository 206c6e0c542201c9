"""SIGINT and SIGTERM end a sweep, wherever they arrive.

Python drops an exception that a signal's handler raises while an object is finalised (`__del__`),
so the handler also notes the signal; `check_stopped` raises again at the next step of the work.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

_noted: list[int] = []


def stop_on_signals() -> None:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    printed = sys.unraisablehook

    def hook(dropped: Any) -> None:
        """Python prints what it drops; a stop was noted, and is no fault."""
        if not (_noted and dropped.exc_type is KeyboardInterrupt):
            printed(dropped)

    sys.unraisablehook = hook


def check_stopped() -> None:
    """Raise KeyboardInterrupt if a signal arrived, even if what it raised was dropped."""
    if _noted:
        raise KeyboardInterrupt


def _stop(number: int, frame: FrameType | None) -> None:
    _noted.append(number)
    raise KeyboardInterrupt
