"""Numbers that name a person or open an account: cards, IBANs, identity numbers, telephones, by their check digits and forms.

All over folded text, so that width, script, case and invisible characters are gone; what stands between digits is looked
through. A row of digit groups is read once, and each window of it in constant time: hostile input costs what long input costs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from server.pipelines.customer_service.iban import ibans
from server.pipelines.customer_service.identity_numbers import (
    chinese_id,
    identity_numbers,
    is_identity_layout,
)
from server.pipelines.customer_service.personal import Kind, Personal

# What people put between digits, folded: white space, dashes, dots and Chinese punctuation; not ":" (times).
BETWEEN = r"\s\-._/*|~,，、。·・()（）\[\]+'\"_×x#;；"
_RUN = re.compile(rf"\+?\(?\d(?:[{BETWEEN}]{{0,3}}\d)*")
LONG_TABLE = 64  # groups
# A number that is read out: 一三八零零一三八零零零, also mixed with figures. Shorter ones are amounts and days.
_CHINESE_DIGITS = str.maketrans("零一二三四五六七八九幺壹贰叁肆伍陆柒捌玖", "01234567891123456789")
_READ_OUT = re.compile(
    rf"[\d零一二三四五六七八九幺壹贰叁肆伍陆柒捌玖](?:[{BETWEEN}]{{0,2}}[\d零一二三四五六七八九幺壹贰叁肆伍陆柒捌玖]){{6,40}}[xX]?"
)
_GROUP = re.compile(r"\d+")
_PLUS = re.compile(rf"\+[{BETWEEN}]{{0,3}}$")
_DATE = re.compile(r"(?<!\d)(?:19|20)\d\d([-./])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?!\d)")
_CHECK_X = re.compile(rf"[{BETWEEN}]{{0,3}}[x×]")
_LISTED = re.compile(r"^\s?[,，、;；]\s")
_PHONE_WORD = re.compile(
    r"(?:(?<![a-z])(?:phone|mobile|cell|tel|telephone|call|text|whatsapp|fax|reach|dial|sms|ring|my number is)(?: me| us| him| her)?(?![a-z])|电话|手机|号码|联系|致电|拨打|传真|微信)"
    r"[^\d\n]{0,24}$"
)
_NO_PHONE_WORD = re.compile(
    r"(?:order|purchase|transaction|parcel|tracking|shipment|ticket|invoice|item|model|sku|isbn|upc|ean|asin|part|serial|ref|reference|订单|单号|快递|运单|型号|货号|编号)"
    r"[^\d\n]{0,16}$"
)


@dataclass(frozen=True, slots=True)
class _Row:
    """Groups of digits that stand together: where each begins and ends, and where its digits are among all digits."""

    text: str
    spans: tuple[tuple[int, int], ...]
    digits: str
    at: tuple[int, ...]  # in ``digits``, of each group, and last their number


def numbers(folded: str) -> Iterator[Personal]:
    """Cards, IBANs, identity numbers and telephones of a folded text; they may overlap."""
    folded = _READ_OUT.sub(lambda said: said.group().translate(_CHINESE_DIGITS), folded)
    yield from ibans(folded)
    yield from identity_numbers(folded)
    for found in _RUN.finditer(folded):
        if found.end() - found.start() >= 7:
            yield from _in_row(_row(folded, *found.span()))


def luhn(digits: str) -> bool:
    """Whether the last digit is the Luhn check digit of those before."""
    total = 0
    for at, char in enumerate(reversed(digits)):
        value = int(char) * (1 + at % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _row(text: str, start: int, end: int) -> _Row:
    spans = tuple(group.span() for group in _GROUP.finditer(text, start, end))
    at, count = [], 0
    for first, last in spans:
        at.append(count)
        count += last - first
    return _Row(text, spans, "".join(text[a:b] for a, b in spans), (*at, count))


def _in_row(row: _Row) -> Iterator[Personal]:
    ends = {end: at for at, end in enumerate(row.at)}
    blocked: set[int] = set()
    for first, last, end in _resident_ids(row, ends):
        yield Personal(Kind.ID, row.spans[first][0], end)
        blocked.update(range(first, last))
    for first, last in list(_cards(row, ends, blocked)):
        yield Personal(Kind.CARD, row.spans[first][0], row.spans[last - 1][1])
        blocked.update(range(first, last))
    yield from _long_groups(row, blocked)
    at, count = 0, len(row.spans)
    while at < count:
        start, stop = row.spans[at]
        # in a long table a single digit begins no number of its own
        if at in blocked or (count > LONG_TABLE and stop - start == 1 and row.text[start - 1 : start] != "+"):
            at += 1
            continue
        found = _telephone(row, at, blocked) or _identity(row, at, blocked)
        if found is None:
            at += 1
            continue
        kind, last, end = found
        plus = _PLUS.search(row.text, max(0, start - 4), start)
        start = start if plus is None else plus.start()
        yield Personal(kind, start, end)
        at = last


def _prefixes(digits: str) -> tuple[list[int], list[int]]:
    """Sums of the first n digits where those at even, or at odd places count double: a window's Luhn sum is a difference."""
    even, odd = [0], [0]
    for at, char in enumerate(digits):
        plain = ord(char) - 48
        twice = 2 * plain - 9 if plain > 4 else 2 * plain
        even.append(even[-1] + (plain if at % 2 else twice))
        odd.append(odd[-1] + (twice if at % 2 else plain))
    return even, odd


def _cards(row: _Row, ends: dict[int, int], blocked: set[int]) -> Iterator[tuple[int, int]]:
    """Windows of whole groups that are card numbers, as group numbers."""
    total = row.at[-1]
    if total < 13:
        return
    even, odd = _prefixes(row.digits)
    first, count = 0, len(row.spans)
    while first < count:
        start, best = row.at[first], 0
        for size in range(19, 12, -1):
            last = ends.get(start + size)
            if last is None or first in blocked or last - 1 in blocked:
                continue
            sums = even if (start + size) % 2 == 0 else odd  # the last digit counts once
            if (sums[start + size] - sums[start]) % 10 == 0 and _may_be_card(row, first, last):
                best = last
                break
        if best:
            yield first, best
            first = best
        else:
            first += 1


def _may_be_card(row: _Row, first: int, last: int) -> bool:
    digits = row.digits[row.at[first] : row.at[last]]
    lengths = [row.at[at + 1] - row.at[at] for at in range(first, last)]
    if len(row.spans) > LONG_TABLE and not _issuer(digits):
        return False
    if len(set(digits)) == 1 or _is_dates(digits, lengths):
        return False
    start = row.spans[first][0]
    if len(digits) <= 15 and _PLUS.search(row.text, max(0, start - 4), start):
        return False  # a telephone
    if len(digits) == 13 and digits[:3] in ("978", "979") and _ean(digits):
        return False
    gaps = [row.text[row.spans[at][1] : row.spans[at + 1][0]] for at in range(first, last - 1)]
    if (
        len(lengths) == 1
        and not _issuer(digits)
        and _NO_PHONE_WORD.search(row.text, max(0, start - 40), start)
    ):
        return False  # what the shop calls an order
    if len(row.spans) > 5 and any(_LISTED.match(gap) for gap in gaps):
        return False  # a list of models
    if len(lengths) > 4 and max(lengths) < 4:
        values = [int(row.text[a:b]) for a, b in row.spans[first:last]]
        if all(a < b for a, b in pairwise(values)) and not _issuer(digits):
            return False  # a list of sizes
    if any(_LISTED.match(gap) for gap in gaps) and not _issuer(digits):
        return False
    whole = first == 0 and last == len(row.spans)
    return whole or _issuer(digits) or len(lengths) == 1


def _issuer(digits: str) -> bool:
    """Whether a number begins and is as long as those of a large card network."""
    size, head = len(digits), int(digits[:4])
    return (
        (digits[0] == "4" and size in (13, 16, 19))
        or (size == 16 and (5100 <= head <= 5599 or 2221 <= head <= 2720 or 2200 <= head <= 2204))
        or (size == 15 and digits[:2] in ("34", "37"))
        or (size in (14, 16) and (digits[:2] in ("36", "38", "39") or 3000 <= head <= 3059))
        or (size in range(16, 20) and (digits[:2] in ("62", "64", "65", "81") or head == 6011))
        or (size in range(16, 20) and 3528 <= head <= 3589)
        or (size in range(16, 20) and digits[:2] in ("50", "56", "57", "58", "63", "67", "68"))
    )


def _long_groups(row: _Row, blocked: set[int]) -> Iterator[Personal]:
    """A card written together with its expiry or what stands before it."""
    for at, (start, end) in enumerate(row.spans):
        if at in blocked or not 17 <= end - start <= 30:
            continue
        digits = row.text[start:end]
        for offset in (0, end - start - 16):
            for size in (16, 15):
                part = digits[offset : offset + size]
                if len(part) == size and _issuer(part) and luhn(part):
                    yield Personal(Kind.CARD, start + offset, start + offset + size)


def _is_dates(digits: str, lengths: list[int]) -> bool:
    if lengths == [14] and digits[:2] in ("19", "20"):
        return (
            int(digits[4:6]) in range(1, 13) and int(digits[6:8]) in range(1, 32) and int(digits[8:10]) < 24
        )
    return len(lengths) >= 6 and len(lengths) % 3 == 0 and lengths[:3] == [4, 2, 2] == lengths[3:6]


def _ean(digits: str) -> bool:
    return sum(int(char) * (1 + 2 * (at % 2)) for at, char in enumerate(digits)) % 10 == 0


def _telephone(row: _Row, first: int, blocked: set[int]) -> tuple[Kind, int, int] | None:
    text, start = row.text, row.spans[first][0]
    if start and text[start - 1].isascii() and text[start - 1].isalnum():
        return None
    before = text[max(0, start - 40) : start]
    place = _Place(
        plus=bool(_PLUS.search(before)),
        named=bool(_PHONE_WORD.search(before)),
        other=bool(_NO_PHONE_WORD.search(before)),
        dated=_DATE.search(text, max(0, start - 10), start + 12) is not None,
    )
    best: int | None = None
    for last in range(first + 1, min(len(row.spans), first + 16) + 1):
        size = row.at[last] - row.at[first]
        if last - 1 in blocked or size > 15:
            break
        stop = row.spans[last - 1][1]
        if size < 7 or (text[stop : stop + 1].isascii() and text[stop : stop + 1].isalpha()):
            continue
        groups = [text[a:b] for a, b in row.spans[first:last]]
        gaps = [text[row.spans[at][1] : row.spans[at + 1][0]] for at in range(first, last - 1)]
        if _is_telephone(row.digits[row.at[first] : row.at[last]], groups, gaps, place):
            best = last
    return None if best is None else (Kind.PHONE, best, row.spans[best - 1][1])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What stands before a number: a plus, a word for telephones, a word for something else, a date."""

    dated: bool
    plus: bool
    named: bool
    other: bool


def _is_telephone(digits: str, groups: list[str], gaps: list[str], place: _Place) -> bool:
    size = len(digits)
    if place.plus or (digits.startswith("00") and digits[2:3] != "0" and size >= 11 and not place.other):
        return 8 <= size <= 15
    if any(_LISTED.match(gap) for gap in gaps) or place.other:
        return False
    local = digits[2:] if size == 13 and digits.startswith("86") else digits
    if (len(local) == 11 and local[0] == "1" and local[1] in "3456789") or place.named:
        return True
    if place.dated:
        return False
    if any(set(gap) & set("×x*#+,，、;；") for gap in gaps):
        return False
    layout = [len(group) for group in groups]
    if layout[0] == 1 and groups[0] == "0" and len(layout) > 1:  # "(0)170 1234567"
        layout = [1 + layout[1], *layout[2:]]
    bare = digits[1:] if size == 11 and digits[0] == "1" else digits
    if len(bare) == 10 and bare[0] in "23456789" and bare[3] in "23456789" and layout[-3:] == [3, 3, 4]:
        return True
    if digits.startswith("0") and 10 <= size <= 12:
        if len(layout) == 1:
            return size == 11 and digits[1] in "127"
        if len(layout) == 2 and layout[0] in (3, 4) and layout[1] in (7, 8):
            return True  # 010-62345678
        return size <= 11 and min(layout) >= 2 and all(gap.strip() != "." for gap in gaps)
    return layout in ([3, 3, 4], [3, 4, 3]) and digits[0] in "48" and digits[1:3] == "00"  # service numbers


def _resident_ids(row: _Row, ends: dict[int, int]) -> Iterator[tuple[int, int, int]]:
    at = 0
    while at < len(row.spans):
        start, found = row.at[at], None
        for size in (18, 17):
            last = ends.get(start + size)
            if last is None or found is not None:
                continue
            digits, stop = row.digits[start : start + size], row.spans[last - 1][1]
            check = _CHECK_X.match(row.text, stop)
            if size == 18 and chinese_id(digits):
                found = last, stop
            elif size == 17 and check is not None and chinese_id(digits + "x"):
                found = last, check.end()
        if found is not None:
            yield at, *found
        at = at + 1 if found is None else found[0]


def _identity(row: _Row, first: int, blocked: set[int]) -> tuple[Kind, int, int] | None:
    ends = {row.at[at] - row.at[first]: at for at in range(first + 1, min(len(row.at), first + 20))}
    for size in (9, 11, 12):
        last = ends.get(size)
        if last is None or any(at in blocked for at in range(first, last)):
            continue
        start, stop = row.spans[first][0], row.spans[last - 1][1]
        if row.text[start - 1 : start].isalpha() and row.text[start - 1].isascii():
            continue
        if size == 12 and (first, last) != (0, len(row.spans)):
            continue
        digits, before = row.digits[row.at[first] : row.at[last]], row.text[max(0, start - 40) : start]
        if is_identity_layout(row.text[start:stop], digits, before):
            return Kind.ID, last, stop
    return None
