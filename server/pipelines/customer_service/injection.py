"""Text that tries to give instructions where only data is expected: in a message, in a page of the shop, in an order's fields.

Nothing is refused because of it. What is found is data like the rest, but it is not searched with, not put into a prompt and
not quoted: ``without_attempts`` cuts it out of what a shopper wrote, so that the rest is answered, and a page or a field that
holds one is not shown at all. Only the person who takes over reads it, as it was written. Finding is help, not the
guard: the guard is that answers are quotes, which no instruction can change.

Looks through width, look-alike letters and invisible characters (folding), letters set apart, digits for letters, base64 and
percent signs. Time grows with the text's length and no faster. The lists in ``data/injections.txt`` can be extended by a shop.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from server.pipelines.customer_service.expressions import Expressions, unusable
from server.pipelines.product_copy.folding import folded_once
from server.pipelines.product_copy.instructions import squeezed, unleet


class Place(StrEnum):
    """Where a text stands."""

    MESSAGE = "message"
    DOCUMENT = "document"
    ORDER = "order"


class AttemptKind(StrEnum):
    """What an attempt tries."""

    INSTRUCTION = "instruction"  # to set the rules
    ROLE = "role"  # to set who answers, or who asks
    PROMPT = "prompt"  # to see what is not theirs
    PROMISE = "promise"  # to have something promised
    TOOL = "tool"  # to speak as the machinery: roles, markup, calls
    ENCODED = "encoded"  # the same in a code
    TRANSLATION = "translation"  # the same in another language


class Attempt(NamedTuple):
    """An attempt; places are characters of the text."""

    kind: AttemptKind
    start: int
    end: int


class InjectionList(NamedTuple):
    """One kind's expressions for one place."""

    kind: AttemptKind
    says: Expressions
    looks_like: Expressions


Lists = Mapping[Place, tuple[InjectionList, ...]]
MOST_CHARS = 400_000
_BLANK = "\x1f"
_HEAD = re.compile(r"\[([a-z]+) (everywhere|message|stored)\]")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{16,4000}={0,2}(?![A-Za-z0-9+/_=-])")
_HEX = re.compile(r"(?<![0-9a-fA-F])(?:[0-9a-fA-F]{2}\s?){12,2000}(?![0-9a-fA-F])")
_PERCENT = re.compile(
    r"(?:%[0-9a-fA-F]{2}|&#x?[0-9a-fA-F]{2,6};|\\u[0-9a-fA-F]{4}|[A-Za-z]){0,400}(?:%[0-9a-fA-F]{2}|&#x?[0-9a-fA-F]{2,6};|\\u[0-9a-fA-F]{4})"
)
_ESCAPE = re.compile(r"&#(x?)([0-9a-fA-F]{2,6});|\\u([0-9a-fA-F]{4})")
# What is left of an instruction when nothing stands between its letters.
_RUN_TOGETHER = re.compile(
    r"(?:ignore|disregard|forget|bypass|override)(?:all|any|the|your|my|every)*(?:previous|prior|above|earlier|preceding|other|safety)*(?:instruction|prompt|rule|message|guideline|polic|restriction|thing)"
    r"|systemprompt|(?:reveal|show|print)(?:me)?your(?:system|hidden|secret)*(?:prompt|instruction|rule)|developermode|jailbreak|youarenow(?:a|an|dan|the)|pretendtobe|doanythingnow"
)
_SENTENCE = re.compile(r"[.!?。！？\n；;]")


def read_injection_lists(extra: Sequence[Path] = ()) -> Lists:
    """The list of the package and those of a shop behind it.

    Args:
        extra: files of the form of ``data/injections.txt``.

    Raises:
        ValueError: a section or an expression is wrong; names the file, the line and what to do.
    """
    own = files("server.pipelines.customer_service").joinpath("data", "injections.txt")
    texts = [("injections.txt", own.read_text("utf-8"))]
    for path in extra:
        try:
            texts.append((str(path), path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}: cannot be read as UTF-8 text ({error}); give a readable file of attempts"
            ) from error
    says: dict[tuple[str, str], list[str]] = {}
    looks: dict[tuple[str, str], list[str]] = {}
    for name, text in texts:
        section: tuple[str, str] | None = None
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("# "):
                continue
            if (head := _HEAD.fullmatch(line)) is not None and head.group(1) in set(AttemptKind):
                section = (head.group(1), head.group(2))
                continue
            if section is None:
                kinds = ", ".join(AttemptKind)
                raise ValueError(
                    f"{name}, line {number}: stands in no section; begin with [KIND everywhere], KIND one of {kinds}"
                )
            body = line.removeprefix("!").strip()
            if (wrong := unusable(body)) is not None:
                raise ValueError(f"{name}, line {number}: {wrong}")
            (looks if line.startswith("!") else says).setdefault(section, []).append(body)
    return {place: tuple(_of_place(place, says, looks)) for place in Place}


def _of_place(
    place: Place, says: Mapping[tuple[str, str], list[str]], looks: Mapping[tuple[str, str], list[str]]
) -> Iterator[InjectionList]:
    wheres = ("everywhere", "message" if place is Place.MESSAGE else "stored")
    for (kind, where), expressions in says.items():
        if where in wheres:
            yield InjectionList(
                AttemptKind(kind),
                Expressions(expressions),
                Expressions(looks.get((kind, where), [])),
            )


@lru_cache(maxsize=1)
def own_lists() -> Lists:
    """The lists of the package."""
    return read_injection_lists()


def find_attempts(text: str, place: Place, lists: Lists | None = None) -> tuple[Attempt, ...]:
    """Attempts in a text, in its order, none overlapping another.

    Args:
        text: its first ``MOST_CHARS`` characters are looked at.
        place: where it stands; a page has no reason for some things that a shopper may say, and the other way round.
        lists: a shop's; None: those of the package.
    """
    kinds = (own_lists() if lists is None else lists)[place]
    text = text[:MOST_CHARS]
    found = list(_plainly(text, kinds))
    found += _encoded(text, kinds)
    out: list[Attempt] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if out and one.start < out[-1].end:
            out[-1] = out[-1]._replace(end=max(out[-1].end, one.end))
        else:
            out.append(one)
    return tuple(out)


def without_attempts(text: str, place: Place, lists: Lists | None = None) -> str:
    """The text without the sentences that attempts stand in; what is left is what may be searched or asked with."""
    parts, at = [], 0
    for attempt in find_attempts(text, place, lists):
        ends = [end.end() for end in _SENTENCE.finditer(text, at, attempt.start)]
        start = max(at, ends[-1] if ends else at)
        after = _SENTENCE.search(text, attempt.end)
        parts.append(text[at:start])
        at = len(text) if after is None else after.end()
    return "".join([*parts, text[at:]]).strip()


def _plainly(text: str, kinds: Sequence[InjectionList]) -> Iterator[Attempt]:
    seen = folded_once(text)
    for start, end, kind in _matches(seen.text, kinds):
        yield Attempt(kind, *seen.span(start, end))
    leet = unleet(seen.text)
    if leet != seen.text:
        for start, end, kind in _matches(leet, kinds):
            yield Attempt(kind, *seen.span(start, end))
    tight, places = squeezed(seen.text)
    if len(tight) != len(seen.text):
        together = [
            (found.start(), found.end(), AttemptKind.INSTRUCTION) for found in _RUN_TOGETHER.finditer(tight)
        ]
        for start, end, kind in [*_matches(tight, kinds), *together]:
            yield Attempt(kind, *seen.span(places[start], places[end - 1] + 1))


def _matches(folded: str, kinds: Sequence[InjectionList]) -> Iterator[tuple[int, int, AttemptKind]]:
    for kind, says, looks_like in kinds:
        if says.search(folded) is None:
            continue
        for found in says.finditer(looks_like.blanked(folded, _BLANK)):
            if found.end() > found.start():
                yield found.start(), found.end(), kind


def _encoded(text: str, kinds: Sequence[InjectionList]) -> Iterator[Attempt]:
    readers: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = (
        (_BASE64, _from_base64),
        (_HEX, _from_hex),
        (_PERCENT, _from_escapes),
    )
    for pattern, reader in readers:
        if pattern is _PERCENT and not any(sign in text for sign in ("%", "&#", "\\u")):
            continue
        for found in pattern.finditer(text):
            plain = reader(found.group())
            if plain and any(True for _ in _matches(folded_once(plain).text, kinds)):
                yield Attempt(AttemptKind.ENCODED, *found.span())


def _from_base64(text: str) -> str:
    bare = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return _readable(base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True))
    except (binascii.Error, ValueError):
        return ""


def _from_hex(text: str) -> str:
    return _readable(bytes.fromhex(re.sub(r"\s", "", text)))


def _from_escapes(text: str) -> str:
    plain = _ESCAPE.sub(
        lambda code: _char(code.group(2) or code.group(3), bool(code.group(1) or code.group(3))), text
    )
    return unquote(plain)


def _char(code: str, hexadecimal: bool) -> str:
    try:
        return chr(int(code, 16 if hexadecimal else 10))
    except (ValueError, OverflowError):
        return ""


def _readable(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return ""
