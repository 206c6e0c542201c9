"""Cursors of further pages: signed, and bound to the system and the request that gave them."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from neurosearch.core.digests import digest


class CursorError(Exception):
    """A cursor that this server did not sign, or for another request."""


class RetiredCursorError(Exception):
    """A cursor of an index that is not served any more."""


class Cursors:
    """Signs and reads cursors. `secret`: the same in all processes that serve together."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, fingerprint: str, request: Any, offset: int) -> str:
        """A cursor.

        Args:
            fingerprint: of the system.
            request: JSON-able: what was asked, but for the place.
            offset: of the next page's first product.

        Returns:
            URL-safe text.
        """
        body = json.dumps([fingerprint, digest(request), offset], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._mac(body) + body).decode().rstrip("=")

    def read(self, cursor: str, fingerprint: str, request: Any) -> int:
        """The place that a cursor stands for.

        Args:
            cursor: as it was sent.
            fingerprint: of the system that is asked now.
            request: JSON-able: what is asked now, but for the place.

        Returns:
            The offset.

        Raises:
            CursorError: it was not signed here, or belongs to another request.
            RetiredCursorError: it belongs to another index.
        """
        try:
            whole = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_")
        except ValueError:
            raise CursorError("the cursor can't be read") from None
        mac, body = whole[:16], whole[16:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise CursorError("the cursor was not made by this server")
        made_for, asked, offset = json.loads(body)
        if made_for != fingerprint:
            raise RetiredCursorError("the index changed since the first page: search again")
        if asked != digest(request):
            raise CursorError("the cursor belongs to another query, filter or page size")
        return int(offset)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, body, "sha256")[:16]
