"""From msgspec's complaint about a body to a sentence that names the field, its value and what to do.

Only refused requests come here, so the body may be decoded a second time to show the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from server.errors import InvalidRequest, MalformedRequest

Shapes = Mapping[str, type[msgspec.Struct]]

_SHOWN_CHARS = 60
_PATH = re.compile(r" - at `\$(.*)`$")
_KEY = re.compile(r"unknown field `(.*)`")
_MISSING = re.compile(r"missing required field `(.*)`")
_decoder = msgspec.json.Decoder()


def malformed(error: Exception) -> MalformedRequest:
    """Say that a body is not JSON."""
    return MalformedRequest(
        f"the body is not valid JSON: {error}; send one JSON object in UTF-8 (NaN and Infinity are not JSON)",
        field="body",
    )


def explain(
    error: msgspec.ValidationError,
    body: bytes | bytearray | msgspec.Raw,
    where: str,
    shapes: Shapes,
) -> InvalidRequest:
    """Say what is wrong with a body that is JSON, or that it is not.

    Args:
        error: as the decoder raised it.
        body: what it was given.
        where: prefix of every field name, such as ``requests[3].``.
        shapes: the struct of the body under "", and those inside it by the name of their field.
    """
    try:
        value: Any = _decoder.decode(body)
    except msgspec.ValidationError:  # a number that no float holds
        value = UNSET
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as broken:
        return malformed(broken)
    text = str(error)
    path_match = _PATH.search(text)
    path = path_match.group(1) if path_match else ""
    reason = _PATH.sub("", text)
    unknown = _KEY.search(reason)
    missing = _MISSING.search(reason)
    named = unknown or missing
    inside = (path + "." + named.group(1) if named else path).lstrip(".")
    field = where + inside if inside else where.rstrip(".") or "body"
    if unknown:
        known = ", ".join(_known_fields(path, shapes))
        return InvalidRequest(
            f"{field} is not a field of this request; it has {known}", field=field, limit=known
        )
    if missing:
        return InvalidRequest(f"{field} is missing; it is needed", field=field, limit="required")
    wanted = reason.split(", got")[0].lower().replace("`", "")
    return InvalidRequest(
        f"{field} is {_shown(value, path)}; {wanted}", field=field, limit=wanted.removeprefix("expected ")
    )


def _known_fields(path: str, shapes: Shapes) -> tuple[str, ...]:
    last = path.rsplit(".", 1)[-1].split("[")[0]
    return shapes.get(last, shapes[""]).__struct_fields__


def _shown(value: Any, path: str) -> str:
    try:
        for key, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", path):
            value = value[key] if key else value[int(index)]
        text = msgspec.json.encode(value).decode()
    except Exception:  # only for the sentence: what cannot be walked or written is not shown
        return "not usable"
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
