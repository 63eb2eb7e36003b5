"""Personal data out of a text before it reaches a log, a trace, a cache, a prompt or a colleague's summary.

Looks at the text as it would be read: folded, so that full-width digits, invisible characters and spacing hide nothing; what
is found is replaced in the text itself. A number that has the form of the shop's orders stays, unless it is a card's.
Time grows with the text's length and no faster. Nothing that was looked at is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NoReturn

from server.pipelines.customer_service.personal import Kind, Personal
from server.pipelines.customer_service.personal_addresses import addresses
from server.pipelines.customer_service.personal_numbers import numbers
from server.pipelines.product_copy.folding import folded_once

_DOMAIN = r"[a-z0-9](?:[a-z0-9-]{0,62})"
_DOT = r"\s{0,2}(?:[.。．]|[\[(（{]\s?(?:dot|点)\s?[\])）}])\s{0,2}|\sdot\s"
_AT_SIGN = r"\s{0,2}(?:@|[\[(（{]\s?(?:at|@|艾特)\s?[\])）}])\s{0,2}"
_HOST = re.compile(
    rf"(?P<at>{_AT_SIGN})(?P<host>{_DOMAIN}(?:(?:{_DOT}){_DOMAIN}){{0,6}}?(?:{_DOT})(?:[a-z]{{2,24}}|xn--[a-z0-9-]{{2,40}})(?![a-z0-9-])(?:\.[a-z]{{2,10}}(?![a-z0-9-])){{0,2}})"
    rf"|(?P<spoken>\sat\s)(?={_DOMAIN}(?:\sdot\s|\s?[\[(]\s?dot\s?[\])]\s?)[a-z])(?P<words>{_DOMAIN}(?:(?:{_DOT}){_DOMAIN}){{1,4}})"
)
_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.!#$%&'*+/=?^_`{|}~-")
_ONE_SPACE = re.compile(r"(?:(?:\s?(?:\.|dot)\s?|\s)[a-z0-9]){2,20}$")
_QUOTED_LOCAL = re.compile(r"(?:[a-z0-9._%+-]{0,64}\.)?\"(?:[^\"\\\n]|\\.){1,64}\"$")
_OTHER_LOCAL = re.compile(r"[^\W_]{1,24}$")
MOST_LOCAL_CHARS = 256
MOST_LOGGED_CHARS = 20_000


class Masked(str):
    """A text without personal data. Being a ``str``, it goes where a text goes; what it was made of goes nowhere.

    The original is in this process's memory only: it is not in the representation, not in a copy, and a pickle refuses.
    """

    __slots__ = ("_original",)
    _original: str

    def original(self) -> str:
        """What was masked, for what must be computed on it here and now."""
        return self._original

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a masked text stays in memory; write str(text) to store it without personal data")


def masked(text: str, keep: Sequence[re.Pattern[str]] = ()) -> Masked:
    """A text without personal data that remembers, in memory, what it was."""
    hidden = Masked(mask(text, keep))
    hidden._original = text
    return hidden


def mask(text: str, keep: Sequence[re.Pattern[str]] = ()) -> str:
    """The text with ``[card]``, ``[iban]``, ``[email]``, ``[phone]``, ``[id]`` or ``[address]`` where such a thing stood.

    Args:
        text: of any length.
        keep: forms of the shop's order numbers, over folded text; what they take in stays, but a card number never does.
    """
    found = find_personal(text, keep)
    if not found:
        return text
    parts, at = [], 0
    for kind, start, end in found:
        parts += [text[at:start], f"[{kind.value}]"]
        at = end
    return "".join([*parts, text[at:]])


def guard(text: str) -> str:
    """A line for a log or a trace without personal data; of a very long one only the beginning."""
    if len(text) > MOST_LOGGED_CHARS:
        text = f"{text[:MOST_LOGGED_CHARS]}... ({len(text)} characters)"
    return mask(text)


def find_personal(text: str, keep: Sequence[re.Pattern[str]] = ()) -> list[Personal]:
    """Where personal data stands in a text, in its order, none overlapping another."""
    seen = folded_once(text)
    places = seen.places

    def is_capital(at: int) -> bool:
        return text[places[at]].isupper()

    found = [*_mailboxes(seen.text), *numbers(seen.text), *addresses(seen.text, is_capital)]
    if not found:
        return []
    kept = [form.span() for pattern in keep for form in pattern.finditer(seen.text)]
    return [
        Personal(kind, *seen.span(start, end))
        for kind, start, end in _apart(found)
        if kind in (Kind.CARD, Kind.EMAIL, Kind.ADDRESS)
        or not any(first <= start and end <= last for first, last in kept)
    ]


_RANK = {
    kind: at for at, kind in enumerate((Kind.EMAIL, Kind.ADDRESS, Kind.IBAN, Kind.ID, Kind.CARD, Kind.PHONE))
}


def _apart(found: list[Personal]) -> list[Personal]:
    """Overlapping pieces become one, of the kind that comes first in rank."""
    out: list[Personal] = []
    for one in sorted(found, key=lambda one: one.start):
        if out and one.start < out[-1].end:
            last = out[-1]
            kind = min(last.kind, one.kind, key=_RANK.__getitem__)
            out[-1] = Personal(kind, last.start, max(last.end, one.end))
        else:
            out.append(one)
    return out


def _mailboxes(folded: str) -> Iterator[Personal]:
    if "@" not in folded and "at" not in folded and "艾特" not in folded:
        return
    floor = 0
    for found in _HOST.finditer(folded):
        start = begin = found.start()
        while begin > floor and start - begin < MOST_LOCAL_CHARS and folded[begin - 1] in _LOCAL:
            begin -= 1
        if folded[begin:start].startswith(("/", "'", "=", "{", "|")):
            begin += 1
        if start - begin == 1:  # "j o h n @ example.com"
            apart = _ONE_SPACE.search(folded, max(floor, begin - 60), start)
            begin = apart.start() if apart is not None else begin
        if begin == start and folded[start - 1 : start] == '"':  # "john doe"@example.com
            quoted = _QUOTED_LOCAL.search(folded, max(floor, start - 132), start)
            begin = start if quoted is None else quoted.start()
        if begin == start:  # a name in another script
            name = _OTHER_LOCAL.search(folded, max(floor, start - 24), start)
            begin = start if name is None else name.start()
        floor = found.end()
        if begin < start:
            yield Personal(Kind.EMAIL, begin, found.end())
