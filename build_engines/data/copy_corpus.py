"""Copy for the sample shop: pairs of a request and what to answer, in two languages, from a seed.

A stand-in for a shop's own archive of copy, plain enough that a small model can learn it and varied enough that it has to
look at the record. Sentences are picked, in an order that the channel asks for, as long as the channel's limits and the
request's own hold; a phrase is used only where the record shows its facts (``copy_facts.Facts``).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from build_engines.data import copy_phrases_en, copy_phrases_zh
from build_engines.data.copy_facts import Facts, facts_of, told_otherwise, told_plainly
from server.copy_domain import Channel, CopyLimits, CopyRequest, CopyText, Language, Tone, count_words

CORPUS_VERSION = 1  # raise it when the same seed gives other copy
_PHRASES: Mapping[Language, Any] = {Language.EN: copy_phrases_en, Language.ZH: copy_phrases_zh}
_PLACE = re.compile(r"\{(\w+)\}")
# Sentences after the opening, by channel: which kinds, in which order; what does not fit is left out.
_PLANS: Mapping[Channel, tuple[tuple[str, ...], ...]] = {
    Channel.PRODUCT_PAGE: (
        ("features", "measure", "warranty"), ("features", "material", "measure"), ("measure", "features", "warranty", "closer"),
        ("features", "measure", "colour", "closer"),
    ),
    Channel.AD: (("features",), ("measure",), ("price",), ("closer",), ("features", "closer"), ("warranty",)),
    Channel.EMAIL: (("features", "closer"), ("features", "price", "closer"), ("measure", "features"), ("warranty", "closer")),
    Channel.SOCIAL: (("features", "closer"), ("features",), ("measure", "closer"), ("price", "closer"), ("features", "measure")),
    Channel.MARKETPLACE: (
        ("features", "material", "colour", "measure", "warranty"), ("measure", "features", "warranty", "price"),
        ("features", "measure", "material", "warranty", "closer"),
    ),
}  # fmt: skip
_DESCRIPTION_WORDS = 10  # a headline leaves room for a short description, at least
_BULLETS = {Channel.PRODUCT_PAGE: (3, 5), Channel.EMAIL: (0, 3), Channel.MARKETPLACE: (4, 5)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyExample:
    """One thing to learn.

    Attributes:
        request: what is asked.
        text: a good answer: within the request's limits, and true of its record.
        item_id: of the product it was made from, also where it was renamed.
    """

    request: CopyRequest
    text: CopyText
    item_id: str


def make_examples(
    rows: Sequence[Mapping[str, Any]], *, seed: int, rounds: int, renamed_share: float
) -> Iterator[CopyExample]:
    """``rounds`` examples of each product in each language, in a random order.

    Args:
        rows: of the sample shop's catalogue.
        seed: the only source of chance.
        rounds: examples a product and language (>= 1).
        renamed_share: of them, how many are told with other names, numbers and gaps.
    """
    chance = random.Random(f"{seed}/{CORPUS_VERSION}")
    for _ in range(rounds):
        order = [(row, language) for row in rows for language in Language]
        chance.shuffle(order)
        for row, language in order:
            if chance.random() < renamed_share:
                record, facts = told_otherwise(facts_of(row, language), chance)
            else:
                record, facts = told_plainly(row, language)
            asked = CopyRequest(
                product=record,
                channel=chance.choice(tuple(Channel)),
                language=language,
                tone=chance.choice(tuple(Tone)),
                audience=chance.choice(_PHRASES[language].AUDIENCES) if chance.random() < 0.12 else "",
                max_words=chance.randint(15, 120) if chance.random() < 0.15 else None,
            )
            text = write_copy(asked, facts, chance)
            yield CopyExample(
                request=_with_keywords(asked, facts, text, chance), text=text, item_id=facts.item_id
            )


def write_copy(request: CopyRequest, facts: Facts, chance: random.Random) -> CopyText:
    """Copy for a request from the facts that its record shows.

    Raises:
        ValueError: not even the product's kind fits the limits.
    """
    phrases, limits, channel = _PHRASES[request.language], request.limits, request.channel
    values = _values(facts, request.audience, chance, phrases)
    room = request.max_words or 10_000
    kinds = {Channel.AD: phrases.SHORT_HEADLINES, Channel.MARKETPLACE: phrases.LONG_HEADLINES}
    headline = _headline(
        kinds.get(channel, phrases.HEADLINES), values, limits, room - _DESCRIPTION_WORDS, chance
    )
    room -= count_words(headline)
    description = _description(request, phrases, values, room, chance)
    room -= count_words(description)
    bullets = _bullets(request, facts, phrases, values, room, chance)
    return CopyText(headline=headline, description=description, bullets=bullets)


def _values(facts: Facts, audience: str, chance: random.Random, phrases: ModuleType) -> dict[str, str]:
    features = list(facts.features)
    chance.shuffle(features)
    values = {
        "name": facts.name, "brand": facts.brand, "line": facts.line, "kind": facts.kind,
        "kind_lower": facts.kind.lower() if facts.language is Language.EN else facts.kind,
        "colour": facts.colour, "material": facts.material, "label": facts.label if facts.size else "",
        "label_lower": facts.label.lower() if facts.size else "", "size": facts.size,
        "feature": features[0] if features else "", "feature2": features[1] if len(features) > 1 else "",
        "warranty": facts.warranty, "price": facts.price, "audience": audience,
    }  # fmt: skip
    values["Feature"] = phrases.as_bullet(values["feature"])
    return {name: value for name, value in values.items() if value}


def _headline(
    choices: Sequence[str], values: Mapping[str, str], limits: CopyLimits, room: int, chance: random.Random
) -> str:
    filled = [_filled(choice, values) for choice in choices]
    fits = [
        text
        for text in filled
        if text
        and len(text) <= limits.headline_chars
        and count_words(text) <= min(limits.headline_words, room)
    ]
    if not fits:
        fits = [values["kind"]]
        if len(fits[0]) > limits.headline_chars:
            raise ValueError(f"headline: {fits[0]!r} is longer than {limits.headline_chars} characters")
    best = max(text.count(" ") for text in fits)
    rich = [text for text in fits if text.count(" ") >= best - 3]
    return chance.choice(rich)


def _description(
    request: CopyRequest, phrases: Any, values: Mapping[str, str], room: int, chance: random.Random
) -> str:
    banks = {
        "features": phrases.FEATURES, "measure": phrases.MEASURES, "material": phrases.MATERIALS, "colour": phrases.COLOURS,
        "warranty": phrases.WARRANTIES, "price": phrases.PRICES, "closer": phrases.CLOSERS[request.tone],
    }  # fmt: skip
    openers = phrases.OPENERS[request.tone]
    plan = [openers, *(banks[name] for name in chance.choice(_PLANS[request.channel]))]
    if request.audience:
        plan.insert(chance.choice((0, len(plan))), phrases.AUDIENCE)
    limits = request.limits
    words = min(limits.description_words, room)
    joint = "" if request.language is Language.ZH else " "
    text = ""
    for bank in plan:
        if text and any(
            bank is banks[name] and values.get(name, "") in text for name in ("colour", "material")
        ):
            continue  # the opening has said it
        fits = [
            whole
            for sentence in (_filled(choice, values) for choice in bank)
            if sentence and sentence not in text
            for whole in [f"{text}{joint if text else ''}{sentence}"]
            if len(whole) <= limits.description_chars and count_words(whole) <= words
        ]
        if fits:
            text = chance.choice(fits[: 4 if bank is openers else len(fits)])
    if text:
        return text
    shortest = _filled(phrases.CLOSERS[request.tone][0], values)
    assert shortest is not None, "a closer names no fact"
    return shortest


def _bullets(
    request: CopyRequest,
    facts: Facts,
    phrases: Any,
    values: Mapping[str, str],
    room: int,
    chance: random.Random,
) -> tuple[str, ...]:
    if request.channel not in _BULLETS or request.limits.bullets == 0:
        return ()
    limits, colon = request.limits, "：" if request.language is Language.ZH else ": "
    lines: list[str] = []
    for name in ("features", "material", "size", "colour", "warranty"):
        if name == "features":
            for feature in facts.features:
                own = {**values, "feature": feature, "Feature": phrases.as_bullet(feature)}
                lines += _chosen(phrases.BULLETS[name], own, chance)
        else:
            lines += _chosen(phrases.BULLETS[name], values, chance)
    lines += [f"{name.replace('_', ' ').capitalize()}{colon}{value}" for name, value in facts.extras]
    wanted = chance.randint(*_BULLETS[request.channel])
    if len(lines) > wanted:
        keep = sorted(chance.sample(range(len(lines)), wanted))
        lines = [lines[at] for at in keep]
    bullets: list[str] = []
    for line in lines:
        room -= count_words(line)
        if room < 0:
            break
        if len(line) <= limits.bullet_chars and count_words(line) <= limits.bullet_words:
            bullets.append(line)
    return tuple(bullets[: limits.bullets])


def _chosen(choices: Sequence[str], values: Mapping[str, str], chance: random.Random) -> list[str]:
    filled = [text for text in (_filled(choice, values) for choice in choices) if text]
    return [chance.choice(filled)] if filled else []


def _filled(phrase: str, values: Mapping[str, str]) -> str | None:
    if any(name not in values for name in _PLACE.findall(phrase)):
        return None
    return _PLACE.sub(lambda match: values[match[1]], phrase)


def _with_keywords(asked: CopyRequest, facts: Facts, text: CopyText, chance: random.Random) -> CopyRequest:
    if chance.random() >= 0.15:
        return asked
    said = " ".join(part for _, part in text.parts())
    found = [word for word in (facts.material, facts.colour, facts.size, facts.kind) if word and word in said]
    return replace(asked, keywords=tuple(found[: chance.randint(1, 2)])) if found else asked
