"""The word lists as matchers: colours, materials, certificates, sizes, features, superlatives, names, common words.

A list is a text file in ``data/``: ``canonical < broader: spelling, ~spelling``. A copy may name the broader thing of what
its record names (steel for stainless steel), never the narrower one. ``~`` marks a spelling that is also an ordinary word
(sand, rose, clear): it is a claim only where the words around it say so, while in a record it always counts. A line that
begins with ``!`` names what only looks like the others (green tea is no green).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from server.copy_domain import ClaimKind
from server.pipelines.product_copy.folding import CJK, HAS_CJK, fold

_LISTS = {
    ClaimKind.COLOUR: "colours.txt",
    ClaimKind.MATERIAL: "materials.txt",
    ClaimKind.CERTIFICATION: "certifications.txt",
    ClaimKind.SUPERLATIVE: "superlatives.txt",
    ClaimKind.SIZE: "sizes.txt",
    ClaimKind.FEATURE: "features.txt",
}
# One Chinese character is a colour only beside these; alone it is half of another word (黑板, 白天, 金属).
_ONE = re.compile(f"[{CJK}]")
_BEFORE_ONE, _AFTER_ONE = set("、，。；：/ （(-") | {""}, set("、，。；/ ）)款版") | {""}
_IN_CONTEXT_BEFORE = re.compile(
    r"(?:\bin|\bcolou?r(?:ed)?:?|\bfinish:?|,|/|[:：]|\s[-–|]|\b(?:made|crafted|built)(?: (?:of|from|with))?|\b(?:of|from|with)|^) ?(?:an? |the )?"
    r"(?:bright |deep |pale |soft |warm |vivid |matte? |glossy |rich |light |dark |classic |fresh |shiny )?$"
)
_IN_CONTEXT_AFTER = re.compile(
    r"^(?:[- ]?colou?r(?:ed|s)?\b| finish\b| version\b| edition\b| shade\b| tone\b|\s*[,/.;!?:，。；！？]|\s[-–|]|\s*$| and\b)"
)
_CN_BEFORE = re.compile(r"(?:选用|采用|使用|材质|材料|颜色|材质为|[:：为，、；|｜\s]|^)$")
_CN_AFTER = re.compile(r"^(?:[。，、；！？|｜\s]|$|做|制|质|材|料)")


@dataclass(frozen=True, slots=True)
class Term:
    """A listed word in a text."""

    kind: ClaimKind
    canonical: str
    start: int
    end: int
    certain: bool


@dataclass(frozen=True, slots=True)
class Lexicon:
    """One list; ``chinese`` has the first Chinese spelling of a thing."""

    kind: ClaimKind
    pattern: re.Pattern[str]
    canonical: dict[str, tuple[str, bool]]
    broader: dict[str, str]
    chinese: dict[str, str]

    def find(self, folded: str) -> Iterator[Term]:
        """All of its words in a folded text, longest first at each place."""
        for match in self.pattern.finditer(folded):
            start, end = match.span()
            spelling = re.sub(r"[\s-]+", " ", match.group())
            name, sure = next(self.canonical[s] for s in _singulars(spelling) if s in self.canonical)
            if not name:  # it only looks like one
                continue
            if len(spelling) == 1 and _ONE.match(spelling) and self.kind is ClaimKind.COLOUR:
                before, after = folded[start - 1 : start], folded[end : end + 1]
                if before not in _BEFORE_ONE or after not in _AFTER_ONE:
                    continue
            if not sure:
                before, after = folded[max(0, start - 20) : start], folded[end : end + 12]
                beside = (
                    (_CN_BEFORE, _CN_AFTER)
                    if HAS_CJK.search(spelling)
                    else (_IN_CONTEXT_BEFORE, _IN_CONTEXT_AFTER)
                )
                sure = bool(beside[0].search(before)) and bool(beside[1].match(after))
                sure = sure or bool(re.match(r"[- ]?colou?r|[- ]finish", after))
            yield Term(self.kind, name, start, end, sure)

    def broader_than(self, name: str) -> Iterator[str]:
        """A thing and everything broader."""
        seen: str | None = name
        while seen:
            yield seen
            seen = self.broader.get(seen)


def _singulars(spelling: str) -> tuple[str, str, str]:
    return spelling, spelling.removesuffix("s"), spelling.removesuffix("es")


def read_list(name: str) -> list[str]:
    """Lines of a data file without comments and empty ones."""
    text = files("server.pipelines.product_copy").joinpath("data", name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("# ")]


@cache
def read_words(name: str) -> frozenset[str]:
    """A set of words by its name."""
    sets: dict[str, list[str]] = {}
    current: list[str] = []
    for line in read_list("word_sets.txt"):
        if line.endswith(":"):
            current = sets.setdefault(line[:-1], [])
        else:
            current.extend(word.replace("_", " ") for word in line.split())
    return frozenset(sets[name])


@cache
def lexicons() -> tuple[Lexicon, ...]:
    """All lists."""
    return tuple(_load(kind, name) for kind, name in _LISTS.items())


@cache
def product_lexicon() -> Lexicon:
    """What things are called; apart from the others, because a name is full of it."""
    return _load(ClaimKind.PRODUCT, "products.txt")


@cache
def lexicon_of(kind: ClaimKind) -> Lexicon:
    """The list of one kind."""
    return next(lexicon for lexicon in lexicons() if lexicon.kind is kind)


def _names() -> list[str]:
    return [
        fold(name.strip()) for line in read_list("brands.txt") for name in line.split(",") if name.strip()
    ]


@cache
def brand_names() -> re.Pattern[str]:
    """Known names, over folded text."""
    ordered = sorted(_names(), key=len, reverse=True)
    latin = "|".join(re.escape(name) for name in ordered if not HAS_CJK.search(name))
    return re.compile(
        rf"(?<![a-z0-9-])(?:{latin})(?![a-z0-9-])|"
        + "|".join(name for name in ordered if HAS_CJK.search(name))
    )


@cache
def listed_names() -> frozenset[str]:
    """Known names that are no ordinary words: names also in small letters."""
    return frozenset(
        name for name in _names() if " " not in name and name not in common_words() and len(name) > 3
    )


@cache
def common_words() -> frozenset[str]:
    """What an English sentence may begin with without naming anybody."""
    return frozenset(word for line in read_list("words_en.txt") for word in line.split())


def is_common(word: str) -> bool:
    """Whether a word in lower case is an ordinary one, inflected or not."""
    words = common_words()
    if word in words:
        return True
    for ending in (
        "'s",
        "s",
        "es",
        "d",
        "ed",
        "r",
        "er",
        "ing",
        "ly",
        "y",
        "st",
        "est",
        "ness",
        "able",
        "less",
        "ful",
    ):
        if word.endswith(ending) and len(word) - len(ending) >= (4 if ending in ("y", "st", "er") else 3):
            base = word[: -len(ending)]
            if base in words or base + "e" in words or base[:-1] + "y" in words:
                return True
            if base[-1] == base[-2] and base[:-1] in words:
                return True
    return False


def _load(kind: ClaimKind, name: str) -> Lexicon:
    canonical: dict[str, tuple[str, bool]] = {}
    broader: dict[str, str] = {}
    chinese: dict[str, str] = {}
    for line in read_list(name):
        if line.startswith("!"):
            canonical.update(
                {re.sub(r"[\s-]+", " ", fold(one.strip())): ("", True) for one in line[1:].split(",")}
            )
            continue
        head, _, tail = line.partition(":")
        thing, _, parent = head.partition("<")
        thing = thing.strip()
        if parent.strip():
            broader[thing] = parent.strip()
        for spelling in tail.split(","):
            spelling = spelling.strip()
            sure = not spelling.startswith("~")
            key = re.sub(r"[\s-]+", " ", fold(spelling.lstrip("~")))
            if key:
                canonical.setdefault(key, (thing, sure))
            if HAS_CJK.search(key):
                chinese.setdefault(thing, spelling.lstrip("~"))
    return Lexicon(kind, _pattern(sorted(canonical, key=len, reverse=True)), canonical, broader, chinese)


def _pattern(spellings: list[str]) -> re.Pattern[str]:
    latin, chinese = [], []
    for spelling in spellings:
        body = re.escape(spelling).replace(r"\ ", r"[\s-]+")
        if HAS_CJK.search(spelling):
            chinese.append(body)
        else:
            latin.append(body)
    words = rf"(?<![a-z0-9])(?:{'|'.join(latin)})(?:e?s)?(?![a-z0-9])"
    return re.compile("|".join([*chinese, words]))
