"""What the person who takes over reads first: what was asked, what was understood, what was tried. Masked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from server.copy_domain import Language
from server.pipelines.product_copy.folding import visible
from server.support_domain import Entity, Intent, Role, Source, Turn

MOST_ASKED_CHARS = 400
MOST_EARLIER = 3
MOST_EARLIER_CHARS = 140
MOST_ENTITIES = 8
_SAID = {
    Language.EN: {
        "asked": "The shopper asks: “{text}”",
        "heard": "What made the system hand over: “{text}”",
        "earlier": "Asked before: {text}.",
        "intent": "Understood as: {label} ({percent} %).",
        "named": "Named: {text}.",
        "found": "Nearest page: {title}.",
        "none": "No page was found.",
        "turns": "Messages so far: {count}.",
        "quote": "“{text}”",
        "and": ", ",
        "space": " ",
    },
    Language.ZH: {
        "asked": "顾客的问题：“{text}”",
        "heard": "转接依据：“{text}”",
        "earlier": "之前问过：{text}。",
        "intent": "系统理解为：{label}（{percent}%）。",
        "named": "提到：{text}。",
        "found": "最接近的页面：{title}。",
        "none": "没有找到相关页面。",
        "turns": "目前共{count}条消息。",
        "quote": "“{text}”",
        "and": "，",
        "space": "",
    },
}


def handover_summary(
    turns: Sequence[Turn],
    language: Language,
    masked: Callable[[str], str],
    *,
    heard: str = "",
    intent: Intent | None = None,
    entities: Sequence[Entity] = (),
    evidence: Sequence[Source] = (),
    searched: bool = False,
) -> str:
    """Write it.

    Args:
        turns: oldest first; the last is the shopper's.
        language: of the shopper.
        masked: hides personal data.
        heard: the words that made a person necessary; may be empty.
        intent: None: not looked for.
        entities: that the question names.
        evidence: what was found.
        searched: whether the pages were looked at.
    """
    said = _SAID[language]
    told = [said["asked"].format(text=_short(turns[-1].content, MOST_ASKED_CHARS, masked))]
    if heard and visible(heard) != visible(turns[-1].content):
        told.append(said["heard"].format(text=_short(heard, MOST_EARLIER_CHARS, masked)))
    earlier = [turn.content for turn in turns[-13:-1] if turn.role is Role.USER and turn.content.strip()]
    if earlier:
        shown = [
            said["quote"].format(text=_short(text, MOST_EARLIER_CHARS, masked))
            for text in earlier[-MOST_EARLIER:]
        ]
        told.append(said["earlier"].format(text=said["and"].join(shown)))
    if intent is not None and intent.label:
        told.append(said["intent"].format(label=intent.label, percent=round(intent.confidence * 100)))
    if entities:
        named = [masked(visible(entity.value or entity.text)) for entity in entities[:MOST_ENTITIES]]
        told.append(said["named"].format(text=said["and"].join(named)))
    if evidence:
        told.append(said["found"].format(title=evidence[0].title))
    elif searched:
        told.append(said["none"])
    if len(turns) > 1:
        told.append(said["turns"].format(count=len(turns)))
    return said["space"].join(told)


def _short(text: str, most: int, masked: Callable[[str], str]) -> str:
    """Masked first and cut after, so that no half of a number escapes; what is read for that is bounded too."""
    shown = visible(masked(text[: 4 * most]))
    return shown if len(shown) <= most else shown[: most - 1] + "…"
