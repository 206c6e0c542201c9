"""Search by a picture, for systems whose products were encoded by theirs."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosearch.core.errors import InputError
from neurosearch.core.retrieval import Retriever
from neurosearch.core.runtime import Runtime
from neurosearch.core.stages import stage, timed
from neurosearch.core.vectors import Embeddings
from neurosearch.encoder.clip import ClipText
from neurosearch.encoder.image import ImageEncoder
from neurosearch.retriever.dense import Dense
from neurosearch.serving.cache import Kept
from neurosearch.serving.problems import RefusedError

if TYPE_CHECKING:
    from neurosearch.serving.systems import System

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


def picture_answer(system: System, picture: bytes, k: int) -> Kept:
    """Search by a picture, and write the answer as `answers.answered` does.

    Args:
        system: that answers.
        picture: PNG or JPEG.
        k: products.

    Returns:
        The answer and its facts.

    Raises:
        RefusedError: the system's index holds no vectors of pictures.
    """
    if system.by_picture is None:
        raise RefusedError(422, "this system's products were not encoded by their pictures")
    with timed() as clock:
        try:
            rows, scores = system.by_picture.search(picture, k)
        except InputError as error:
            raise RefusedError(415, str(error)) from None
    results = system.products.shown(rows)
    for place, (one, score) in enumerate(zip(results, scores, strict=True), 1):
        one |= {"rank": place, "score": float(score)}
        one["image"] = f"/v1/products/{one['product_id']}/image"
    body = {
        "system": system.name,
        "label": system.label,
        "fingerprint": system.fingerprint,
        "query": {"text": "", "read": "", "steps": []},
        "results": results,
        "facets": {},
    }
    stages = {name: round(1000 * s, 3) for name, s in clock.seconds.items()}
    return Kept(json.dumps(body)[:-1].encode(), {"more": False, "stages": stages})
