"""Which pages may be quoted: none that gives instructions to whoever reads it, and none that asks shoppers for their secrets.

A page that somebody else could write into is data whatever it says. What was found out about a passage is remembered by a
digest of its words, so that looking costs a question nothing; only pages are remembered, never what a shopper wrote.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b

from server.knowledge_domain import Passage
from server.pipelines.product_copy.folding import folded_once

MOST_KEPT = 100_000  # passages; 10 MB
_SECRET = (
    r"(?:(?:credit |debit |bank )?card (?:number|details|data|information)|credit cards?|cvv2?|cvc2?|security code|(?:card |bank )?pin\b(?: code| number)?|"
    r"one[- ]time (?:code|password|pin)|otp\b|tan\b|recovery codes?|(?:online |e-?)banking (?:login|password|details|access)|bank (?:login|details|password)|(?:social security|passport|id(?:entity)?) number)"
)
_PASSWORD = r"(?:pass ?words?|pass ?codes?|pass ?phrases?|log-?in (?:details|data|credentials)|credentials)"
_TELL = (
    r"(?:(?:send|tell|give|provide|reply|share|write|read (?:us|out)|forward|submit|dictate|hand over|supply|let us (?:have|know))\b"
    r"|(?:e-?mail|text|message|state|quote|include|attach) (?:us|me|them|your|the|it|both)\b)"
)
_PUT_IN = r"(?:enter|type|confirm|verify|update|fill in|key in|put in|disclose)"
# Up to here a sentence says that nobody asks, or where it is asked for as everywhere: at checkout, at sign-in.
_NEVER = r"(?:never|not|n't|nobody|no one|no employee|neither|nor|without|refuse|unsafe|do not|instead of)"
_ASKS = re.compile(
    rf"(?P<before>[^.!?\n]{{0,120}})\b(?:{_TELL}[^.!?\n]{{0,70}}?\b(?:{_SECRET}|{_PASSWORD})|{_PUT_IN}\b[^.!?\n]{{0,50}}?\b{_SECRET})(?P<after>[^.!?\n]{{0,80}})"
)
_USUAL_PLACE = re.compile(
    r"\b(?:at|in|on|during) (?:the )?(?:checkout|basket|cart|payment page|payment step|sign-?in page|login page)\b"
)
_NEGATED = re.compile(
    rf"\b{_NEVER}\b|n't\b|\b(?:we|app|system|bank)(?:'ll| will| then| also| can| may)? \w{{1,8}}$"
)  # "we send a code"
_SECRET_ZH = r"(?:卡号|密码|口令|验证码|安全码|cvv|cvc|动态码|恢复码|网银|身份证号)"
_ASKS_ZH = re.compile(
    rf"(?P<before>[^。！？\n]{{0,40}})(?:(?:发送?|发给|告诉|告知|提供|回复|报上?|说出|转发|提交|附上|写明|写上|报给)[^。！？\n]{{0,24}}{_SECRET_ZH}|[把将][^。！？\n]{{0,12}}{_SECRET_ZH}[^。！？\n]{{0,12}}(?:发|告诉|告知|给|报|回复|提交)"
    r"|(?:输入|填写|填入|确认|核实|更新)[^。！？\n]{0,16}(?:卡号|验证码|安全码|cvv|cvc|支付密码|取款密码|网银|身份证号))(?P<after>[^。！？\n]{0,30})"
)
_NEGATED_ZH = re.compile(
    r"绝不|不会|不要|请勿|切勿|从不|勿|别|无需|不得|不应|不能|禁止|没有人|我们不?(?:会|将)?.$"
)
_USUAL_PLACE_ZH = re.compile(r"结账|购物车|付款页|支付页|登录页")


def asks_for_secrets(text: str) -> bool:
    """Whether a page asks for a card's number, a password or the like, to be sent or told or put in where it came from."""
    plain = folded_once(text).text
    return any(
        not negated.search(found["before"] + found.group()[: 1 + len(found["before"])])
        and not place.search(found.group())
        for asks, negated, place in (
            (_ASKS, _NEGATED, _USUAL_PLACE),
            (_ASKS_ZH, _NEGATED_ZH, _USUAL_PLACE_ZH),
        )
        for found in asks.finditer(plain)
    )


class PageTrust:
    """Whether passages may be quoted."""

    def __init__(self, instructs: Callable[[str], bool], most_kept: int = MOST_KEPT) -> None:
        """Begin with nothing known.

        Args:
            instructs: whether a stored text gives instructions.
            most_kept: passages that are remembered.
        """
        self._instructs = instructs
        self._most_kept = most_kept
        self._known: dict[bytes, bool] = {}

    def may_quote(self, passage: Passage) -> bool:
        """Whether a passage may be quoted.

        The whole of it is left out, not cut: who could write the instruction could write the sentence beside it.
        """
        shown = [text for text in (passage.text, passage.title, passage.question, *passage.headings) if text]
        key = blake2b("\x00".join(shown).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._known.get(key)
        if known is None:
            known = bool(passage.text.strip()) and not any(
                self._instructs(text) or asks_for_secrets(text) for text in shown
            )
            if len(self._known) >= self._most_kept:
                del self._known[next(iter(self._known))]
            self._known[key] = known
        return known
