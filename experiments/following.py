"""What roots reach in the tree on Python's path: JSON of roots in, digests out. For `changed.py`.

It runs in a process of its own, in which `neurosearch` may be an older one.
"""

from __future__ import annotations

import hashlib
import json
import sys

from neurosearch.core.fingerprint import reach


def digests(root: str) -> dict[str, str]:
    """Definition that a root (`module:name`) reaches -> a digest of its source."""
    return {
        ":".join(key): hashlib.blake2b(text.encode()).hexdigest()[:16]
        for key, text in reach(*root.split(":")).items()
    }


if __name__ == "__main__":
    print(json.dumps({root: digests(root) for root in json.load(sys.stdin)}))
