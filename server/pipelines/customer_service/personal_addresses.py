"""Where somebody lives: English street forms with what stands around them, Chinese 省市区路号, post boxes. Over folded text.

Quantifiers are bounded, so time grows with the text's length and no faster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from server.pipelines.customer_service.personal import Kind, Personal

_SURE = r"street|road|avenue|boulevard|lane|terrace|crescent|highway|parkway|blvd|ave|rd|alley|gardens|mews"
_UNSURE = r"st|drive|dr|court|ct|place|pl|way|square|sq|circle|cir|close|row|hill|park|walk|ln|grove|green|trail|quay|plaza|wharf"
_NAME = r"(?:[a-z0-9][a-z0-9'.]{0,24}[ ]){1,4}"
_INSIDE = (
    r"(?:apartment|apt|unit|suite|ste|flat|room|rm|floor|fl|bldg|building|no|#)\.?\s?#?\s?[a-z]?\d{1,5}[a-z]?"
)
_ZIP = (
    r"(?:[a-z]{1,2}\d[a-z\d]?\s?\d[a-z]{2}|(?:[a-z]{2}\s)?\d{5}(?:-\d{4})?|[a-z]\d[a-z]\s?\d[a-z]\d|\d{4,6})"
)
_STREET = re.compile(
    rf"(?<![a-z0-9.$€£#-])(?:{_INSIDE}\s?[,/]?\s)?(?P<no>\d{{1,5}}[a-z]?(?:[-/]\d{{1,4}})?),?[ ](?P<name>{_NAME})(?:(?P<sure>{_SURE})|(?P<unsure>{_UNSURE}))(?![a-z0-9'])"
    rf"(?:\s(?:north|south|east|west|nw|ne|sw|se|[nsew])(?![a-z]))?"
)
_TAIL = re.compile(
    rf"(?:\.?,?\s{{0,2}}{_INSIDE})?(?:\.?\s?,\s?(?!(?:but|and|please|when|where|is|it|can|i|the|not|or|so|if|do|will)\b)[a-z][a-z.'-]{{1,20}}(?: [a-z][a-z.'-]{{1,20}}){{0,2}}){{0,3}},?\s?{_ZIP}(?![a-z0-9])"
)
_ROOM_AFTER = re.compile(rf"\.?,?\s{{0,2}}{_INSIDE}(?![a-z0-9])")
_BOX = re.compile(
    r"\b(?:p\.?\s?o\.?\s?box|post office box)\s?#?\s?\d{1,6}|邮政?信箱\s?\d{1,6}\s?号?"
    r"|\b(?:[a-z]{2,30}(?:strasse|straße|weg|platz|allee|gasse|straat|laan))\s\d{1,4}\s?[a-z]?\b(?:,?\s(?:d-)?\d{4,5}\s[a-z]{2,30})?"
    r"|\b\d{1,4},?\s(?:bis |ter )?(?:rue|boulevard|chemin|impasse|allee)\s(?:d[eu']s?\s?)?(?:l[ae']s?\s?)?[a-z'-]{2,30}(?:\s[a-z'-]{2,30}){0,2}"
    r"|\b(?:calle|avenida|viale|rua|plaza)\s(?:de(?:l| la)? )?[a-z]{3,20}(?:\s[a-z]{3,20}){0,2},?\s(?:n[.o°]{0,2}\s?)?\d{1,4}\b"
    r"|\bvia\s[a-z]{3,20}(?:\s[a-z]{3,20}){0,2}(?:,\s|\sn[.o°]{1,2}\s?)\d{1,4}\b"
)
# Streets as the continent writes them: the number behind the name, the postcode before the town.
_EURO_NAME = r"[a-z][a-z.'-]{1,24}"
_EURO_NO = r"\d{1,4}\s?(?:[a-z](?![a-z]))?(?:\s?[/-]\s?\d{1,4})?"
_EURO_ZIP = r"(?:(?:d|a|ch|f|b|nl|l|i|e|pl|cz|dk|s|fin)-)?(?:\d{5}|\d{4}(?: ?[a-z]{2}(?![a-z]))?|\d{2}-\d{3}|\d{3} \d{2}|\d{4}-\d{3})"
_EURO_TOWN = rf"\s(?P<town>{_EURO_NAME}(?:[ -]{_EURO_NAME}){{0,2}})"
_EUROPEAN = re.compile(
    rf"(?<![a-z0-9])(?P<street>(?:{_EURO_NAME}\s){{0,3}}{_EURO_NAME})\s(?:nr\.?\s?|n[o°]\.?\s?)?{_EURO_NO}\s?,?\s{{1,2}}(?P<zip>{_EURO_ZIP}){_EURO_TOWN}"
)
_EURO_STREET = re.compile(
    rf"(?<![a-z0-9])(?:[a-z]{{2,24}}(?:str(?:\.|asse)?|damm|ufer|steig|chaussee|gracht|plein|kade|dijk|singel|gatan|vagen|gade|vej|veien|gata|katu)|[a-z]{{2,24}}[ -]str(?:\.|asse)?)\s{_EURO_NO}(?![a-z0-9])"
    rf"|(?<![a-z0-9])(?:ul\.|ulica|aleja|al\.|plac|pl\.|c/|calle|avda\.?|paseo|rua|travessa|praca|piazza|corso|viale|ulitsa|utca)\s(?:(?:de|del|della|dei|la|do|da|dos)\s)*(?P<named>{_EURO_NAME})(?:\s{_EURO_NAME}){{0,2}},?\s(?:nr\.?\s?|n[o°]\.?\s?)?{_EURO_NO}(?![a-z0-9])"
)
_YEAR = re.compile(r"(?:19|20)\d\d")
_POSTCODE = re.compile(
    r"\b(?:post ?code|zip(?: code)?|邮编|邮政编码)(?: (?:is|number))?[是为]?\s?[:：#]?\s?(?P<number>(?:[a-z]{1,2}\d[a-z\d]?\s?\d[a-z]{2}|\d{5,6}(?:-\d{4})?))(?![a-z0-9])"
    r"|(?<![a-z0-9-])(?P<british>[a-pr-uwyz][a-hk-y]?\d{1,2}[a-hjkps-uw]? \d[abd-hjlnp-uw-z]{2})(?![a-z0-9-])"
)
_NUMERAL = r"[0-9零一二三四五六七八九十百]{1,6}"
_DASH = r"\s?[-—之]?\s?"
# A place before its kind; the kinds themselves may not stand inside a name.
_N = r"[^\W0-9a-z_省市区县镇乡路街巷弄村号的在是我你寄送到了]"
_ADMIN = rf"(?:{_N}{{2,7}}(?:省|自治区|特别行政区)\s?)?(?:{_N}{{2,6}}(?:市|自治州|盟|地区)\s?)?(?:{_N}{{1,7}}(?:市|区|县|旗)\s?)?(?:{_N}{{1,7}}(?:镇|乡|街道)\s?)?"
_ROOM = rf"(?:\s?(?:{_N}{{1,12}}\s?)?(?:[a-z]?{_NUMERAL}|[a-z东南西北])\s?(?:号楼|号院|栋|幢|座|单元|楼|层|室|房|门|户|弄|期|号)){{0,6}}(?:\s?{_NUMERAL}(?:{_DASH}{_NUMERAL}){{0,3}}(?:室|号|房)?)?"
_ROAD = rf"(?:{_N}{{1,9}}(?:路|街|大道|道|巷|胡同|弄|里|村|湾)){{1,2}}"
_QUARTER = r"小区|花园|大厦|广场|公寓|苑|新村"
_CHINESE = re.compile(
    # 朝阳区建国路 88 号 ...
    rf"(?:{_ADMIN}{_ROAD}\s?(?:{_N}{{0,2}}段)?\s?{_NUMERAL}(?:{_DASH}{_NUMERAL})?\s?(?:号|弄)(?![线店色货型码])){_ROOM}"
    # 广东省深圳市南山区 ..., 深圳市南山区科技园小区 ...
    rf"|(?:{_N}{{2,7}}(?:省|自治区)\s?{_N}{{2,6}}(?:市|州)\s?{_N}{{1,7}}(?:区|县|市|旗)"
    rf"|{_N}{{2,6}}市\s?{_N}{{1,7}}(?:区|县)\s?{_N}{{1,9}}(?:路|街|大道|镇|乡|村|街道|{_QUARTER}))"
    rf"(?:\s?{_N}{{1,10}}(?:路|街|大道|镇|乡|村|组|街道|{_QUARTER})){{0,4}}{_ROOM}"
    # 3 栋 2 单元 501 室
    rf"|(?:{_N}{{2,10}}(?:{_QUARTER})\s?)?[a-z]?{_NUMERAL}\s?(?:号楼|栋|幢|座)\s?(?:[a-z]?{_NUMERAL}\s?(?:单元|门)\s?)?"
    rf"(?:{_NUMERAL}\s?[层楼]\s?)?{_NUMERAL}\s?(?:室|房|号|户)"
)
_NO_NAME = frozenset(
    [
        "the",
        "a",
        "an",
        "my",
        "your",
        "this",
        "that",
        "for",
        "from",
        "to",
        "of",
        "in",
        "on",
        "with",
        "and",
        "or",
        "is",
        "are",
        "not",
        "minute",
        "minutes",
        "min",
        "hour",
        "hours",
        "day",
        "days",
        "mile",
        "miles",
        "week",
        "weeks",
        "km",
        "km.",
        "step",
        "steps",
        "inch",
        "inches",
    ]
)


def addresses(folded: str, is_capital: Callable[[int], bool]) -> Iterator[Personal]:
    """Street addresses, post boxes and named postcodes.

    Args:
        folded: the text.
        is_capital: whether the character at a place of it is a capital letter as written; "12 Oak Drive" is an address
            where "12 way drive" is none.
    """
    for found in _STREET.finditer(folded):
        words = found.group("name").split()
        if words[0] in _NO_NAME or set(words[1:]) & _NO_NAME - {"the", "of", "and"}:
            continue
        after = _TAIL.match(folded, found.end())
        if found.group("unsure") and folded[found.end("no") : found.start("name")].startswith(","):
            continue
        if (
            found.group("unsure")
            and after is None
            and not (is_capital(found.start("name")) and is_capital(found.start("unsure")))
        ):
            continue
        if after is None:
            after = _ROOM_AFTER.match(folded, found.end())
        yield Personal(Kind.ADDRESS, found.start(), found.end() if after is None else after.end())
    for pattern in (_BOX, _CHINESE):
        for found in pattern.finditer(folded):
            yield Personal(Kind.ADDRESS, *found.span())
    for found in _EUROPEAN.finditer(folded):
        if is_capital(found.start("town")) and not _YEAR.fullmatch(found["zip"]):
            start = next((at for at in _word_starts(found) if is_capital(at)), None)
            if start is not None:
                yield Personal(Kind.ADDRESS, start, found.end())
    for found in _EURO_STREET.finditer(folded):
        if found["named"] is None or is_capital(found.start("named")):
            yield Personal(Kind.ADDRESS, *found.span())
    for found in _POSTCODE.finditer(folded):
        yield Personal(Kind.ADDRESS, *found.span("number" if found.group("number") else "british"))


def _word_starts(found: re.Match[str]) -> Iterator[int]:
    start, street = found.start("street"), found["street"]
    yield from (start + word.start() for word in re.finditer(r"\S+", street))
