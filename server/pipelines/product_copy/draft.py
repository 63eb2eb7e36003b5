"""One piece of copy on its way: what of it stands, how much room is left, and whether a text may be put into it.

A text enters only through ``judge`` and ``release``, so nothing stands here that is longer than its limits or holds a claim
without a source. ``judge`` changes nothing and may be called on another thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from server.copy_domain import (
    Claim,
    ClaimKind,
    CopyRequest,
    CopySource,
    CopyText,
    CopyVariant,
    Effort,
    count_words,
)
from server.pipelines.product_copy.folding import visible
from server.pipelines.product_copy.ports import RecordCheck
from server.pipelines.product_copy.readable import Readable

BULLETS = "bullets"
_EFFORTS = tuple(Effort)  # least first
_HEADLINE_SHARE = 0.4  # of ``max_words``
_MIN_HEADLINE_WORDS = 4


@dataclass(frozen=True, slots=True)
class Judged:
    """A text that was looked at.

    Attributes:
        text: within the limits of its part; empty if it cannot be.
        claims: all of it; without a source: refused.
        cut: it had to be shortened.
        repeated: it says what stands already.
        flaw: why it cannot be read, or empty.
    """

    text: str
    claims: tuple[Claim, ...]
    cut: bool
    repeated: bool = False
    flaw: str = ""

    @property
    def refused(self) -> tuple[Claim, ...]:
        """What has no source."""
        return tuple(claim for claim in self.claims if claim.source is None)

    def reasons(self, name: str) -> tuple[Claim, ...]:
        """Why it was not released as this part: its refused claims, or, where there are none, all of it as unreadable."""
        if not self.flaw or self.refused:
            return self.refused
        whole = Claim(
            kind=ClaimKind.BANNED,
            text=self.text,
            part=name,
            start=0,
            end=len(self.text),
            source=None,
            quote=f"it cannot be read: {self.flaw}",
        )
        return (whole,)

    @property
    def good(self) -> bool:
        """Whether it may be released."""
        return bool(self.text) and not self.refused and not self.repeated and not self.flaw


class Draft:
    """The parts that stand.

    Attributes:
        texts: released parts by name; bullets as ``bullets[0]`` and so on.
        effort: the greatest that any part took.
        told: somebody has read a part, and none can be taken back.
    """

    def __init__(self, request: CopyRequest, check: RecordCheck) -> None:
        self.request = request
        self.check = check
        self.texts: dict[str, str] = {}
        self.effort = Effort.FIRST_TRY
        self.told = False
        self._claims: list[Claim] = []
        self._refused: dict[tuple[str, str], Claim] = {}
        self._bullets = 0
        self._templated = False
        self._readable = Readable(request.product)

    @property
    def next_bullet(self) -> str:
        """The name that the next bullet gets."""
        return f"{BULLETS}[{self._bullets}]"

    def missing(self) -> tuple[str, ...]:
        """Parts without which it is not whole."""
        return tuple(name for name in ("headline", "description") if name not in self.texts)

    def room(self, name: str) -> tuple[int, int]:
        """Characters and words that a part may have now; 0 words: it has no place."""
        limits, most = self.request.limits, self.request.max_words
        left = 10**6 if most is None else most - sum(map(count_words, self.texts.values()))
        if name == "headline":
            if most is not None and "description" not in self.texts:
                left = min(left, max(_MIN_HEADLINE_WORDS, int(most * _HEADLINE_SHARE)))
            return limits.headline_chars, min(limits.headline_words, left)
        if name == "description":
            return limits.description_chars, min(limits.description_words, left)
        if self._bullets >= limits.bullets:
            return 0, 0
        return limits.bullet_chars, min(limits.bullet_words, left)

    def judge(self, name: str, text: str, *, trusted: bool = False) -> Judged:
        """Look at a text for a part; ``trusted``: of the template, whose words are the shop's."""
        chars, words = self.room(name)
        text, cut = visible(text), False
        if not fits(text, chars, words):
            text, cut = visible(self.check.shortened(name, text, chars=chars, words=words)), True
            if not fits(text, chars, words):
                return Judged("", (), True)
        if not text:
            return Judged("", (), cut)
        repeated = name.startswith(BULLETS) and text in self.texts.values()
        flaw = "" if trusted else self._readable.flaw(name, text)
        return Judged(text, tuple(self.check.claims(name, text)), cut, repeated, flaw)

    def without_refused(self, name: str, judged: Judged, *, trusted: bool = False) -> Judged:
        """What is left of a text without its refused claims, looked at again; empty if it could not be read before."""
        if judged.flaw:
            return Judged("", (), True)
        for _ in range(3):  # cutting one sentence can make another say something else
            if not judged.text or not judged.refused:
                break
            left = self.check.without(name, judged.text, judged.refused)
            if left == judged.text:
                return Judged("", (), True)
            judged = self.judge(name, left, trusted=trusted)
        return judged if judged.good else Judged("", (), True)

    def release(self, name: str, judged: Judged, effort: Effort) -> None:
        """Let a part stand.

        Raises:
            ValueError: it may not; a fault of the caller.
        """
        if not judged.good or name in self.texts or not fits(judged.text, *self.room(name)):
            raise ValueError(f"{name} may not be released: {judged}")
        self.texts[name] = judged.text
        self._claims.extend(judged.claims)
        if name.startswith(BULLETS):
            self._bullets += 1
        self.took(effort)
        self._templated |= effort is Effort.TEMPLATE

    def withdraw(self) -> None:
        """Take back all that stands, before any of it was told."""
        self.texts.clear()
        self._claims.clear()
        self._bullets = 0

    def took(self, effort: Effort) -> None:
        """Remember what it took."""
        self.effort = max(self.effort, effort, key=_EFFORTS.index)

    def refuse(self, claims: Iterable[Claim]) -> None:
        """Remember what was claimed without a source, each once."""
        for claim in claims:
            self._refused.setdefault((claim.kind.value, claim.text), claim)

    def standing(self) -> CopyText:
        """The parts so far; empty where there is none yet."""
        bullets = tuple(self.texts[f"{BULLETS}[{at}]"] for at in range(self._bullets))
        return CopyText(
            headline=self.texts.get("headline", ""),
            description=self.texts.get("description", ""),
            bullets=bullets,
        )

    def variant(self) -> CopyVariant:
        """The whole of it.

        Raises:
            ValueError: a part is missing; a fault of the caller.
        """
        if self.missing():
            raise ValueError(f"missing: {', '.join(self.missing())}")
        return CopyVariant(
            text=self.standing(),
            claims=tuple(self._claims),
            refused=tuple(self._refused.values()),
            effort=self.effort,
            served_by=CopySource.FALLBACK if self._templated else CopySource.MODEL,
        )


def fits(text: str, chars: int, words: int) -> bool:
    """Whether a text is within both."""
    return len(text) <= chars and count_words(text) <= words
