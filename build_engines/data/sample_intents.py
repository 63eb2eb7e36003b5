"""Training examples of the sample shop's intents: templates by chance, then what shoppers do to a sentence (greetings, typos, slang).

The templates are data (``sample_intents/en.txt``, ``zh.txt``). Examples of one template share a ``group``, so that a split
judges by templates that were not learnt from: figures over the same templates would say nothing about shoppers.
Nothing here is taken from ``sample_questions.jsonl``. Deterministic in the seed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from build_engines.data.errors import DataError

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
TEMPLATES = Path(__file__).parent / "sample_intents"
OUTSIDE_FACTOR = 5  # texts about nothing come in more kinds than texts about one thing
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_SPACES = re.compile(r"\s+")
_ATTEMPTS = 30  # of drawing a text that is not there yet
_OUTSIDE = "out_of_scope"

_EN_BEFORE = ("hi, ", "hello, ", "hey ", "hi there, ", "good morning, ", "excuse me, ", "quick question: ", "ok so ", "um, ",
              "sorry, ", "dear team, ")  # fmt: skip
_EN_AFTER = (
    " thanks",
    " thank you",
    " thx",
    " please",
    " pls",
    "??",
    "!",
    " asap",
    " cheers",
    "...",
    " :(",
    " thanks in advance",
)
_EN_SLANG = (("please", "pls"), ("you", "u"), ("your", "ur"), ("are", "r"), ("because", "bc"), ("something", "sth"), ("don't", "dont"),
             ("can't", "cant"), ("I'm", "im"), ("doesn't", "doesnt"), ("want to", "wanna"), ("going to", "gonna"),
             ("what is", "whats"), ("isn't", "isnt"), ("tomorrow", "tmrw"), ("with", "w/"), ("for", "4"), ("to", "2"))  # fmt: skip
_ZH_BEFORE = (
    "你好，",
    "您好，",
    "亲，",
    "请问",
    "在吗？",
    "麻烦问下，",
    "想问一下，",
    "那个，",
    "老板，",
    "客服你好，",
    "咨询一下，",
)
_ZH_AFTER = ("，谢谢", "呢", "啊", "？", "？？", "呀", "，急", "～", "，麻烦了", "哈", "！", "哦")
_ZH_TYPOS = (("账", "帐"), ("在", "再"), ("的", "得"), ("吗", "嘛"), ("怎么", "咋"), ("什么", "啥"), ("没有", "木有"), ("多少", "几多"),
             ("快递", "kd"), ("密码", "密马"), ("取消", "取销"), ("需要", "须要"), ("包裹", "包果"), ("你们", "尼们"),
             ("可以", "可已"), ("知道", "造"), ("这样", "酱"), ("做", "作"), ("收到", "收倒"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleExample:
    """A generated text.

    Attributes:
        text: as a shopper might write it.
        intent: label, or "out_of_scope".
        group: the template it comes from.
        language: of it.
    """

    text: str
    intent: str
    group: str
    language: Language


def sample_intents() -> tuple[str, ...]:
    """Labels of the sample shop, sorted, without "out_of_scope"."""
    return tuple(sorted(set(_templates("en")[0]) - {_OUTSIDE}))


def sample_examples(
    *, per_intent: int, seed: int, languages: Sequence[Language] = LANGUAGES
) -> list[SampleExample]:
    """Generate examples; every text is there once.

    Args:
        per_intent: of each intent and language (>= 1); about nothing, five times as many.
        seed: of all choices.
        languages: to write in.
    """
    examples: list[SampleExample] = []
    seen: set[str] = set()
    for language in languages:
        templates, slots = _templates(language)
        spoil = _spoil_en if language == "en" else _spoil_zh
        for intent in sorted(templates):
            draw = random.Random(f"{seed}/{language}/{intent}")
            wanted = per_intent * (OUTSIDE_FACTOR if intent == _OUTSIDE else 1)
            for number in range(wanted):
                place = number % len(templates[intent])
                text = _new_text(templates[intent][place], slots, draw, spoil, seen)
                if text is not None:
                    group = f"{language}/{intent}/{place}"
                    examples.append(SampleExample(text=text, intent=intent, group=group, language=language))
    return examples


def _new_text(
    template: str,
    slots: Mapping[str, Sequence[str]],
    draw: random.Random,
    spoil: Callable[[str, random.Random], str],
    seen: set[str],
) -> str | None:
    for _ in range(_ATTEMPTS):
        text = spoil(expanded(template, slots, draw), draw)
        if text and text not in seen:
            seen.add(text)
            return text
    return None


def expanded(template: str, slots: Mapping[str, Sequence[str]], draw: random.Random) -> str:
    """One of the texts of a template: alternatives from inside out, then slots, which may hold slots."""
    text = template
    while True:
        text, choices = _CHOICE.subn(lambda found: draw.choice(found.group(1).split("|")), text)
        text, filled = _SLOT.subn(lambda found: draw.choice(slots[found.group(1)]), text)
        if not choices and not filled:
            return _SPACES.sub(" ", text).replace(" ,", ",").replace(" ?", "?").strip(" ,，")


@cache
def _templates(language: Language) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    path = TEMPLATES / f"{language}.txt"
    templates: dict[str, list[str]] = {}
    slots: dict[str, list[str]] = {}
    intent = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("@"):
            name, _, values = line[1:].partition("=")
            slots[name.strip()] = [value.strip() for value in values.split("|")]
        elif line.startswith("== "):
            intent = line[3:].strip()
            templates[intent] = []
        elif not intent or _unknown(line, slots):
            raise DataError(
                path, f"{line[:40]!r} has no intent or an unknown slot", hint="correct the line", line=number
            )
        else:
            templates[intent].append(line)
    return templates, slots


def _unknown(line: str, slots: Mapping[str, Sequence[str]]) -> bool:
    return any(name not in slots for name in _SLOT.findall(line)) or line.count("[") != line.count("]")


def _spoil_en(text: str, draw: random.Random) -> str:
    if draw.random() < 0.25:
        text = draw.choice(_EN_BEFORE) + text
    if draw.random() < 0.3:
        text = text.rstrip("?") + draw.choice(_EN_AFTER)
    elif "?" not in text and draw.random() < 0.35:
        text += "?"
    if draw.random() < 0.2:
        for word, short in draw.sample(_EN_SLANG, 6):
            text = re.sub(rf"\b{re.escape(word)}\b", short, text)
    if draw.random() < 0.2:
        text = _typo(text, draw)
    if draw.random() < 0.6:
        text = text.lower()
    elif draw.random() < 0.7:
        text = text[:1].upper() + text[1:]
    elif draw.random() < 0.15:
        text = text.upper()
    return text


def _typo(text: str, draw: random.Random) -> str:
    places = [at for at in range(1, len(text) - 1) if text[at].isalpha() and text[at + 1].isalpha()]
    if not places:
        return text
    at = draw.choice(places)
    kind = draw.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :] if kind == 1 else text[:at] + text[at] + text[at:]


def _spoil_zh(text: str, draw: random.Random) -> str:
    if draw.random() < 0.3:
        text = draw.choice(_ZH_BEFORE) + text
    if draw.random() < 0.35:
        text += draw.choice(_ZH_AFTER)
    if draw.random() < 0.2:
        for right, wrong in draw.sample(_ZH_TYPOS, 4):
            text = text.replace(right, wrong)
    return text
