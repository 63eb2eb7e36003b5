"""The JSON of an answer, whole and as events; the structs are the one description of it.

Units: milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from server.copy_domain import Claim, CopyAnswer, CopyRequest, CopySource, CopyVariant, Effort
from server.http_api.calls import sse
from server.http_api.schemas import ModelOut
from server.pipelines.product_copy.events import CopyEvent, PartReleased
from server.pipelines.product_copy.pipeline import FALLBACK_REASONS

_SOURCE = Meta(
    description="who wrote it: the model, or in the end the template",
    extra_json_schema={"enum": [source.value for source in CopySource]},
)


class ClaimOut(Struct):
    """Something that the copy says, and where the record says it."""

    kind: str
    text: str
    part: Annotated[str, Meta(description="headline, description, or bullets[0]")]
    start: Annotated[int, Meta(description="characters from the part's beginning")]
    end: int
    source: Annotated[str, Meta(description="place in the record")]
    quote: Annotated[str, Meta(description="as it stands there")]


class RefusedOut(Struct):
    """Something that the model claimed and the record does not bear out; it is not in the copy."""

    kind: str
    text: str
    why: str


class ChecksOut(Struct):
    """What the copy was held against, and how it went."""

    claims: Annotated[list[ClaimOut], Meta(description="every claim of the copy, with its source")]
    refused: list[RefusedOut]
    keywords_missing: Annotated[list[str], Meta(description="keywords that are not in it")]
    effort: Annotated[
        str,
        Meta(
            description="what it took to release it",
            extra_json_schema={"enum": [effort.value for effort in Effort]},
        ),
    ]


class VariantOut(Struct):
    """One piece of copy."""

    headline: str
    description: str
    bullets: list[str]
    checks: ChecksOut
    served_by: Annotated[str, _SOURCE]


class CopyUsageOut(Struct):
    """Tokens, over all tries of all variants; 0 where the cache answered."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class CopyTimingsOut(Struct):
    """Milliseconds: waiting for the engine, in the engine, checking, and in all. Of variants side by side, added up."""

    queue: float
    engine: float
    check: float
    total: float


class EndOut(Struct):
    """What is the same for all variants; the ``done`` event."""

    served_by: Annotated[str, _SOURCE]
    model: ModelOut
    usage: CopyUsageOut
    timings_ms: CopyTimingsOut
    fallback_reason: Annotated[str, Meta(extra_json_schema={"enum": list(FALLBACK_REASONS)})] | UnsetType = (
        UNSET
    )


class CopyOut(EndOut, kw_only=True):
    """Copy of which every claim stands in the record."""

    variants: list[VariantOut]


class PartOut(Struct):
    """The ``headline`` and ``description`` events, and ``bullets``, one a bullet."""

    variant: int
    text: str
    claims: list[ClaimOut]
    index: int | UnsetType = UNSET


class CheckedOut(Struct):
    """The ``checks`` event: a variant is whole."""

    variant: int
    checks: ChecksOut
    served_by: str


def copy_out(request: CopyRequest, answer: CopyAnswer, total_s: float, *, cached: bool) -> CopyOut:
    """The whole answer."""
    end = end_out(answer, total_s, cached=cached)
    return CopyOut(
        end.served_by,
        end.model,
        end.usage,
        end.timings_ms,
        end.fallback_reason,
        variants=[
            VariantOut(
                variant.text.headline,
                variant.text.description,
                list(variant.text.bullets),
                _checks(request, variant),
                variant.served_by.value,
            )
            for variant in answer.variants
        ],
    )


def end_out(answer: CopyAnswer, total_s: float, *, cached: bool) -> EndOut:
    """What a stream ends with."""
    usage, times_s = answer.usage, {} if cached else answer.timings_s
    return EndOut(
        answer.served_by.value,
        ModelOut(*answer.model),
        CopyUsageOut(0, 0, 0)
        if cached
        else CopyUsageOut(usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens),
        CopyTimingsOut(
            _ms(times_s, "queue"), _ms(times_s, "engine"), _ms(times_s, "check"), round(total_s * 1e3, 3)
        ),
        UNSET if answer.fallback_reason is None else answer.fallback_reason,
    )


def event_bytes(request: CopyRequest, event: CopyEvent) -> bytes:
    """One event of a stream."""
    if isinstance(event, PartReleased):
        name, _, index = event.name.partition("[")
        claims = _claims(event.claims)
        place = int(index[:-1]) if index else UNSET
        return sse(name, PartOut(event.variant, event.text, claims, place))
    checks = _checks(request, event.copy)
    return sse("checks", CheckedOut(event.variant, checks, event.copy.served_by.value))


def server_timing(times: CopyTimingsOut) -> bytes:
    """The ``Server-Timing`` value."""
    values = (times.queue, times.engine, times.check, times.total)
    return b"queue;dur=%.3f, engine;dur=%.3f, check;dur=%.3f, total;dur=%.3f" % values


def _checks(request: CopyRequest, variant: CopyVariant) -> ChecksOut:
    return ChecksOut(
        _claims(variant.claims),
        [RefusedOut(claim.kind.value, claim.text, claim.quote) for claim in variant.refused],
        request.keywords_missing(variant.text),
        variant.effort.value,
    )


def _claims(claims: Iterable[Claim]) -> list[ClaimOut]:
    return [
        ClaimOut(
            claim.kind.value,
            claim.text,
            claim.part,
            claim.start,
            claim.end,
            claim.source or "",
            claim.quote,
        )
        for claim in claims
    ]


def _ms(times_s: Mapping[str, float], name: str) -> float:
    return round(times_s.get(name, 0.0) * 1e3, 3)
