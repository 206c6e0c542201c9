"""Fashion products with photos of about 60×80 pixels and attributes, in one parquet file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from neurosearch.data.pictures import Pictures

NAMED = {
    "product_id": "product_id",
    "title": "title",
    "image": "image",
    "department": "master_category",
    "category": "sub_category",
    "type": "article_type",
    "colour": "base_colour",
    "usage": "usage",
}


@dataclass(frozen=True)
class FashionSmall(Pictures):
    """Queries and labels are made from attributes (see `Pictures`)."""

    choice: ClassVar[str] = "fashion_small"
    columns: dict[str, str] = field(default_factory=lambda: dict(NAMED))
