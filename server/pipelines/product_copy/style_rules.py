"""The shop's own rules for its copy, from one TOML or JSON file; every key is checked, because a rule that is misspelt protects nobody.

```toml
banned_terms = ["cheap", "廉价"]            # may not appear; "*" stands for the rest of a word
exclamation_marks = false                   # default true
emoji = false                               # default true
all_caps = false                            # words of four and more capitals that the record does not have; default true
max_sentence_words = 25                     # default: any
prices = false                              # no amounts of money in copy; default true
[spelling]                                  # wrong -> right; found in any case, told in the right one
"colour" = "color"
```
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path

from server.copy_domain import CopyRequest, Language, count_words
from server.errors import ServeError
from server.pipelines.product_copy.folding import fold
from server.pipelines.product_copy.forbidden import pattern_of

_MOST_BYTES, _MOST_TERMS, _MOST_TERM_CHARS = 1_000_000, 5_000, 100
LAST_WORDS: Mapping[Language, tuple[tuple[str, str], ...]] = {
    Language.EN: (
        ("Product details", "See the product page."),
        ("Details", "Details in our shop."),
        ("More", "More here."),
    ),
    Language.ZH: (("商品详情", "详情请见商品页面。"), ("详情", "欢迎了解。"), ("介绍", "介绍见后。")),
}  # what is left to say of a product of which nothing may be said


class BadStyleFile(ServeError):
    """The shop's file of rules cannot be used; says which key, and what it should be."""

    def __init__(self, path: Path | str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleRules:
    """A shop's own rules; the default is none.

    Attributes:
        banned_terms: may not appear.
        spelling: wrong and right.
        exclamation_marks, emoji, all_caps, prices: whether they may appear.
        max_sentence_words: of a sentence; None: any.
    """

    banned_terms: tuple[str, ...] = ()
    spelling: Mapping[str, str] = field(default_factory=dict)
    exclamation_marks: bool = True
    emoji: bool = True
    all_caps: bool = True
    prices: bool = True
    max_sentence_words: int | None = None

    @property
    def version(self) -> str:
        """Changes with any rule."""
        told = repr([(one.name, getattr(self, one.name)) for one in fields(self)])
        return sha256(told.encode()).hexdigest()[:12]

    def banned(self) -> re.Pattern[str] | None:
        """Banned terms over folded text."""
        return re.compile("|".join(map(pattern_of, self.banned_terms))) if self.banned_terms else None


def read_style(path: Path) -> StyleRules:
    """Read a file of rules.

    Args:
        path: ends in ``.toml`` or ``.json``.

    Raises:
        BadStyleFile: it cannot be read, or a key or value is not what it may be.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadStyleFile(
                path, f"the file has {path.stat().st_size} bytes; at most {_MOST_BYTES} are read"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadStyleFile(
            path, f"cannot be read ({error.strerror}); copy_style names a TOML or JSON file"
        ) from error
    except UnicodeDecodeError as error:
        raise BadStyleFile(path, f"is not UTF-8 at byte {error.start}") from error
    try:
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise BadStyleFile(path, f"is not {kind}: {error}") from error
    return style_of(found, path)


def style_of(found: object, path: Path | str = "style") -> StyleRules:
    """Rules from what a file holds.

    Raises:
        BadStyleFile: a key or value is not what it may be.
    """
    if not isinstance(found, dict):
        raise BadStyleFile(path, "must be a table of rules")
    known = {one.name for one in fields(StyleRules)}
    for key in found:
        if key not in known:
            raise BadStyleFile(path, f"{key!r} is no rule; rules are {', '.join(sorted(known))}")
    for key in ("exclamation_marks", "emoji", "all_caps", "prices"):
        if not isinstance(found.get(key, True), bool):
            raise BadStyleFile(path, f"{key} is {found[key]!r}; it must be true or false")
    most = found.get("max_sentence_words")
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or not 3 <= most <= 1000):
        raise BadStyleFile(path, f"max_sentence_words is {most!r}; it must be a whole number from 3 to 1000")
    rules = StyleRules(
        **{
            **found,
            "banned_terms": _terms(found.get("banned_terms", []), path),
            "spelling": _spelling(found.get("spelling", {}), path),
        }
    )
    banned = rules.banned()
    for language, last in LAST_WORDS.items():
        if banned and all(banned.search(fold(f"{headline} {text}")) for headline, text in last):
            words = "; ".join(f"{headline} / {text}" for headline, text in last)
            raise BadStyleFile(
                path,
                f"banned_terms leave nothing to say in {language.value}: one of these must be allowed: {words}",
            )
    return rules


def _terms(terms: object, path: Path | str) -> tuple[str, ...]:
    if not isinstance(terms, list) or len(terms) > _MOST_TERMS:
        raise BadStyleFile(path, f"banned_terms must be a list of at most {_MOST_TERMS} strings")
    for at, term in enumerate(terms):
        if not isinstance(term, str) or not fold(term).strip(" *") or len(term) > _MOST_TERM_CHARS:
            raise BadStyleFile(
                path,
                f"banned_terms[{at}] is {term!r}; it must be a string of 1 to {_MOST_TERM_CHARS} characters",
            )
    return tuple(terms)


def _spelling(spelling: object, path: Path | str) -> dict[str, str]:
    if not isinstance(spelling, dict) or len(spelling) > _MOST_TERMS:
        raise BadStyleFile(path, f"spelling must be a table of at most {_MOST_TERMS} entries, wrong = right")
    for wrong, right in spelling.items():
        if (
            not fold(wrong).strip(" *")
            or not isinstance(right, str)
            or not right.strip()
            or len(right) > _MOST_TERM_CHARS
        ):
            raise BadStyleFile(
                path,
                f"spelling[{wrong!r}] is {right!r}; it must be a string of 1 to {_MOST_TERM_CHARS} characters",
            )
        if re.search(pattern_of(wrong), fold(right)) and wrong == right:
            raise BadStyleFile(path, f"spelling[{wrong!r}] is its own correction")
        other = next(
            (
                w
                for w in spelling
                if w != wrong and re.search(pattern_of(w), fold(right)) and spelling[w] != right
            ),
            None,
        )
        if other is not None:
            raise BadStyleFile(
                path, f"spelling[{wrong!r}] gives {right!r}, which spelling[{other!r}] calls wrong"
            )
    return dict(spelling)


def last_words(request: CopyRequest, rules: StyleRules) -> tuple[str, str]:
    """The headline and description that claim nothing."""
    banned = rules.banned()
    allowed = [
        (headline, text)
        for headline, text in LAST_WORDS[request.language]
        if banned is None or not banned.search(fold(f"{headline} {text}"))
    ]
    assert allowed, "style_of checks that one is left"
    most = request.max_words
    short = [pair for pair in allowed if most is None or count_words(" ".join(pair)) <= most]
    return (short or allowed[-1:])[0]
