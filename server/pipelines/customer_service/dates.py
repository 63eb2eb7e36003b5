"""Days in what shoppers write, English and Chinese, written out or told from today. Over folded text.

A day without a year is the one nearest to today. "Last Tuesday" is the newest before today; 上周二 is that of the week before.
A week or a month is given as its first and last day, "2026-11-16/2026-11-22".
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from server.pipelines.product_copy.number_words import NUMBER, value_of

Day = datetime.date
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_MONTH = "|".join([*_MONTHS, *(f"{month[:3]}\\.?" for month in _MONTHS), "sept\\.?"])
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAY = "|".join([*_DAYS, "mon", "tues?", "wed", "thurs?", "thu", "fri", "sat", "sun"])
_N = r"(?:\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|couple of|a couple of|a few)"
_CN = r"(?:\d{1,3}|[一二三四五六七八九十]{1,3}|半)"
_CN_WEEKDAY = dict(
    zip("一二三四五六日天末1234567", [0, 1, 2, 3, 4, 5, 6, 6, 5, 0, 1, 2, 3, 4, 5, 6], strict=True)
)
_WORDS = {word: at for at, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])} | {"a": 1, "an": 1, "couple of": 2, "a couple of": 2, "a few": 3}  # fmt: skip
_NEAR = {
    "the day before yesterday": -2, "day before yesterday": -2, "yesterday": -1, "today": 0, "tonight": 0, "this morning": 0,
    "this afternoon": 0, "this evening": 0, "last night": -1, "the day after tomorrow": 2, "day after tomorrow": 2, "tomorrow": 1,
    "大前天": -3, "前天": -2, "前日": -2, "昨天": -1, "昨日": -1, "昨晚": -1, "今天": 0, "今日": 0, "今晚": 0, "今早": 0,
    "明天": 1, "明日": 1, "明晚": 1, "后天": 2, "大后天": 3,
}  # fmt: skip
_B, _E = r"(?<![a-z0-9])", r"(?![a-z0-9])"


class Dated(NamedTuple):
    """A day or days; places are characters of the folded text."""

    start: int
    end: int
    value: str


def dates(folded: str, today: Day, *, day_first: bool = True) -> Iterator[Dated]:
    """Days that a text names, longest first at each place.

    Args:
        folded: the text.
        today: that relative days are told from.
        day_first: how 05/03/2026 is read: as 5 March, or as May 3. Only one reading may be possible; then that one is taken.
    """
    found: list[Dated] = []
    for pattern, read in _READERS:
        for match in pattern.finditer(folded):
            value = read(match, today, day_first)
            if value is not None:
                found.append(Dated(*match.span(), value))
    end = -1
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if one.start >= end:
            end = one.end
            yield one


def _day(year: int, month: int, day: int) -> Day | None:
    try:
        return datetime.date(year + 2000 if year < 100 else year, month, day)
    except ValueError:
        return None


def _text(day: Day | None) -> str | None:
    return None if day is None else day.isoformat()


def _nearest(month: int, day: int, today: Day) -> Day | None:
    days = [one for year in (-1, 0, 1) if (one := _day(today.year + year, month, day)) is not None]
    return min(days, key=lambda one: abs((one - today).days), default=None)


def _month_number(word: str) -> int:
    return next(at + 1 for at, month in enumerate(_MONTHS) if month.startswith(word[:3]))


def _weekday_number(word: str) -> int:
    return next(at for at, day in enumerate(_DAYS) if day.startswith(word[:3]))


def _number(word: str) -> int:
    if word.isdecimal():
        return int(word)
    if word in _WORDS:
        return _WORDS[word]
    number = NUMBER.fullmatch(word)
    worth = None if number is None else value_of(number)
    return 0 if worth is None else int(worth)


def _moved(today: Day, days: int) -> Day | None:
    try:
        return today + datetime.timedelta(days=days)
    except OverflowError:
        return None


def _months_away(today: Day, months: int) -> Day | None:
    at = today.year * 12 + today.month - 1 + months
    if not 12 <= at < 9999 * 12:
        return None
    year, month = divmod(at, 12)
    last = (datetime.date(year + (month == 11), (month + 1) % 12 + 1, 1) - datetime.timedelta(days=1)).day
    return datetime.date(year, month + 1, min(today.day, last))


def _whole(match: re.Match[str], today: Day, day_first: bool) -> str | None:
    return _text(_day(int(match["y"]), int(match["m"]), int(match["d"])))


def _slashed(match: re.Match[str], today: Day, day_first: bool) -> str | None:
    first, second, year = int(match["a"]), int(match["b"]), int(match["y"])
    one, other = _day(year, second, first), _day(year, first, second)
    return _text((one or other) if day_first else (other or one))


def _named(match: re.Match[str], today: Day, day_first: bool) -> str | None:
    month, day = _month_number(match["month"]), int(match["d"])
    return _text(_day(int(match["y"]), month, day) if match["y"] else _nearest(month, day, today))


def _chinese(match: re.Match[str], today: Day, day_first: bool) -> str | None:
    month, day, year = _number(match["m"]), _number(match["d"]), match["y"]
    if not year:
        return _text(_nearest(month, day, today))
    if year in ("今", "去", "明", "前"):
        return _text(_day(today.year + {"今": 0, "去": -1, "明": 1, "前": -2}[year], month, day))
    return _text(_day(int(year) if year.isdecimal() else _number(year), month, day))


def _near(match: re.Match[str], today: Day, day_first: bool) -> str | None:
    return _text(_moved(today, _NEAR[match.group()]))


def _weekday(match: re.Match[str], today: Day, day_first: bool) -> str | None:
    wanted, which = _weekday_number(match["day"]), match["which"] or ""
    ahead = (wanted - today.weekday()) % 7
    if which == "last" or which == "past":
        return _text(_moved(today, ahead - 7))
    if which == "next":
        return _text(_moved(today, ahead or 7))
    if which == "this":
        return _text(_moved(today, wanted - today.weekday()))
    return _text(_moved(today, ahead if ahead <= 3 else ahead - 7))  # "on Tuesday": the nearest


def _chinese_weekday(match: re.Match[str], today: Day, day_first: bool) -> str | None:
    wanted, which = _CN_WEEKDAY[match["day"]], match["which"] or ""
    if which and which[0] in "上下":
        weeks = (which.count("上") * -1) + which.count("下")
        return _text(_moved(today, wanted - today.weekday() + 7 * weeks))
    return _text(_moved(today, wanted - today.weekday()))


def _ago(match: re.Match[str], today: Day, day_first: bool) -> str | None:
    count, unit = _number(match["n"]), match["unit"]
    sign = (
        -1 if (match.groupdict().get("ago") or "") in ("ago", "前", "以前", "之前", "earlier", "back") else 1
    )
    if unit.startswith("month") or "月" in unit:
        return _text(_months_away(today, sign * count))
    if unit.startswith("year") or "年" in unit:
        return _text(_months_away(today, sign * 12 * count))
    days = 7 if unit.startswith("week") or unit[-1] in "周期拜" else 1
    return _text(_moved(today, sign * days * count))


def _span(match: re.Match[str], today: Day, day_first: bool) -> str | None:
    which, unit = match["which"], match["unit"]
    move = (
        -1
        if which in ("last", "上", "上个", "上一", "上一个")
        else 1
        if which in ("next", "下", "下个", "下一", "下一个")
        else 0
    )
    if unit in ("week", "周", "星期", "礼拜"):
        first = _moved(today, 7 * move - today.weekday())
        last = None if first is None else _moved(first, 6)
    else:
        first = _months_away(today.replace(day=1), move)
        after = None if first is None else _months_away(first, 1)
        last = None if after is None else _moved(after, -1)
    return None if first is None or last is None else f"{first.isoformat()}/{last.isoformat()}"


def _day_of_month(match: re.Match[str], today: Day, day_first: bool) -> str | None:
    month = _months_away(
        today.replace(day=1),
        -1 if match["which"].startswith("上") else 1 if match["which"].startswith("下") else 0,
    )
    return None if month is None else _text(_day(month.year, month.month, _number(match["d"])))


_Reader = Callable[[re.Match[str], Day, bool], str | None]
_READERS: tuple[tuple[re.Pattern[str], _Reader], ...] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (r"(?<![\d./-])(?P<y>(?:19|20)\d\d)(?P<sep>[-/.])(?P<m>\d{1,2})(?P=sep)(?P<d>\d{1,2})(?![\d/-])(?:t\d\d:\d\d(?::\d\d)?z?)?", _whole),
        (r"(?<![\d./-])(?P<a>\d{1,2})(?P<sep>[/.-])(?P<b>\d{1,2})(?P=sep)(?P<y>(?:19|20)\d\d|\d\d)(?![\d/-])", _slashed),
        (rf"{_B}(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<month>{_MONTH})(?:,? (?P<y>(?:19|20)\d\d))?{_E}", _named),
        (rf"{_B}(?P<month>{_MONTH}) (?:the )?(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?:,? (?P<y>(?:19|20)\d\d))?(?![\d:.]|\s?%)", _named),
        (r"(?:(?P<y>(?:19|20)\d\d|[零一二三四五六七八九]{4}|[今去明前])\s?年?\s?)?(?P<m>\d{1,2}|十[一二]?|[一二三四五六七八九])\s?月\s?(?P<d>\d{1,2}|[一二三]?十[一二三四五六七八九]?|[一二三四五六七八九])\s?[日号]", _chinese),
        (r"(?<![a-z])(?:the day before yesterday|day before yesterday|yesterday|today|tonight|this (?:morning|afternoon|evening)|last night|(?:the )?day after tomorrow|tomorrow)(?![a-z])|大前天|前天|前日|昨[天日晚]|今[天日晚早]|明[天日晚]|大后天|后天", _near),
        (rf"{_B}(?P<which>last|past|next|this|on) (?P<day>{_WEEKDAY}){_E}", _weekday),
        (r"(?P<which>上+个?|下+个?|这个?|本)?(?:周|星期|礼拜)(?P<day>[一二三四五六日天末1-6])(?![\d年个月周])", _chinese_weekday),
        (rf"{_B}(?P<n>{_N}) (?P<unit>days?|weeks?|months?|years?) (?P<ago>ago|earlier|back){_E}", _ago),
        (rf"{_B}in (?P<n>{_N}) (?P<unit>days?|weeks?|months?){_E}(?! (?:of|a))", _ago),
        (rf"(?P<n>{_CN})\s?个?\s?(?P<unit>天|日|周|星期|礼拜|月|年)(?P<ago>以?前|之前|以?后|之后)", _ago),
        (rf"{_B}(?P<which>last|this|next) (?P<unit>week|month){_E}", _span),
        (r"(?P<which>[上下]一?个?|这个?|本)(?P<unit>周|星期|礼拜|月)(?![一二三四五六日天末\d])", _span),
        (r"(?P<which>[上下]个?|这个?|本)月\s?(?P<d>\d{1,2}|[一二三]?十[一二三四五六七八九]?|[一二三四五六七八九])\s?[日号]", _day_of_month),
    )
)  # fmt: skip
