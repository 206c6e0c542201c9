"""What the service takes and gives, typed: the OpenAPI page is made of these."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

LONGEST_QUERY = 256  # characters after NFKC


def typed_text(value: str) -> str:
    """A query's text: NFKC, without blanks at its ends, neither empty nor too long."""
    text = unicodedata.normalize("NFKC", value).strip()
    if not text:
        raise ValueError("is empty")
    if len(text) > LONGEST_QUERY:
        raise ValueError(f"has {len(text)} characters; {LONGEST_QUERY} are allowed")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise ValueError("holds control characters")
    return text


QueryText = Annotated[str, AfterValidator(typed_text), Field(max_length=4 * LONGEST_QUERY)]
Name = Annotated[str, Field(max_length=128)]


class Strict(BaseModel):
    """No unknown fields."""

    model_config = ConfigDict(extra="forbid")


class Span(Strict):
    """Numbers from `least` to `most`, both included."""

    least: float | None = Field(None, allow_inf_nan=False)
    most: float | None = Field(None, allow_inf_nan=False)

    @model_validator(mode="after")
    def limits(self) -> Span:
        """One limit at least, in order."""
        if self.least is None and self.most is None:
            raise ValueError("a range has `least`, `most`, or both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError("`least` is above `most`")
        return self


class SearchBody(Strict):
    query: QueryText
    k: int = Field(10, ge=1, le=100, strict=True)
    cursor: str | None = Field(None, max_length=512)
    system: Name | None = None
    filters: dict[Name, list[Name] | Span] = Field(default_factory=dict, max_length=16)
    facets: list[Name] = Field(default_factory=list, max_length=16)
    explain: bool = False
    client_id: Name | None = None

    @field_validator("filters", mode="before")
    @classmethod
    def readable(cls, value: Any) -> Any:
        """Lists of values, or ranges; said before both are tried."""
        for name, wanted in value.items() if isinstance(value, dict) else ():
            if not isinstance(wanted, list | dict):
                message = "a list of values, or a range such as {least: 10, most: 20}"
                raise ValueError(f"{name}: must be {message}")
        return value

    @field_validator("filters")
    @classmethod
    def few(cls, value: dict[str, Any]) -> dict[str, Any]:
        """At most 64 values a filter."""
        for name, wanted in value.items():
            if isinstance(wanted, list) and not 1 <= len(wanted) <= 64:
                raise ValueError(f"{name}: 1 to 64 values")
        return value


class BatchBody(Strict):
    requests: list[SearchBody] = Field(min_length=1, max_length=64)


class ExplainBody(Strict):
    query: QueryText
    product_id: Name
    system: Name | None = None


class EventBody(Strict):
    """One of UBI's events."""

    event_id: Name
    query_id: Name
    action_name: Literal["impression", "click", "add_to_cart", "purchase", "dwell"]
    product_id: Name
    position: int | None = Field(None, ge=1, le=10_000)
    client_id: Name | None = None
    dwell_ms: float | None = Field(None, ge=0)


class ReloadBody(Strict):
    """Overrides by system, such as `{"left": ["retriever.k1=0.6"]}`; none: the same, anew."""

    systems: dict[Name, list[Name]] = Field(default_factory=dict, max_length=8)


class Result(BaseModel):
    product_id: str
    title: str | None = None
    brand: str | None = None
    colour: str | None = None
    category: str | None = None
    image: str | None = None
    rank: int
    score: float
    why: dict[str, Any] | None = None


class Step(BaseModel):
    step: str
    after: str
    why: str


class ReadQuery(BaseModel):
    text: str
    read: str
    steps: list[Step]


class Count(BaseModel):
    value: str
    count: int


class SearchAnswer(BaseModel):
    system: str
    label: str
    fingerprint: str
    query: ReadQuery
    results: list[Result]
    facets: dict[str, list[Count]]
    next_cursor: str | None = None
    request_id: str
    cached: bool
    timings_ms: dict[str, float]


class BatchAnswer(BaseModel):
    answers: list[SearchAnswer]


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[dict[str, str]] | None = None
