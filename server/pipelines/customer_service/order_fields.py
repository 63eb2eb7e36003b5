"""What an order's fields may show: identifiers, names and statuses that have the form of one, and nothing that speaks.

A caller copies an order from a shop's system, where somebody else may have written a title or a status. So no field is trusted
to be what it is called: one that promises, gives an address, or talks to the reader is left out as if it were not there.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from server.pipelines.product_copy.folding import fold, visible
from server.support_limits import is_web_address

MOST_TITLE_CHARS = 140
MOST_STATUS_CHARS = 30
_TLD = (
    "com|net|org|io|co|cn|de|uk|eu|fr|es|it|nl|pl|ru|us|ca|au|jp|info|biz|shop|store|online|site|top|xyz|app|dev|me|tv|ly|gl|"
    "link|click|live|life|club|vip|cc|support|help|pay|bank"
)
_ADDRESS = re.compile(
    rf"https?\b|://|\bwww\b|@|[a-z0-9-]{{2,}}\s?(?:\.|[\[(]\s?dot\s?[\])]|\sdot\s)\s?(?:{_TLD})(?![a-z0-9-])|[a-z0-9-]{{2,}}\.[a-z]{{2,}}/"
)
_TELEPHONE = re.compile(r"(?:\d[\s().-]{0,2}){9,}")
# What promises something, in a field that has no business to.
_PROMISE = re.compile(
    r"\brefund\w*|\breimburs\w*|\bcompensat\w*|\bguarant\w*|\bcash ?-?back\b|\bmoney[ -]back\b|\bdiscount\w*|\bvouchers?\b|\bcoupons?\b|\brebate\w*"
    r"|\bentitle\w*|\bowed?\b|\bpromis\w+|\bfree of charge\b|\bfor free\b|\bat no (?:cost|charge)\b|\bfree (?:replacement|shipping|delivery|returns?|gift|upgrade|item|order)\b"
    r"|\b\d{1,3} ?% (?:off|less|cheaper)|\bcredit(?:ed)? (?:to|for|of|you)\b|\bwaive\w*|\bon the house\b|\bwinner\b|\bprize\b|\bapologi[sz]e\w*|\bsorry\b"
    r"|退款|退钱|退还|赔|补偿|返现|返还|保证|免费|免单|优惠券|代金券|折扣|打折|承诺|中奖|抱歉|对不起"
)
# What talks to whoever reads it.
_SPEAKS = re.compile(
    r"\b(?:you|we|i)(?:'ll|'re|'ve| will| are| have| get| can| must| should| may| need| do| did| give| offer| pay)\b|\bplease\b|\bdear\b"
    r"|\b(?:call|phone|contact|visit|click|reply|e-?mail|text|write|go|log ?in|sign in|verify|claim|confirm|open|send|pay|transfer|enter|scan|follow)"
    r"(?: (?:to|us|me|now|here|at|on|your|the link|in|with|our|this|immediately|today)\b| ?:? ?\+?\d)"
    r"|请(?!柬|帖)|您|我们|联系|致电|拨打|点击|访问|扫码|扫描|加微信|添加|转账|输入|登录|回复"
)
_SENTENCE = re.compile(r"[!?！？。;；]|[a-z]{2,}[.:] +[a-z]|，.*，")
_STATUS = re.compile(r"[^\W\d_]+(?:[ _-][^\W\d_]+){0,2}")
# Words of shops that would read as a promise, and are not.
_USUAL = frozenset(
    ["refunded", "partially refunded", "partly refunded", "refund pending", "refund requested", "refund issued", "refund processing",
     "refund completed", "refund rejected", "awaiting refund", "free", "退款中", "已退款", "部分退款", "等待退款", "退款成功", "待退款", "退款审核中"]
)  # fmt: skip
_NAME_WORD = r"[^\W\d_][^\W_]{0,19}"
_CARRIER = re.compile(
    rf"(?:\d{{1,2}})?{_NAME_WORD}(?:(?: ?[&'+-] ?|\. ?| ){_NAME_WORD}){{0,4}}\.?(?: ?\([^\W_]{{1,12}}\))?"
)
_IDENTIFIER = re.compile(r"#?[A-Za-z0-9]{1,40}(?:[-_/. ][A-Za-z0-9]{1,40}){0,6}")
_LETTERS = re.compile(r"[A-Za-z]+")
MOST_IDENTIFIER_CHARS = 40
MOST_LETTERS_TOGETHER = 5  # of a tracking number: "TRACK-...", and no word longer
MOST_ID_LETTERS_TOGETHER = 8  # of an order's number: "PURCHASE-..."


def is_plain(text: str) -> bool:
    """Whether a text neither promises, nor names an address or a telephone, nor talks to its reader."""
    plain = fold(text)
    return not any(pattern.search(plain) for pattern in (_ADDRESS, _TELEPHONE, _PROMISE, _SPEAKS, _SENTENCE))


def status_words(raw: str) -> str:
    """A status as shops' vocabularies have it: folded, with single spaces."""
    return re.sub(r"[\s_-]+", " ", fold(raw)).strip()


def shown_status(raw: str) -> str:
    """A status that may be quoted: one to three words without a promise; empty: it may not."""
    text = visible(raw)
    if len(text) > MOST_STATUS_CHARS or not _STATUS.fullmatch(text):
        return ""
    return text if status_words(text) in _USUAL or is_plain(text) else ""


def shown_title(raw: str) -> str:
    """The title of a thing; empty: it is not one."""
    text = visible(raw)
    return text if len(text) <= MOST_TITLE_CHARS and is_plain(text) else ""


def shown_carrier(raw: str) -> str:
    """The name of a carrier; empty: it is none."""
    text = visible(raw)
    return text if len(text) <= MOST_IDENTIFIER_CHARS and _CARRIER.fullmatch(text) and is_plain(text) else ""


def shown_tracking_number(raw: str) -> str:
    """A tracking number: groups of letters and digits, more digits than letters, no words; empty: it is none."""
    text = visible(raw)
    digits, letters = sum(map(str.isdigit, text)), _LETTERS.findall(text)
    if not (4 <= len(text) <= MOST_IDENTIFIER_CHARS and _IDENTIFIER.fullmatch(text)):
        return ""
    if digits < max(4, sum(map(len, letters))) or any(len(one) > MOST_LETTERS_TOGETHER for one in letters):
        return ""
    return "" if _ADDRESS.search(text.lower()) else text


def shown_order_id(raw: str) -> str:
    """An order's number: letters and digits, at least one digit, no sentence; empty: it is none."""
    text = visible(raw)
    letters = _LETTERS.findall(text)
    if not (
        len(text) <= MOST_IDENTIFIER_CHARS and _IDENTIFIER.fullmatch(text) and any(map(str.isdigit, text))
    ):
        return ""
    if any(len(one) > MOST_ID_LETTERS_TOGETHER for one in letters) or len(letters) > 4:
        return ""
    plain = fold(text)
    return "" if any(pattern.search(plain) for pattern in (_ADDRESS, _PROMISE, _SPEAKS)) else text


def shown_url(raw: str) -> str:
    """An address to follow a parcel at, without a name and password in it and without a promise; empty: it is none."""
    if not raw or not is_web_address(raw):
        return ""
    try:
        parts = urlsplit(raw)
    except ValueError:
        return ""
    said = re.sub(r"[-_+/?=&.]+", " ", unquote(raw).lower())
    return "" if "@" in parts.netloc or not parts.hostname or _PROMISE.search(said) else raw
