"""Bytes of a body to one of the request structs, or a sentence about the field that is wrong."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from server.errors import InvalidRequest
from server.http_api.openai.shapes import HARMLESS, NESTED
from server.http_api.wrong_fields import Shapes, explain, malformed

In = TypeVar("In", bound=msgspec.Struct)

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw])
_INSTEAD = {
    "functions": "use tools",
    "function_call": "use tool_choice",
    "audio": "this server writes text only",
    "web_search_options": "this server searches nothing",
    "guided_json": "use response_format or structured_outputs",
    "guided_regex": "use structured_outputs",
    "guided_choice": "use structured_outputs",
    "guided_grammar": "use structured_outputs",
}


def decode(body: bytes | bytearray, decoder: msgspec.json.Decoder[In]) -> In:
    """Read a body.

    Raises:
        MalformedRequest: it is not JSON in UTF-8.
        InvalidRequest: a field has another type, is missing, or is not known here; names it.
    """
    wanted: type[In] = decoder.type
    shapes: Shapes = {"": wanted, **NESTED}
    try:
        given = _raw.decode(body)
        out = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise explain(error, body, "", shapes) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise malformed(error) from None
    known = wanted.__struct_fields__
    for name, value in given.items():
        if name in known or name in HARMLESS or bytes(value) in (b"null", b"[]", b"{}"):
            continue
        advice = _INSTEAD.get(name, f"it has {', '.join(known)}")
        raise InvalidRequest(
            f"{name[:100]} is not a field of this request; {advice}", field=name[:100], limit=", ".join(known)
        )
    return out
