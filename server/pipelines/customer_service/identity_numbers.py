"""Numbers that a state gives to a person, by their form and, where there is one, their check digit. Over folded text.

Where a form alone would take in half of all numbers (nine digits in a row), a word beside it must say what it is.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator

from server.pipelines.customer_service.personal import Kind, Personal

_B = r"[\s\-._/*]{0,3}"
_SPREAD = r"\s?[\s\-._/*]?"
_NAMED = re.compile(
    r"(?:\bssn\b|social security|\bitin\b|tax ?(?:payer )?id|\btin\b|identity (?:card|number)|\bid ?(?:card|number|no)\b|national id|\bsin\b|social insurance|\bbsn\b"
    r"|\btfn\b|\bpesel\b|personal number|personnummer|driver'?s? licen[cs]e|\bcpf\b|aadhaar|steuer-?id|身份证|证件号|社保号|护照|驾照)[^\d\n]{0,24}$"
)
_LETTERED = (
    # UK national insurance: prefix letters as HMRC gives them out
    ("ni", rf"(?<![a-z0-9])(?!bg|gb|kn|nk|nt|tn|zz)[a-ceghj-prstw-z]{_B}[a-ceghj-nprstw-z](?:{_B}\d){{6}}{_B}[a-d](?![a-z0-9])"),
    ("dni", rf"(?<![a-z0-9])(?:[xyz]{_B})?(?:\d{_B}){{7,8}}[a-hj-np-tv-z](?![a-z0-9])"),
    ("codice", r"(?<![a-z0-9])[a-z]{6}\s?\d\d[a-ehlmprst]\d\d\s?[a-z]\d{3}[a-z](?![a-z0-9])"),
    ("nric", r"(?<![a-z0-9])[stfgm]\d{7}[a-z](?![a-z0-9])"),
    ("hkid", r"(?<![a-z0-9])[a-z]{1,2}\d{6}\s?[(（]\s?[0-9a]\s?[)）]"),
    ("twid", r"(?<![a-z0-9])[a-z][12]\d{8}(?![a-z0-9])"),
    ("cpf", r"(?<![\d.])\d{3}\.\d{3}\.\d{3}-\d\d(?!\d)"),
    ("nir", r"(?<![a-z0-9])[12]\s?\d\d\s?(?:0[1-9]|1[0-2])\s?(?:\d\d|2[ab])\s?\d{3}\s?\d{3}\s?\d\d(?!\d)"),
    ("named", r"(?:passport|passeport|reisepass|pasaporte|travel document|driving licen[cs]e|driver'?s? licen[cs]e|fuhrerschein|identity card|id card|护照|驾照|通行证|台胞证|身份证件)(?: ?(?:number|no|num|nr|#|is|was|号码?|编号|为|是)\.?)*\s?[:：#]?\s?(?P<number>(?=(?:[a-z×]{0,4}[ -]?\d){4})(?:(?:[a-z]{1,3}[ -])?\d{2,9}(?: \d{2,6}){1,3}|(?:[a-z]{1,3}[ -])?[a-z0-9×]{5,16}))(?![a-z0-9×])"),
    ("mrz", r"(?<![a-z0-9<])p[a-z<][a-z<]{3}[a-z]{1,38}<<[a-z<]{2,39}|(?<![a-z0-9<])[a-z0-9<]{9}\d[a-z]{3}\d{7}[mfx<]\d{7}[a-z0-9<]{2,16}"),
    ("old", r"(?:身份证)[^\d\n]{0,12}(?P<number>\d{15})(?!\d)"),
)  # fmt: skip
_PATTERNS = tuple((name, re.compile(pattern)) for name, pattern in _LETTERED)
_CHECKED = {"dni", "codice", "nric", "hkid", "twid", "cpf", "nir"}
_PROVINCES = frozenset(
    [
        "11",
        "12",
        "13",
        "14",
        "15",
        "21",
        "22",
        "23",
        "31",
        "32",
        "33",
        "34",
        "35",
        "36",
        "37",
        "41",
        "42",
        "43",
        "44",
        "45",
        "46",
        "50",
        "51",
        "52",
        "53",
        "54",
        "61",
        "62",
        "63",
        "64",
        "65",
        "71",
        "81",
        "82",
        "83",
    ]
)
_TW = dict(zip("abcdefghjklmnpqrstuvxywzio", range(10, 36), strict=True))
_ODD = dict(zip("0123456789abcdefghijklmnopqrstuvwxyz",
    [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23], strict=True))  # fmt: skip
_D = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_P = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def identity_numbers(folded: str) -> Iterator[Personal]:
    """Those with letters in them, with a layout of their own, or with a word before them."""
    for name, pattern in _PATTERNS:
        for found in pattern.finditer(folded):
            start, end = found.span("number") if "number" in pattern.groupindex else found.span()
            bare = re.sub(r"[^a-z0-9]", "", folded[start:end])
            if name not in _CHECKED or _CHECKS[name](bare):
                yield Personal(Kind.ID, start, end)


def chinese_id(number: str) -> bool:
    """Whether 18 characters are a resident identity number (GB 11643): province, day of birth and check character."""
    if number[:2] not in _PROVINCES or not number[:17].isdigit() or not _day(number[6:14]):
        return False
    total = sum(int(char) * pow(2, 17 - at, 11) for at, char in enumerate(number[:17]))
    return "10x98765432"[total % 11] == number[17]


def is_identity_layout(text: str, digits: str, before: str) -> bool:
    """Whether 9, 11 or 12 digits are an identity number, by their layout or by the words before.

    Args:
        text: as it stands, with what is between the digits.
        digits: of it alone.
        before: up to 40 characters before it.
    """
    if _NAMED.search(before):
        return True
    if len(digits) == 9:
        apart = re.fullmatch(r"\d{3}\s?([-. ])\s?\d{2}\s?[-. ]\s?\d{4}", text)
        if apart is None:  # set apart wherever, but also between area, group and serial number
            shape = re.sub(r"\d", "0", text)
            apart = re.fullmatch(
                rf"(?:0{_SPREAD}){{2}}0\s?-\s?(?:0{_SPREAD})0\s?-\s?(?:0{_SPREAD}){{3}}0", shape
            )
        if apart is not None:
            return digits[:3] not in ("000", "666") and digits[3:5] != "00" and digits[5:] != "0000"
        return bool(re.fullmatch(r"\d{3}-\d{3}-\d{3}", text)) and _luhn9(digits)
    if len(digits) == 12:
        return bool(re.fullmatch(r"[2-9]\d{3}[ -]\d{4}[ -]\d{4}", text)) and _verhoeff(digits)
    return False


def _day(text: str) -> bool:
    try:
        born = datetime.date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return False
    return 1880 <= born.year <= 2100


def _luhn9(digits: str) -> bool:
    doubled = [int(char) * (1 + at % 2) for at, char in enumerate(digits)]
    return sum(one - 9 if one > 9 else one for one in doubled) % 10 == 0


def _verhoeff(digits: str) -> bool:
    check = 0
    for at, char in enumerate(reversed(digits)):
        check = int(_D[check][int(_P[at % 8][int(char)])])
    return check == 0


def _dni(bare: str) -> bool:
    number = {"x": "0", "y": "1", "z": "2"}.get(bare[0], bare[0]) + bare[1:-1]
    return len(number) == 8 and number.isdigit() and "trwagmyfpdxbnjzsqvhlcke"[int(number) % 23] == bare[-1]


def _codice(bare: str) -> bool:
    values = (
        _ODD[char] if at % 2 == 0 else int(char, 36) - (10 if char.isalpha() else 0)
        for at, char in enumerate(bare[:15])
    )
    return chr(ord("a") + sum(values) % 26) == bare[15]


def _nric(bare: str) -> bool:
    total = sum(int(char) * by for char, by in zip(bare[1:8], (2, 7, 6, 5, 4, 3, 2), strict=True))
    if bare[0] == "m":
        return "kljnpqrtuwx"[10 - (total + 3) % 11] == bare[8]
    letters = "jzihgfedcba" if bare[0] in "st" else "xwutrqpnmlk"
    return letters[(total + (4 if bare[0] in "tg" else 0)) % 11] == bare[8]


def _hkid(bare: str) -> bool:
    full = bare.rjust(9, " ")
    values = [36 if char == " " else int(char, 36) for char in full[:8]]
    total = sum(value * (9 - at) for at, value in enumerate(values))
    return (total + int(full[8], 11)) % 11 == 0


def _twid(bare: str) -> bool:
    letter = _TW[bare[0]]
    total = (
        letter // 10
        + letter % 10 * 9
        + sum(int(char) * by for char, by in zip(bare[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1), strict=True))
    )
    return total % 10 == 0


def _cpf(bare: str) -> bool:
    for size in (9, 10):
        total = sum(int(char) * (size + 1 - at) for at, char in enumerate(bare[:size]))
        if total * 10 % 11 % 10 != int(bare[size]):
            return False
    return len(set(bare)) > 1


def _nir(bare: str) -> bool:
    number = bare[:13].replace("2a", "19").replace("2b", "18")
    return number.isdigit() and 97 - int(number) % 97 == int(bare[13:])


_CHECKS = {
    "dni": _dni,
    "codice": _codice,
    "nric": _nric,
    "hkid": _hkid,
    "twid": _twid,
    "cpf": _cpf,
    "nir": _nir,
}
