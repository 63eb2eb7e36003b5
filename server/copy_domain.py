"""Product copy as data: what is asked, how long each channel lets it be, what comes back, and what each claim stands on.

Knows no wire, no model and no rule. Lengths are counted the same everywhere: ``chars`` are Unicode characters,
``words`` are runs of letters and digits, where each Chinese character counts as one word.

Units: seconds on the monotonic clock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]


class Channel(StrEnum):
    """Where the copy will stand."""

    PRODUCT_PAGE = "product_page"
    AD = "ad"
    EMAIL = "email"
    SOCIAL = "social"
    MARKETPLACE = "marketplace"


class Language(StrEnum):
    """What it is written in."""

    EN = "en"
    ZH = "zh"


class Tone(StrEnum):
    """How it speaks."""

    NEUTRAL = "neutral"
    FRIENDLY = "friendly"
    PROFESSIONAL = "professional"
    PLAYFUL = "playful"


class CopySource(StrEnum):
    """Who wrote what was released."""

    MODEL = "model"
    FALLBACK = "fallback"


class Effort(StrEnum):
    """What it took to release a variant: nothing, writing a part again, cutting a part, or the template."""

    FIRST_TRY = "first_try"
    REGENERATED = "regenerated"
    EDITED = "edited"
    TEMPLATE = "template"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRecord:
    """What the shop says about a product; the only source of facts.

    Attributes:
        title: as the shop writes it, noise included; not empty.
        brand, category, description: may be empty.
        attributes: further facts by name.
        price: amount, or None; ``currency`` is its ISO 4217 code, or empty.
    """

    title: str
    brand: str = ""
    category: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    price: float | None = None
    currency: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLimits:
    """How long the parts may be; all of it holds for whatever is released.

    Attributes:
        headline_chars, headline_words: of the headline.
        description_chars, description_words: of the description.
        bullets: how many at most; 0: none.
        bullet_chars, bullet_words: of each bullet.
    """

    headline_chars: int
    headline_words: int
    description_chars: int
    description_words: int
    bullets: int
    bullet_chars: int
    bullet_words: int


def _limits(
    headline: tuple[int, int], description: tuple[int, int], bullets: tuple[int, int, int]
) -> CopyLimits:
    return CopyLimits(
        headline_chars=headline[0],
        headline_words=headline[1],
        description_chars=description[0],
        description_words=description[1],
        bullets=bullets[0],
        bullet_chars=bullets[1],
        bullet_words=bullets[2],
    )


# Characters and words of headline and description; count, characters and words of bullets. The numbers follow what the
# channels themselves cut off: search ads at 30 and 90, a subject line at about 60, marketplaces at 200 and 2,000.
CHANNEL_LIMITS: Mapping[tuple[Channel, Language], CopyLimits] = {
    (Channel.PRODUCT_PAGE, Language.EN): _limits((80, 14), (600, 100), (5, 120, 20)),
    (Channel.AD, Language.EN): _limits((30, 6), (90, 16), (0, 0, 0)),
    (Channel.EMAIL, Language.EN): _limits((60, 10), (400, 70), (3, 90, 15)),
    (Channel.SOCIAL, Language.EN): _limits((60, 10), (240, 40), (0, 0, 0)),
    (Channel.MARKETPLACE, Language.EN): _limits((150, 25), (1000, 160), (5, 200, 32)),
    (Channel.PRODUCT_PAGE, Language.ZH): _limits((40, 40), (300, 300), (5, 60, 60)),
    (Channel.AD, Language.ZH): _limits((15, 15), (40, 40), (0, 0, 0)),
    (Channel.EMAIL, Language.ZH): _limits((30, 30), (200, 200), (3, 45, 45)),
    (Channel.SOCIAL, Language.ZH): _limits((30, 30), (140, 140), (0, 0, 0)),
    (Channel.MARKETPLACE, Language.ZH): _limits((60, 60), (500, 500), (5, 80, 80)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRequest:
    """One product, one channel, one language.

    Attributes:
        product: the record.
        channel, language, tone: see there.
        audience: whom it is for, in a few words; empty: anyone.
        keywords: words that should be in it where the record bears them out.
        variants: how many to write.
        max_words: of headline, description and bullets together; None: the channel's limits alone.
        deadline_s: seconds from arrival within which the answer is of use; None: the endpoint's default.
        seed: same seed and request, same copy (of the same model version).
        fresh: write anew although the cache has it.
    """

    product: ProductRecord
    channel: Channel = Channel.PRODUCT_PAGE
    language: Language = Language.EN
    tone: Tone = Tone.NEUTRAL
    audience: str = ""
    keywords: tuple[str, ...] = ()
    variants: int = 1
    max_words: int | None = None
    deadline_s: float | None = None
    seed: int = 0
    fresh: bool = False

    @property
    def limits(self) -> CopyLimits:
        """The channel's, in this language."""
        return CHANNEL_LIMITS[self.channel, self.language]

    def keywords_missing(self, text: CopyText) -> list[str]:
        """Keywords that are not in a piece of copy."""
        said = " ".join(part for _, part in text.parts()).casefold()
        return [keyword for keyword in self.keywords if keyword.strip().casefold() not in said]


class ClaimKind(StrEnum):
    """What a claim is about."""

    PRODUCT = "product"
    NUMBER = "number"
    MEASURE = "measure"
    PRICE = "price"
    BRAND = "brand"
    MATERIAL = "material"
    COLOUR = "colour"
    SIZE = "size"
    CERTIFICATION = "certification"
    SUPERLATIVE = "superlative"
    FEATURE = "feature"
    FORBIDDEN = "forbidden"
    BANNED = "banned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something that a text says, and where the record says it.

    Attributes:
        kind: see there.
        text: as it stands in the copy.
        part: "headline", "description", or "bullets[0]".
        start, end: where in the part.
        source: place in the record, such as "title" or "attributes.volume"; None: it is not there, or is not allowed.
        quote: as it stands there; or, for a claim without a source, why it may not stand.
    """

    kind: ClaimKind
    text: str
    part: str
    start: int
    end: int
    source: str | None
    quote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyText:
    """The parts of one piece of copy."""

    headline: str
    description: str
    bullets: tuple[str, ...] = ()

    def parts(self) -> tuple[tuple[str, str], ...]:
        """Names and texts, in reading order."""
        return (
            ("headline", self.headline),
            ("description", self.description),
            *((f"bullets[{at}]", bullet) for at, bullet in enumerate(self.bullets)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyVariant:
    """A released text with its evidence.

    Attributes:
        text: what may be shown.
        claims: every claim in it; each has a source.
        refused: what the model claimed without one, and is not in ``text``.
        effort: what it took.
        served_by: who wrote it.
    """

    text: CopyText
    claims: tuple[Claim, ...]
    refused: tuple[Claim, ...]
    effort: Effort
    served_by: CopySource


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyUsage:
    """Tokens that were spent, over all tries of all variants."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyAnswer:
    """What a caller gets.

    Attributes:
        variants: at least one.
        served_by: the model, if it wrote any of them.
        model: name and version of what wrote; the template's own where that did.
        usage: tokens.
        timings_s: seconds by stage: queue, engine, check, total.
        fallback_reason: why the template answered for all of them, or None.
        lasting: it would be the same another time; not so where the engine was late, busy, away or failed.
    """

    variants: tuple[CopyVariant, ...]
    served_by: CopySource
    model: tuple[str, str]
    usage: CopyUsage
    timings_s: Mapping[str, float]
    fallback_reason: str | None = None
    lasting: bool = True


_WORD = re.compile(
    r"[\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3400-\u9fff\uf900-\ufaff]+(?:['’.,/-][^\W_\u3400-\u9fff\uf900-\ufaff]+)*"
)


def count_words(text: str) -> int:
    """Words of a text: runs of letters and digits, and each Chinese character."""
    return sum(1 for _ in _WORD.finditer(text))
