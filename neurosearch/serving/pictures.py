"""Search by a picture, for systems whose products were encoded by theirs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.stages import stage
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.clip import ClipText
from neurosearch.encoder.image import ImageEncoder
from neurosearch.retriever.dense import Dense
from neurosearch.serving.problems import RefusedError

KINDS = ("PNG", "JPEG")
LONGEST_SIDE = 4096  # pixels


def readable(content: bytes, megabytes: int) -> bytes:
    """A picture that was sent, checked by its content and not by what its sender calls it.

    Args:
        content: the body.
        megabytes: that are allowed.

    Returns:
        The content.

    Raises:
        RefusedError: it is no picture, or too large.
    """
    from PIL import Image

    if len(content) > 1_000_000 * megabytes:
        raise RefusedError(413, f"pictures may have {megabytes} MB")
    try:
        with Image.open(io.BytesIO(content), formats=KINDS) as picture:
            sides = picture.size
            picture.verify()
    except Exception:
        raise RefusedError(415, "the body is no PNG or JPEG") from None
    if max(sides) > LONGEST_SIDE:
        raise RefusedError(413, f"pictures may have {LONGEST_SIDE} pixels a side")
    return content


def vision_of(system: Retriever) -> ImageEncoder | None:
    """The encoder of pictures whose vectors the system's index holds.

    Args:
        system: the retriever.

    Returns:
        The encoder, or None where a picture can't be asked.
    """
    encoder = system.encoder if isinstance(system, Dense) else None
    if isinstance(encoder, ImageEncoder):
        return encoder
    if isinstance(encoder, ClipText) and encoder.products == "image":
        return encoder.vision
    return None


class PictureSearcher:
    """The live network and the index."""

    def __init__(self, system: Dense, vision: ImageEncoder, data: Any, runtime: Runtime) -> None:
        from neurosearch.nn.vision import LivePictures

        self._live = LivePictures(vision.model, vision.side, vision.precision, runtime)
        self._identity = system.encoder.identity(data)
        self._index = runtime.get(system.index.build(system.encoder.product_embeddings(data)))

    def search(self, picture: bytes, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The products whose pictures are nearest.

        Args:
            picture: PNG or JPEG.
            k: products.

        Returns:
            Rows and scores, best first.
        """
        with stage("encode"):
            vectors = self._live.encode([picture])
        with stage("index"):
            rows, scores = self._index.search(Embeddings(vectors, self._identity), k)
        kept = rows[0] >= 0
        return rows[0][kept], scores[0][kept]
