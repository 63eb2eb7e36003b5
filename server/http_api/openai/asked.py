"""The fields that both requests share, checked and in the domain's words.

Units: seconds; milliseconds on the wire.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from server.errors import InvalidRequest
from server.http_api.openai.shapes import ResponseFormatIn, SharedIn, StructuredIn
from server.text_domain import Constraint, ConstraintKind, SamplingParams
from server.text_service import TextRequestLimits

MAX_STOPS, MAX_STOP_CHARS, MAX_STOP_IDS, MAX_BIASES = 16, 256, 64, 1024
MAX_TOP_LOGPROBS = 20
MAX_TENANT_CHARS = 256
_INT64 = (-(1 << 63), (1 << 63) - 1)
ANY_OBJECT = Constraint(kind=ConstraintKind.JSON_SCHEMA, text='{"type":"object"}')


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks besides its prompt.

    Attributes:
        model: name; empty: the only one.
        sampling: how tokens are chosen.
        max_tokens: None: what fits.
        stop, stop_token_ids, ignore_eos: where a text ends.
        n: answers a prompt.
        stream, include_usage: how they are sent.
        constraint: what each must match.
        tenant: whose request it is.
        deadline_s: seconds from arrival; None: the server's default.
    """

    model: str
    sampling: SamplingParams
    max_tokens: int | None
    stop: tuple[str, ...]
    stop_token_ids: frozenset[int]
    ignore_eos: bool
    n: int
    stream: bool
    include_usage: bool
    constraint: Constraint | None
    tenant: str
    deadline_s: float | None


def asked(
    body: SharedIn, limits: TextRequestLimits, *, max_tokens: int | None, top_logprobs: int | None
) -> Asked:
    """Check the shared fields.

    Raises:
        InvalidRequest: names the field, the value, the limit and what to do.
    """
    sampling = SamplingParams(
        temperature=within("temperature", body.temperature, 1.0, 0.0, 2.0),
        top_p=within("top_p", body.top_p, 1.0, 0.0, 1.0, above=True),
        top_k=max(0, whole("top_k", body.top_k, 0, -1, 1 << 20)),
        min_p=within("min_p", body.min_p, 0.0, 0.0, 1.0),
        repetition_penalty=within("repetition_penalty", body.repetition_penalty, 1.0, 0.0, 10.0, above=True),
        presence_penalty=within("presence_penalty", body.presence_penalty, 0.0, -2.0, 2.0),
        frequency_penalty=within("frequency_penalty", body.frequency_penalty, 0.0, -2.0, 2.0),
        seed=None if body.seed is None else whole("seed", body.seed, 0, *_INT64),
        logit_bias=_biases(body.logit_bias or {}),
        top_logprobs=top_logprobs,
    )
    if max_tokens is not None and max_tokens < 1:
        raise InvalidRequest(
            f"max_tokens is {max_tokens}; ask for 1 or more, or leave it out for what fits",
            field="max_tokens",
            limit=">= 1",
        )
    options = body.stream_options
    return Asked(
        model=body.model,
        sampling=sampling,
        max_tokens=max_tokens,
        stop=_stops(body.stop),
        stop_token_ids=_stop_ids(body.stop_token_ids or []),
        ignore_eos=bool(body.ignore_eos),
        n=whole("n", body.n, 1, 1, limits.max_choices),
        stream=bool(body.stream),
        include_usage=bool(options and options.include_usage),
        constraint=_constraint(body.response_format, body.structured_outputs),
        tenant=_tenant(body.user or ""),
        deadline_s=deadline_s(body.deadline_ms, limits),
    )


def deadline_s(deadline_ms: float | None, limits: TextRequestLimits) -> float | None:
    """Seconds from milliseconds; None stays None.

    Raises:
        InvalidRequest: not a positive number.
    """
    if deadline_ms is None:
        return None
    if not 0.0 < deadline_ms < math.inf:
        raise InvalidRequest(
            f"deadline_ms is {deadline_ms:g}; give the milliseconds from now within which the whole text is of use, "
            f"more than 0 (more than {limits.max_deadline_s * 1e3:g} is taken as that)",
            field="deadline_ms",
            limit=f"> 0 .. {limits.max_deadline_s * 1e3:g} ms",
        )
    return deadline_ms * 1e-3


def within(
    field: str, value: float | None, default: float, low: float, high: float, *, above: bool = False
) -> float:
    """A number in its range; ``above`` leaves the low end out."""
    if value is None:
        return default
    if not low <= value <= high or (above and value == low):
        raise InvalidRequest(
            f"{field} is {value:g}; give {'more than ' if above else ''}{low:g} to {high:g}",
            field=field,
            limit=f"{'> ' if above else ''}{low:g} .. {high:g}",
        )
    return value


def whole(field: str, value: int | None, default: int, low: int, high: int) -> int:
    """An integer in its range."""
    if value is None:
        return default
    if not low <= value <= high:
        raise InvalidRequest(
            f"{field} is {value}; give {low} to {high}", field=field, limit=f"{low} .. {high}"
        )
    return value


def _stops(given: str | list[str] | None) -> tuple[str, ...]:
    stops = (given,) if isinstance(given, str) else tuple(given or ())
    if len(stops) > MAX_STOPS:
        raise InvalidRequest(
            f"stop has {len(stops)} entries, the limit is {MAX_STOPS}; send fewer",
            field="stop",
            limit=f"{MAX_STOPS} entries",
        )
    for at, stop in enumerate(stops):
        if not 1 <= len(stop) <= MAX_STOP_CHARS:
            raise InvalidRequest(
                f"stop[{at}] has {len(stop)} characters; give 1 to {MAX_STOP_CHARS}",
                field=f"stop[{at}]",
                limit=f"1 .. {MAX_STOP_CHARS} characters",
            )
    return stops


def _stop_ids(given: list[int]) -> frozenset[int]:
    if len(given) > MAX_STOP_IDS or any(not 0 <= token < 1 << 31 for token in given):
        raise InvalidRequest(
            f"stop_token_ids has {len(given)} entries; give up to {MAX_STOP_IDS} token ids",
            field="stop_token_ids",
            limit=f"{MAX_STOP_IDS} entries",
        )
    return frozenset(given)


def _biases(given: dict[str, float]) -> dict[int, float]:
    if len(given) > MAX_BIASES:
        raise InvalidRequest(
            f"logit_bias has {len(given)} entries, the limit is {MAX_BIASES}; send fewer",
            field="logit_bias",
            limit=f"{MAX_BIASES} entries",
        )
    out = {}
    for key, value in given.items():
        if not (key.isascii() and key.isdecimal() and len(key) <= 9) or not -100.0 <= value <= 100.0:
            raise InvalidRequest(
                f"logit_bias has {key[:40]!r}: {value:g}; map token ids to -100 .. 100",
                field="logit_bias",
                limit="token id: -100 .. 100",
            )
        out[int(key)] = value
    return out


def _tenant(user: str) -> str:
    if len(user) > MAX_TENANT_CHARS:
        raise InvalidRequest(
            f"user has {len(user)} characters, the limit is {MAX_TENANT_CHARS}; send an id, not a profile",
            field="user",
            limit=f"{MAX_TENANT_CHARS} characters",
        )
    return user


def _constraint(form: ResponseFormatIn | None, other: StructuredIn | None) -> Constraint | None:
    found = []
    if form is not None and form.type != "text":
        found.append(_format(form))
    if other is not None:
        if other.json is not None:
            text = other.json if isinstance(other.json, str) else _json(other.json)
            found.append(Constraint(kind=ConstraintKind.JSON_SCHEMA, text=text))
        if other.regex is not None:
            found.append(Constraint(kind=ConstraintKind.REGEX, text=other.regex))
        if other.choice is not None:
            found.append(Constraint(kind=ConstraintKind.CHOICE, text=_json(other.choice)))
        if other.grammar is not None:
            found.append(Constraint(kind=ConstraintKind.LARK, text=other.grammar))
    if len(found) > 1:
        raise InvalidRequest(
            f"{len(found)} constraints are given; send one of response_format and structured_outputs' fields",
            field="structured_outputs",
            limit="one constraint",
        )
    return found[0] if found else None


def _format(form: ResponseFormatIn) -> Constraint:
    if form.type == "json_object":
        return ANY_OBJECT
    if form.type != "json_schema":
        raise InvalidRequest(
            f"response_format.type is {form.type[:40]!r}; use text, json_object or json_schema",
            field="response_format.type",
            limit="text, json_object, json_schema",
        )
    schema = form.json_schema.schema if form.json_schema is not None else None
    if schema is None:
        raise InvalidRequest(
            "response_format.json_schema.schema is missing; it is needed for json_schema",
            field="response_format.json_schema.schema",
            limit="required",
        )
    return Constraint(kind=ConstraintKind.JSON_SCHEMA, text=_json(schema))


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
