"""What of a text is personal: where it stands and of which kind."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Of personal data; ``[kind]`` stands in its place."""

    CARD = "card"
    IBAN = "iban"
    EMAIL = "email"
    PHONE = "phone"
    ID = "id"
    ADDRESS = "address"


class Personal(NamedTuple):
    """A piece of personal data; places are characters."""

    kind: Kind
    start: int
    end: int
