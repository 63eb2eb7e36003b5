"""Copy without a model: the floor under every answer, for each channel and tone, in both languages.

Sentences are put together from facts until the channel's limits are reached; each was held against the record and the shop's
rules by itself, and the whole is held once more. A record of which nothing may be said gets words that claim nothing, so there
is always an answer, and it always passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from server.copy_domain import Channel, CopyRequest, CopyText, Language, count_words
from server.pipelines.product_copy import template_phrases as phrases
from server.pipelines.product_copy.checker import RecordChecker, ShopRules
from server.pipelines.product_copy.folding import HAS_CJK, fold, visible
from server.pipelines.product_copy.naming import same_head, short_name
from server.pipelines.product_copy.sentences import capital
from server.pipelines.product_copy.style_rules import last_words
from server.pipelines.product_copy.template_facts import VERB_FIRST, TemplateFacts, filled, read_facts, tidy
from server.pipelines.product_copy.trim import fits

TEMPLATES_VERSION = 2  # raise it with whatever they say otherwise
_HEADLINE_SHARE, _MIN_HEADLINE_WORDS = 0.4, 4  # of ``max_words``, as the pipeline has it
_LAST_WORDS = 6
# After the opening, which sentences come in which order; what does not fit is left out.
_PLANS = {
    Channel.PRODUCT_PAGE: (
        "audience",
        "told",
        "features",
        "material",
        "colour",
        "facts",
        "details",
        "brand",
        "closer",
    ),
    Channel.AD: ("details", "colour", "features", "price", "closer"),
    Channel.EMAIL: ("audience", "told", "features", "facts", "details", "price", "closer"),
    Channel.SOCIAL: ("features", "told", "details", "colour", "brand", "closer"),
    Channel.MARKETPLACE: ("told", "features", "material", "colour", "facts", "details", "brand", "price"),
}
_MOST_TOLD = {
    Channel.PRODUCT_PAGE: 3,
    Channel.AD: 1,
    Channel.EMAIL: 2,
    Channel.SOCIAL: 1,
    Channel.MARKETPLACE: 5,
}


class ShopTemplates:
    """The floor (``ports.CopyTemplates``).

    Attributes:
        version: changes with the templates.
    """

    def __init__(self, rules: ShopRules) -> None:
        self._rules = rules
        self.version = str(TEMPLATES_VERSION)

    def write(self, request: CopyRequest, variant: int) -> CopyText:
        """One piece of copy within the request's limits; other variants read otherwise where the record allows it.

        Args:
            request: what is asked.
            variant: from 0.
        """
        check = self._rules.open(request)
        return _Writer(
            request, check, facts_for(request, check), variant, last_words(request, self._rules.style)
        ).write()


def facts_for(request: CopyRequest, check: RecordChecker) -> TemplateFacts:
    """Facts of a record, read once for all variants."""
    known = check.kept.get("template")
    if not isinstance(known, TemplateFacts):
        known = check.kept["template"] = read_facts(request, check)
    return known


class _Writer:
    def __init__(
        self,
        request: CopyRequest,
        check: RecordChecker,
        facts: TemplateFacts,
        variant: int,
        last: tuple[str, str],
    ) -> None:
        self._request = request
        self._check = check
        self._facts = facts
        self._variant = variant
        self._last = last
        self._opened = ""  # the phrase that the description begins with
        self._english = request.language is Language.EN
        self._left = request.max_words if request.max_words is not None else 10**6

    def write(self) -> CopyText:
        headline = self._headline()
        self._left -= count_words(headline)
        description = self._description()
        self._left -= count_words(description)
        return CopyText(headline=headline, description=description, bullets=tuple(self._bullets(description)))

    def _headline(self) -> str:
        limits = self._request.limits
        words = limits.headline_words
        if self._request.max_words is not None:
            share = max(_MIN_HEADLINE_WORDS, int(self._left * _HEADLINE_SHARE))
            words = min(words, share, max(1, self._left - _LAST_WORDS))
        chars = limits.headline_chars
        for shown in self._headlines():
            shown = visible(shown)
            if not fits(shown, chars, words):
                shown = visible(self._shorter(shown, chars, words))
            if not shown or len(tidy(shown)) < 2:
                continue
            if not self._check.good("headline", shown):
                left = visible(self._check.without("headline", shown, self._check.claims("headline", shown)))
                shown = left if left and same_head(left, shown) else ""
            if shown and fits(shown, chars, words) and self._check.good("headline", shown):
                return shown
        return self._last[0]

    def _shorter(self, name: str, chars: int, words: int) -> str:
        """A name within limits that still names the thing; a whole title first keeps as much as it may of its parts."""
        facts, check = self._facts, self._check
        if name == facts.brand != facts.name:
            return ""
        if name == facts.title != facts.name:
            shown = check.shortened("headline", name, chars=chars, words=words)
            if shown:
                return shown
        return short_name(
            name,
            facts.brand,
            facts.kind,
            chars=chars,
            words=words,
            good=lambda shown: check.good("headline", shown),
        )

    def _headlines(self) -> Iterator[str]:
        facts = self._facts
        name = facts.name
        extra = [fact.value for fact in facts.facts if fact.kind == "colour"] + list(facts.parts)
        joint = ", " if self._english else "，"
        forms = []
        if self._request.channel is Channel.MARKETPLACE and facts.title:
            forms += [facts.title] + [joint.join([name, *extra[:2]])] * bool(name and extra)
        elif name:
            forms += [joint.join([name, one]) for one in extra[:1] if fold(one) not in fold(name)] + [name]
            if facts.brand and not facts.named:
                forms.insert(
                    0,
                    f"{name} by {facts.brand}"
                    if self._english
                    else filled("{brand}{name}", Language.ZH, brand=facts.brand, name=name),
                )
            forms = [form for form in forms if self._fits_headline(form)] or [name]
        if forms:
            turn = self._variant % len(forms)
            yield from forms[turn:] + forms[:turn]
        yield from (text for text in (name or facts.title, facts.brand) if text)

    def _fits_headline(self, form: str) -> bool:
        limits = self._request.limits
        return fits(form, limits.headline_chars, limits.headline_words)

    def _description(self) -> str:
        limits = self._request.limits
        words = min(limits.description_words, max(0, self._left))
        chars = limits.description_chars
        text = ""
        for sentence in self._opening(chars, words):
            text = sentence
            break
        for choices in self._sentences():
            for sentence in choices:
                joined = self._joined(text, sentence)
                if fits(joined, chars, words) and self._check.good("description", joined):
                    text = joined
                    break
        text = visible(text)
        if text and fits(text, chars, words) and self._check.good("description", text):
            return text
        return self._last[1]

    def _joined(self, text: str, sentence: str) -> str:
        if not text:
            return sentence
        return (
            f"{text} {sentence}"
            if self._english or (sentence[0].isascii() and text[-1].isascii())
            else text + sentence
        )

    def _opening(self, chars: int, words: int) -> Iterator[str]:
        facts, request = self._facts, self._request
        openers = phrases.OPENERS[request.language, request.tone]
        turned = openers[self._variant % len(openers) :] + openers[: self._variant % len(openers)]
        greetings = phrases.GREETINGS.get((request.language, request.channel), ())
        room = chars if request.channel is not Channel.AD else chars * 3 // 4
        names = [facts.name] if facts.name else []
        if len(facts.name) > room // 2:
            short = self._shorter(facts.name, max(12, room // 2), max(3, words // 2))
            names = [facts.name, short] if short and len(facts.name) < room else [short] if short else names
        for name in names:
            for phrase in turned:
                sentence = self._filled(phrase, name)
                self._opened = phrase
                if not sentence:
                    continue
                greeting = greetings[self._variant % len(greetings)] if greetings else ""
                for shown in (self._joined(greeting, sentence), sentence):
                    if fits(shown, room, words) and self._check.good("description", shown):
                        yield shown
        for phrase in phrases.MADE_BY[request.language] if facts.brand else ():
            shown = self._filled(phrase, facts.name)
            self._opened = phrase
            if shown and fits(shown, chars, words) and self._check.good("description", shown):
                yield shown

    def _filled(self, phrase: str, name: str) -> str:
        brand = self._facts.brand
        rest = name[len(brand) :].strip(" -,:") if brand and fold(name).startswith(fold(brand)) else name
        if "{rest}" in phrase and (not brand or count_words(rest) < 2):
            return ""
        return filled(
            phrase,
            self._request.language,
            name=name,
            the_name=self._with_article(name),
            brand=brand,
            rest=self._with_article(rest) if self._english else rest,
            audience=self._facts.audience,
        )

    def _with_article(self, name: str) -> str:
        first = name.split(" ", 1)[0].lower()
        plain = first in ("the", "a", "an", "my", "your", "our", "this", "these") or name[:1] in "\"'“‘"
        return name if plain or HAS_CJK.search(name) else f"the {name}"

    def _sentences(self) -> Iterator[tuple[str, ...]]:
        """What may come next, each in forms from long to short, of which one is taken."""
        request, facts = self._request, self._facts
        for kind in _PLANS[request.channel]:
            if kind == "audience" and facts.audience:
                yield (self._one(phrases.AUDIENCE, audience=facts.audience),)
            elif kind == "told":
                most = _MOST_TOLD[request.channel]
                start = self._variant % max(1, len(facts.told) - most + 1)
                yield from ((sentence,) for sentence in facts.told[start : start + most])
            elif kind == "features":
                yield from ((sentence,) for sentence in self._features())
            elif kind in ("material", "colour"):
                said = phrases.MATERIAL if kind == "material" else phrases.COLOUR
                yield from ((self._one(said, value=fact.value),) for fact in facts.facts if fact.kind == kind)
            elif kind == "facts":
                for fact in [fact for fact in facts.facts if not fact.kind][:3]:
                    yield (self._one(phrases.FACT, label=fact.label, value=fact.value),)
            elif kind == "details" and facts.parts:
                joint = ", " if self._english else "，"
                yield tuple(
                    self._one(phrases.DETAILS, value=joint.join(facts.parts[:most])) for most in (4, 2, 1)
                )
            elif kind == "brand" and facts.brand and not facts.named and "{brand}" not in self._opened:
                yield (self._one(phrases.MADE_BY, brand=facts.brand),)
            elif kind == "price" and facts.price:
                yield (self._one(phrases.PRICE, value=facts.price),)
            elif kind == "closer":
                closers = phrases.CLOSERS[request.language, request.tone]
                yield (closers[self._variant % len(closers)],)

    def _features(self) -> Iterator[str]:
        features = [fact.value for fact in self._facts.facts if fact.kind == "feature"]
        if not self._english:
            if features:
                yield "，".join(features[:3]) + "。"
            return
        verbs = [value for value in features if _begins_with_verb(value)]
        others = [value for value in features if not _begins_with_verb(value)]
        if verbs:
            yield "It " + " and ".join(verbs[:2]) + "."
        if others:
            yield capital(", ".join(others[:3])) + "."

    def _one(self, choices: Mapping[Language, tuple[str, ...]], **values: str) -> str:
        some = choices[self._request.language]
        return filled(some[self._variant % len(some)], self._request.language, **values)

    def _bullets(self, description: str) -> Iterator[str]:
        limits = self._request.limits
        count = 0
        said: set[str] = {description}
        for bullet in self._bullet_texts(description):
            if count >= limits.bullets:
                return
            bullet = visible(bullet)
            if bullet in said or not fits(
                bullet, limits.bullet_chars, min(limits.bullet_words, max(0, self._left))
            ):
                continue
            if self._check.good(f"bullets[{count}]", bullet):
                said.add(bullet)
                self._left -= count_words(bullet)
                count += 1
                yield bullet

    def _bullet_texts(self, description: str) -> Iterator[str]:
        facts = self._facts
        joint = ": " if self._english else "："
        lines: list[str] = []
        for fact in facts.facts:
            if fact.kind == "feature":
                lines.append(_as_bullet(fact.value) if self._english else fact.value)
            elif fact.label:
                line = f"{fact.label}{joint}{fact.value}"
                lines.append(line)
        turn = self._variant % len(lines) if lines else 0
        yield from lines[turn:] + lines[:turn]
        yield from (capital(part) if self._english else part for part in facts.parts)
        if facts.brand:
            yield f"{phrases.BRAND_LABEL[self._request.language]}{joint}{facts.brand}"
        if facts.price:
            yield f"{phrases.PRICE_LABEL[self._request.language]}{joint}{facts.price}"
        yield from (sentence.rstrip(".。!！") for sentence in facts.told if sentence not in description)


def _begins_with_verb(value: str) -> bool:
    return VERB_FIRST.match(value) is not None


def _as_bullet(feature: str) -> str:
    for verb in ("is ", "has "):
        feature = feature.removeprefix(verb)
    return capital(feature)
