"""Who may ask, and how often: API keys from the environment, and a bucket of tokens a caller."""

from __future__ import annotations

import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from neurosearch.core.errors import InputError
from neurosearch.serving.settings import Limits

CALLERS = 10_000  # whose buckets are remembered


class Keys:
    """API keys that environment variables hold. `names`: of the variables; none for no keys."""

    def __init__(self, names: Sequence[str], config: str) -> None:
        self._keys = []
        for name in names:
            value = os.environ.get(name, "")
            if not value:
                raise InputError(f"{config} names {name}, but that environment variable is empty")
            self._keys.append(value.encode())

    def __bool__(self) -> bool:
        return bool(self._keys)

    def knows(self, given: str) -> bool:
        """Whether a key is one of them, in a time that does not depend on where it differs.

        Args:
            given: as it was sent.

        Returns:
            True for a known key.
        """
        sent = given.encode("utf-8", "surrogateescape")
        return sum(hmac.compare_digest(sent, key) for key in self._keys) > 0


class Rates:
    """A bucket for each caller: `burst` tokens, refilled with `rate` a second."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = limits.rate, float(limits.burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, caller: str) -> float:
        """Take a token.

        Args:
            caller: a key or an address.

        Returns:
            0 where there was one, else the seconds until there is.
        """
        if self._rate == 0:
            return 0.0
        now = self._clock()
        tokens, last = self._buckets.pop(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - last) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[caller] = (tokens - 1 if wait == 0 else tokens), now
        while len(self._buckets) > CALLERS:
            self._buckets.popitem(last=False)
        return wait
