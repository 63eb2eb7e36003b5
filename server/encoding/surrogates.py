"""Half of a surrogate pair is no character: no tokenizer reads it, and no UTF-8 can carry it."""

from __future__ import annotations

from server.errors import InvalidRequest


def check_surrogates(text: str, where: str) -> None:
    """Refuse a text that holds one.

    Raises:
        InvalidRequest: it does; says which, and where.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{where} holds U+{ord(text[error.start]):04X} at character {error.start}, half of a surrogate pair; "
            "send whole characters",
            field=where,
            limit="Unicode without unmatched surrogates",
        ) from error
