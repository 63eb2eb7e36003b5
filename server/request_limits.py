"""The bounds a recommendation request must keep, checked once for both wires.

Wires check shapes (what is text, what is a number); the bounds live here, on the domain request, so that HTTP and gRPC
refuse the same things in the same words. Every refusal names the field, the value, the limit and what to do.

Units: seconds, except where a name says ``_ms``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from server.domain import Filters, RecommendRequest
from server.errors import InvalidRequest

MAX_ID_CHARS = 256
MAX_FILTER_VALUES = 100
MAX_FIELDS = 32
_SHOWN_CHARS = 40
BOTH_GIVEN = "history and events are both given; send one of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What one request may ask.

    Attributes:
        max_history: ids in a history (> 0).
        max_candidates: ids in candidates (> 0).
        max_exclude: ids in exclude (> 0).
        default_deadline_s: deadline of a request that names none (> 0).
        max_deadline_s: a longer one is taken as this: who can wait longer is also served by then (> 0).
    """

    max_history: int = 1000
    max_candidates: int = 10_000
    max_exclude: int = 10_000
    default_deadline_s: float = 0.1
    max_deadline_s: float = 10.0

    def deadline_s(self, asked_s: float | None) -> float:
        """Seconds from arrival that the server works towards."""
        if asked_s is None:
            return self.default_deadline_s
        return min(asked_s, self.max_deadline_s)


def check_request(
    request: RecommendRequest, limits: RequestLimits, max_k: int, item_fields: Collection[str]
) -> None:
    """Refuse what is out of bounds.

    Args:
        request: as the wire built it.
        limits: of this server.
        max_k: most items that the serving model can return.
        item_fields: item data that the serving model has; any other field is a developer's mistake.

    Raises:
        InvalidRequest: names the field, the value, the limit and what to do.
    """
    if not 1 <= request.k <= max_k:
        raise InvalidRequest(
            f"k is {request.k}; ask for 1 to {max_k} items", field="k", limit=f"1 .. {max_k}"
        )
    _check_ids("history", request.history, limits.max_history, "send the newest ones only")
    if request.exclude:
        _check_ids("exclude", request.exclude, limits.max_exclude, "send fewer, or use filters")
    if request.candidates is not None:
        if not request.candidates:
            raise InvalidRequest(
                "candidates is empty, so nothing could be recommended; leave it out to rank the whole catalogue",
                field="candidates",
                limit=f"1 .. {limits.max_candidates} ids",
            )
        _check_ids(
            "candidates",
            request.candidates,
            limits.max_candidates,
            "leave it out to rank the whole catalogue",
        )
    if request.deadline_s is not None and not 0.0 < request.deadline_s < math.inf:
        raise InvalidRequest(
            f"deadline_ms is {request.deadline_s * 1e3:g}; give the milliseconds from now within which the answer is "
            f"of use, more than 0 (more than {limits.max_deadline_s * 1e3:g} is taken as that)",
            field="deadline_ms",
            limit=f"> 0 .. {limits.max_deadline_s * 1e3:g} ms",
        )
    if request.fields:
        _check_ids("fields", request.fields, MAX_FIELDS, "name only the fields that the page shows")
        _check_fields(request.fields, item_fields)
    if request.filters is not None:
        _check_filters(request.filters)
    if request.user_id is not None and len(request.user_id) > MAX_ID_CHARS:
        raise InvalidRequest(
            f"user_id has {len(request.user_id)} characters; send at most {MAX_ID_CHARS}",
            field="user_id",
            limit=f"{MAX_ID_CHARS} characters",
        )


def _check_ids(field: str, ids: tuple[str, ...], limit: int, advice: str) -> None:
    if len(ids) > limit:
        raise InvalidRequest(
            f"{field} has {len(ids)} entries, the limit is {limit}; {advice}",
            field=field,
            limit=f"{limit} entries",
        )
    if not ids:
        return
    if max(map(len, ids)) > MAX_ID_CHARS:
        at = next(i for i, value in enumerate(ids) if len(value) > MAX_ID_CHARS)
        raise InvalidRequest(
            f"{field}[{at}] has {len(ids[at])} characters ({ids[at][:_SHOWN_CHARS]!r}...), the limit is {MAX_ID_CHARS}",
            field=f"{field}[{at}]",
            limit=f"{MAX_ID_CHARS} characters",
        )
    if not all(ids):
        at = ids.index("")
        raise InvalidRequest(
            f"{field}[{at}] is empty; leave it out", field=f"{field}[{at}]", limit=">= 1 character"
        )


def _check_fields(fields: tuple[str, ...], known: Collection[str]) -> None:
    for at, name in enumerate(fields):
        if name not in known:
            there = ", ".join(sorted(known))
            raise InvalidRequest(
                f"fields[{at}] is {name[:_SHOWN_CHARS]!r}, which items of this model have not; "
                + (f"they have {there}" if there else "they have ids only"),
                field=f"fields[{at}]",
                limit=there or "no fields",
            )


def _check_filters(filters: Filters) -> None:
    if filters.categories:
        _check_ids("filters.categories", filters.categories, MAX_FILTER_VALUES, "filter by a parent category")
    if filters.brands:
        _check_ids("filters.brands", filters.brands, MAX_FILTER_VALUES, "send fewer")
    for name, price in (("price_min", filters.min_price), ("price_max", filters.max_price)):
        if price is not None and not 0.0 <= price < math.inf:
            raise InvalidRequest(
                f"filters.{name} is {price:g}; give a finite price of 0 or more, or leave it out",
                field=f"filters.{name}",
                limit=">= 0",
            )
    if (
        filters.min_price is not None
        and filters.max_price is not None
        and filters.min_price > filters.max_price
    ):
        raise InvalidRequest(
            f"filters.price_min {filters.min_price:g} is above filters.price_max {filters.max_price:g}; swap them",
            field="filters.price_min",
            limit=f"<= {filters.max_price:g}",
        )


def order_events(events: list[tuple[str, float | None]]) -> tuple[str, ...]:
    """Item ids oldest first, by timestamp where there are any; equal times keep their order.

    Raises:
        InvalidRequest: some events have a timestamp and some have none, or one is not a time.
    """
    times_s = [timestamp for _, timestamp in events if timestamp is not None]
    if not times_s:
        return tuple(item_id for item_id, _ in events)
    for at, (_, timestamp) in enumerate(events):
        if timestamp is None or not math.isfinite(timestamp):
            given = "no timestamp while others have" if timestamp is None else f"the timestamp {timestamp}"
            raise InvalidRequest(
                f"events[{at}] has {given}; give all of them one in Unix seconds, or none",
                field=f"events[{at}].timestamp",
                limit="all finite, or none",
            )
    order = sorted(range(len(events)), key=times_s.__getitem__)
    return tuple(events[at][0] for at in order)
