"""What must be heard before any answer is looked for: a wish for a person, anger, need, law, a disputed payment, danger.

Word lists in ``data/signals_*.txt``, which a shop can extend with files of the same form; both languages are always listened
for, since people mix them. What only looks like a signal ("no need for a person", the title of a film) is taken out before.
Missing one costs more than hearing one too many, so lists are broad; how broad is measured by tests and by ``bench``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from server.pipelines.customer_service.expressions import Expressions, unusable
from server.pipelines.customer_service.injection import Lists, Place, find_attempts
from server.pipelines.product_copy.folding import HAS_CJK, Folded, folded_once
from server.support_domain import Signals

NAMES = ("asked_for_person", "angry", "vulnerable", "legal", "payment_dispute", "safety")
MOST_CHARS = 20_000  # that are listened to; a message has no more
MOST_WORDS_CHARS = 120  # of what is quoted as evidence
_BLANK = "\x1f"  # ends every pattern that may not run over a sentence's end
_QUOTED = re.compile(
    r"\"[^\"\n]{1,80}\"|《[^》\n]{1,60}》|「[^」\n]{1,60}」|(?<![a-z0-9])'[^'\n]{3,60}'(?![a-z0-9])"
)
_NAMES_IT = re.compile(
    r"(?:called|named|titled|book|film|movie|game|song|album|series|poster|print|shirt|mug|sticker|says|written|slogan|word|phrase|term|title|label(?:l?ed)?|by|of|the|mean(?:s|ing)?|叫|名为|名叫|书|电影|游戏|歌|写着|印着|印有|写的是|字样|词|标题|所谓的?)[\s:：]{0,2}$"
)
_MEANS = re.compile(
    r"^\s?(?:mean|stand for|是什么意思|什么意思|指的是|means|poster|book|movie|film|game|shirt|mug)"
)
_LOUD = re.compile(r"[A-Z]{3,}")
_SECTION = re.compile(r"\[([a-z_]+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalLists:
    """Compiled lists by the name of the signal: what says it, and what only looks like it."""

    says: Mapping[str, Expressions]
    looks_like: Mapping[str, Expressions]


def read_signal_lists(extra: Sequence[Path] = ()) -> SignalLists:
    """The lists of the package and those of a shop behind them.

    Args:
        extra: files of the form of ``data/signals_en.txt``.

    Raises:
        ValueError: a section or an expression is wrong; names the file, the line and what to do.
    """
    says: dict[str, list[str]] = {name: [] for name in NAMES}
    looks: dict[str, list[str]] = {name: [] for name in NAMES}
    data = files("server.pipelines.customer_service").joinpath("data")
    texts = [
        (f"signals_{which}.txt", data.joinpath(f"signals_{which}.txt").read_text("utf-8"))
        for which in ("en", "zh")
    ]
    for path in extra:
        try:
            texts.append((str(path), path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}: cannot be read as UTF-8 text ({error}); give a readable file of signals"
            ) from error
    words: dict[str, str] = {}
    for name, text in texts:
        _read(name, text, says, looks, words)
    return SignalLists(
        says={name: Expressions(says[name]) for name in NAMES},
        looks_like={name: Expressions(looks[name]) for name in NAMES},
    )


def _read(
    file: str, text: str, says: dict[str, list[str]], looks: dict[str, list[str]], words: dict[str, str]
) -> None:
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("# "):
            continue
        if line.startswith("= "):
            name, _, body = line[2:].partition(" ")
            words["{" + name + "}"] = _with(body, words)
            continue
        if (head := _SECTION.fullmatch(line)) is not None:
            section = head.group(1)
            if section not in NAMES:
                raise ValueError(
                    f"{file}, line {number}: [{section}] is no signal; use one of {', '.join(NAMES)}"
                )
            continue
        if not section:
            raise ValueError(f"{file}, line {number}: stands before any section; begin with [{NAMES[0]}]")
        body = _with(line.removeprefix("!").strip(), words)
        if (wrong := unusable(body)) is not None:
            raise ValueError(f"{file}, line {number}: {wrong}")
        (looks if line.startswith("!") else says)[section].append(body)


def _with(body: str, words: Mapping[str, str]) -> str:
    for name, meaning in words.items():
        body = body.replace(name, meaning)
    return body


@lru_cache(maxsize=1)
def own_lists() -> SignalLists:
    """The lists of the package."""
    return read_signal_lists()


def find_signals(text: str, lists: SignalLists | None = None, attempts_lists: Lists | None = None) -> Signals:
    """What a text signals, each with the words that say it.

    Args:
        text: a message; its first ``MOST_CHARS`` characters are listened to.
        lists: a shop's; None: those of the package.
        attempts_lists: a shop's of attempts to give instructions; None: those of the package.
    """
    lists = own_lists() if lists is None else lists
    text = text[:MOST_CHARS]
    seen = folded_once(text)
    plain = _without_names(_one_line(seen.text))
    heard = {name: _first(plain, text, seen, lists, name) for name in NAMES}
    if not heard["angry"]:
        heard["angry"] = _shouting(text)
    attempts = find_attempts(text, Place.MESSAGE, attempts_lists)
    injection = text[attempts[0].start : attempts[0].end][:MOST_WORDS_CHARS] if attempts else ""
    return Signals(**heard, injection=injection)


def _one_line(folded: str) -> str:
    return folded.replace("\n", " ").replace("，", ",").replace("；", ";")


def _without_names(folded: str) -> str:
    """Titles and words that are only spoken of, blanked; what somebody says in quotes stays."""
    for quote in list(_QUOTED.finditer(folded)):
        start, end = quote.span()
        named = quote.group()[0] in "《" or _NAMES_IT.search(folded[max(0, start - 24) : start])
        if named or _MEANS.match(folded[end : end + 12]):
            folded = folded[:start] + _BLANK * (end - start) + folded[end:]
    return folded


def _first(plain: str, text: str, seen: Folded, lists: SignalLists, name: str) -> str:
    found = lists.says[name].search(plain)
    if found is not None:  # what only looks like it is rare: taken out only where something was heard
        found = lists.says[name].search(lists.looks_like[name].blanked(plain, _BLANK))
    if found is None:
        return ""
    start, end = seen.span(*found.span())
    return text[start:end].strip()[:MOST_WORDS_CHARS]


def _shouting(text: str) -> str:
    """Capitals and exclamation marks where neither is needed."""
    loud = _LOUD.findall(text)
    letters = sum(char.isalpha() for char in text)
    if (
        len(loud) >= 4
        and sum(map(len, loud)) > 0.6 * letters
        and ("!!" in text or "?!" in text or "??" in text)
    ):
        return text.strip()[:MOST_WORDS_CHARS]
    if HAS_CJK.search(text) and re.search(r"[!！]{4,}|[?？!！]{5,}", text):
        return text.strip()[:MOST_WORDS_CHARS]
    return ""


def heard_names(signals: Signals) -> Iterable[str]:
    """The names of what was heard, injection aside."""
    return (name for name in NAMES if getattr(signals, name))
