"""Which language a message is in, by script and by the small words that each language cannot do without.

Two languages are answered in; the others are told apart so that they are never taken for one of these two. One pass over
the first ``MOST_CHARS`` characters: what a text is in shows at its beginning, and time stays bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from server.copy_domain import Language
from server.support_domain import Role, Turn

MOST_CHARS = 4_000
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile(r"[\u3040-\u30fa\u30fc-\u30ff\uff66-\uff9d]")
_RIGHT_TO_LEFT = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
# Scripts that neither language is written in: Greek, Cyrillic, Armenian, Hebrew to Arabic, Indic to Georgian, Hangul.
_OTHER_SCRIPT = re.compile(
    r"[\u0370-\u03ff\u0400-\u052f\u0531-\u058f\u0590-\u08ff\u0900-\u10ff\u1100-\u11ff\u1200-\u139f\u1780-\u17ff\uac00-\ud7af\ufb1d-\ufdff\ufe70-\ufefe]"
)
_LATIN_WORD = re.compile(r"[a-zA-Z\u00c0-\u024f\u1e00-\u1eff]+(?:['’][a-zA-Z]+)?")
_NOT_PROSE = re.compile(r"https?://\S{1,300}|\S{1,64}@\S{1,200}")
_WIDE = re.compile(r"[\uff21-\uff3a\uff41-\uff5a]")
_CHINESE_SMALL = re.compile(
    r"什么|怎么|多少|可以|没有|为什么|哪里|请问|如何|[的了吗呢吧啊是我你您在有不这那能会要请给们几和还就]"
)
_ENGLISH_SMALL_WORDS = """
the a an is are was were do does did i my you your it its we our to of in on at for with from by can could
will would shall should how what when where why who which please have has had not no yes this that these those
there any if or and but me hi hello hey thanks thank i'm i've don't doesn't can't isn't it's i'd order ordered
return refund delivery shipping ship money back want need help get send track cancel buy pay price size
"""
_ENGLISH_SMALL = frozenset(_ENGLISH_SMALL_WORDS.split())
_FOREIGN_SMALL_WORDS = """
der die das und ist nicht ich mein meine wie wo wann bitte kann ein eine für von mit auf es sie wir habe haben
zu den dem noch kein le la les des une est je mon ma mes où quand pour avec dans pas vous nous comment et du
que qui sur bonjour merci puis-je cette el los las una es mi mis dónde cuándo cómo para con por no puedo
quiero gracias hola pedido está qué su del y se il lo gli una sono mio mia dove quando come per con non posso
grazie ciao di che ordine è della o os as um uma meu minha onde quando como para com não por favor obrigado
olá do da em de het een is mijn waar wanneer hoe voor met niet ik kan bedankt bestelling van op gdzie jest
moje moja zamówienie kiedy jak nie proszę dziękuję i w na się czy
"""
_FOREIGN_SMALL = frozenset(_FOREIGN_SMALL_WORDS.split())


class Tongue(StrEnum):
    """What a text is in."""

    EN = "en"
    ZH = "zh"
    OTHER = "other"
    NONE = "none"  # no letters: numbers, emoji, control characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """What a text is in.

    Attributes:
        tongue: the language that carries the sentence.
        mixed: words of the other language stand in it too.
        right_to_left: most of its letters are Hebrew, Arabic or of their kin.
    """

    tongue: Tongue
    mixed: bool = False
    right_to_left: bool = False


def identify(text: str) -> Identified:
    """Tell a text's language. Time is bounded by ``MOST_CHARS``, whatever the text's length."""
    text = text[:MOST_CHARS]
    if _WIDE.search(text):
        text = _WIDE.sub(lambda wide: chr(ord(wide.group()) - 0xFEE0), text)
    text = _NOT_PROSE.sub(" ", text)
    han, kana, other = (len(script.findall(text)) for script in (_HAN, _KANA, _OTHER_SCRIPT))
    words = [word.lower().replace("’", "'") for word in _LATIN_WORD.findall(text)]
    if other and other >= max(han + kana, sum(map(len, words))):
        reversed_ = len(_RIGHT_TO_LEFT.findall(text)) * 2 > other
        return Identified(tongue=Tongue.OTHER, mixed=bool(han or words), right_to_left=reversed_)
    if kana and kana * 4 >= han:
        return Identified(tongue=Tongue.OTHER, mixed=bool(words))
    if not han and not words:
        return Identified(tongue=Tongue.OTHER if other else Tongue.NONE)
    english = sum(word in _ENGLISH_SMALL for word in words)
    chinese = len(_CHINESE_SMALL.findall(text))
    if han and (chinese, han) >= (english, len(words)):
        return Identified(tongue=Tongue.ZH, mixed=bool(words))
    if han and not english and not chinese:
        return Identified(tongue=Tongue.ZH if han >= len(words) else Tongue.EN, mixed=True)
    foreign = sum(word in _FOREIGN_SMALL for word in words)
    accented = sum(not word.isascii() for word in words)
    if foreign + accented > english and foreign + accented >= 2:
        return Identified(tongue=Tongue.OTHER, mixed=bool(han))
    return Identified(tongue=Tongue.EN, mixed=bool(han))


def language_of_locale(locale: str) -> Language | None:
    """The language that a BCP 47 tag asks for; None: none of ours, or no tag."""
    first = locale.replace("_", "-").split("-")[0].lower()
    return {"en": Language.EN, "zh": Language.ZH, "cmn": Language.ZH, "yue": Language.ZH}.get(first)


def answer_language(text: str, turns: Sequence[Turn] = (), locale: str = "") -> Language:
    """The language to answer in: the locale's, else the text's, else that of the newest turn that has one, else English.

    Args:
        text: the message.
        turns: before it, oldest first.
        locale: BCP 47 tag; empty or of another language: the text decides.
    """
    asked = language_of_locale(locale)
    if asked is not None:
        return asked
    mine = [turn.content for turn in reversed(turns[-20:]) if turn.role is Role.USER]
    others = [turn.content for turn in reversed(turns[-20:]) if turn.role is not Role.USER]
    for said in (text, *mine, *others):
        tongue = identify(said).tongue
        if tongue in (Tongue.EN, Tongue.ZH):
            return Language(tongue.value)
        if tongue is Tongue.OTHER:
            return Language.EN
    return Language.EN
