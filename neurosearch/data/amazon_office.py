"""Amazon Reviews 2018, Office Products, in the compact form: 3,459 products, 3,231 users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurosearch.data.amazon_reviews import AmazonReviews


@dataclass(frozen=True)
class AmazonOffice(AmazonReviews):
    """See `AmazonReviews`."""

    choice: ClassVar[str] = "amazon_office"
