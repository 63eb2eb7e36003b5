"""Protobuf messages of product copy to the domain and back; bounds are checked by ``server.copy_limits``, as for HTTP."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from server.copy_domain import (
    Channel,
    Claim,
    CopyAnswer,
    CopyRequest,
    CopyVariant,
    Language,
    ProductRecord,
    Scalar,
    Tone,
    Value,
)
from server.errors import InvalidRequest
from server.grpc_api import vitrine_pb2 as pb
from server.pipelines.product_copy.events import CopyEvent, PartReleased

Choice = TypeVar("Choice", bound=StrEnum)


def copy_request_of(message: pb.ProductCopyRequest) -> CopyRequest:
    """Read a request.

    Raises:
        InvalidRequest: a choice is none of those there are, or an attribute has no value or stands twice.
    """
    return CopyRequest(
        product=_record(message.product),
        channel=_choice("channel", message.channel, Channel.PRODUCT_PAGE),
        language=_choice("language", message.language, Language.EN),
        tone=_choice("tone", message.tone, Tone.NEUTRAL),
        audience=message.audience.strip(),
        keywords=tuple(message.keywords),
        variants=message.variants if message.HasField("variants") else 1,
        max_words=message.max_words if message.HasField("max_words") else None,
        deadline_s=message.deadline_ms * 1e-3 if message.HasField("deadline_ms") else None,
        seed=message.seed,
        fresh=message.fresh,
    )


def copy_response_of(
    request: CopyRequest, answer: CopyAnswer, total_s: float, *, cached: bool
) -> pb.ProductCopyResponse:
    """The wire form of a whole answer."""
    return pb.ProductCopyResponse(
        variants=[
            pb.CopyVariant(
                headline=variant.text.headline,
                description=variant.text.description,
                bullets=variant.text.bullets,
                checks=_checks(request, variant),
                served_by=variant.served_by.value,
            )
            for variant in answer.variants
        ],
        end=copy_end_of(answer, total_s, cached=cached),
    )


def copy_end_of(answer: CopyAnswer, total_s: float, *, cached: bool) -> pb.ProductCopyEnd:
    """What a stream ends with."""
    times_s = {} if cached else answer.timings_s
    usage = pb.CopyUsage()
    if not cached:
        usage = pb.CopyUsage(
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
            cached_tokens=answer.usage.cached_tokens,
        )
    return pb.ProductCopyEnd(
        served_by=answer.served_by.value,
        model=pb.Model(name=answer.model[0], version=answer.model[1]),
        usage=usage,
        timings_ms=pb.CopyTimings(
            queue_ms=times_s.get("queue", 0.0) * 1e3,
            engine_ms=times_s.get("engine", 0.0) * 1e3,
            check_ms=times_s.get("check", 0.0) * 1e3,
            total_ms=total_s * 1e3,
        ),
        fallback_reason=answer.fallback_reason,
    )


def copy_event_of(request: CopyRequest, event: CopyEvent) -> pb.ProductCopyEvent:
    """The wire form of an event."""
    if isinstance(event, PartReleased):
        claims = [_claim(claim) for claim in event.claims]
        part = pb.CopyPart(variant=event.variant, name=event.name, text=event.text, claims=claims)
        return pb.ProductCopyEvent(part=part)
    checked = pb.CopyVariantChecked(
        variant=event.variant,
        checks=_checks(request, event.copy),
        served_by=event.copy.served_by.value,
    )
    return pb.ProductCopyEvent(checked=checked)


def _record(message: pb.ProductRecord) -> ProductRecord:
    attributes: dict[str, Value] = {}
    for at, attribute in enumerate(message.attributes):
        field = f"product.attributes[{at}]"
        if attribute.name in attributes:
            raise InvalidRequest(f"{field}: {attribute.name[:60]!r} stands twice; give it once", field=field)
        values = [_scalar(field, value) for value in attribute.values]
        if not values:
            raise InvalidRequest(f"{field} has no value; give one, or leave the attribute out", field=field)
        attributes[attribute.name] = values[0] if len(values) == 1 else tuple(values)
    return ProductRecord(
        title=message.title,
        brand=message.brand,
        category=message.category,
        attributes=attributes,
        price=message.price if message.HasField("price") else None,
        currency=message.currency.upper(),
        description=message.description,
    )


def _scalar(field: str, message: pb.AttributeValue) -> Scalar:
    kind = message.WhichOneof("value")
    if kind is None:
        raise InvalidRequest(f"{field} has an empty value; give one, or leave the attribute out", field=field)
    value: Scalar = getattr(message, kind)
    return value


def _choice(field: str, value: str, default: Choice) -> Choice:
    if not value:
        return default
    try:
        return type(default)(value)
    except ValueError:
        known = ", ".join(type(default))
        raise InvalidRequest(
            f"{field} is {value[:60]!r}; choose one of {known}", field=field, limit=known
        ) from None


def _checks(request: CopyRequest, variant: CopyVariant) -> pb.CopyChecks:
    return pb.CopyChecks(
        claims=[_claim(claim) for claim in variant.claims],
        refused=[
            pb.RefusedClaim(kind=claim.kind.value, text=claim.text, why=claim.quote)
            for claim in variant.refused
        ],
        keywords_missing=request.keywords_missing(variant.text),
        effort=variant.effort.value,
    )


def _claim(claim: Claim) -> pb.CopyClaim:
    return pb.CopyClaim(
        kind=claim.kind.value,
        text=claim.text,
        part=claim.part,
        start=claim.start,
        end=claim.end,
        source=claim.source or "",
        quote=claim.quote,
    )
