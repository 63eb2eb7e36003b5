"""A shop's JSON lines as pairs.

A line is one of

    {"product": {...}, "channel": "email", "language": "en", "copy": {"headline": ..., "description": ..., "bullets": []}}
    {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}
    {"prompt": ..., "answer": ...}

A record and its copy become exactly what ``/v1/product-copy`` asks of the model. ``tone``, ``audience``, ``keywords`` and
``max_words`` go with a record; ``id`` (or the product's title) says which lines must stay on one side of a split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from build_engines.data.bad_rows import EXAMPLES, BadRow, BadRowPolicy
from build_engines.data.errors import DataError
from build_engines.text.pairs import TextPair
from server.copy_domain import Channel, CopyRequest, CopyText, Language, Tone
from server.pipelines.product_copy.prompt import CHAT_RULES, copy_prompt, copy_target, record_from_mapping

_FORMS = '"product" and "copy", "messages", or "prompt" and "answer"'


def read_pairs(path: Path, policy: BadRowPolicy, *, chat: bool) -> tuple[list[TextPair], int]:
    """Read a file of pairs.

    Args:
        path: JSON lines, UTF-8.
        policy: what happens to a line that cannot be used.
        chat: the model has a chat template: records are asked as conversations.

    Returns:
        The pairs, and how many lines were left out.

    Raises:
        DataError: the file cannot be read, or holds lines that the policy does not drop; names file and line.
    """
    pairs: list[TextPair] = []
    bad: list[BadRow] = []
    reasons: dict[str, int] = {}
    rows = 0
    for number, line in _lines(path):
        rows += 1
        try:
            pairs.append(_pair(_object(line), chat=chat))
        except ValueError as error:
            what = str(error)
            reasons[what.partition(":")[0]] = reasons.get(what.partition(":")[0], 0) + 1
            bad.append(BadRow(number, what))
    policy.apply(path, bad[:EXAMPLES], bad=len(bad), rows=rows, reasons=reasons)
    if not pairs:
        raise DataError(path, "holds no pairs", hint=f"give one JSON object a line, with {_FORMS}")
    return pairs, len(bad)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise DataError(path, f"is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from error
    except OSError as error:
        raise DataError(
            path, f"cannot be read ({error.strerror})", hint="name a file of JSON lines"
        ) from error


def _object(line: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("no JSON object: a line is one object")
    return value


def _pair(row: Mapping[str, Any], *, chat: bool) -> TextPair:
    group = str(row.get("id", ""))
    if "product" in row or "copy" in row:
        return _copy_pair(row, group, chat=chat)
    if "messages" in row:
        return _conversation(row["messages"], group)
    if "prompt" in row or "answer" in row:
        prompt, answer = _text(row, "prompt"), _text(row, "answer")
        return TextPair(prompt=prompt, answer=answer, group=group or prompt)
    raise ValueError(f"nothing to learn: it has none of {_FORMS}")


def _copy_pair(row: Mapping[str, Any], group: str, *, chat: bool) -> TextPair:
    product, copy = row.get("product"), row.get("copy")
    if not isinstance(product, dict) or not isinstance(copy, dict):
        raise ValueError("product or copy is missing: both must be objects")
    record = record_from_mapping(product)
    if not record.title.strip():
        raise ValueError("product.title is missing: a record needs one")
    bullets = copy.get("bullets") or []
    if not isinstance(bullets, list) or not all(isinstance(one, str) for one in bullets):
        raise ValueError(f"copy.bullets: {bullets!r} is no list of texts")
    keywords = row.get("keywords") or []
    max_words = row.get("max_words")
    if not isinstance(keywords, list) or not all(isinstance(one, str) for one in keywords):
        raise ValueError(f"keywords: {keywords!r} is no list of texts")
    if max_words is not None and (not isinstance(max_words, int) or max_words < 1):
        raise ValueError(f"max_words: {max_words!r} is no number of words")
    request = CopyRequest(
        product=record,
        channel=Channel(row.get("channel", Channel.PRODUCT_PAGE)),
        language=Language(row.get("language", Language.EN)),
        tone=Tone(row.get("tone", Tone.NEUTRAL)),
        audience=str(row.get("audience") or ""),
        keywords=tuple(keywords),
        max_words=max_words,
    )
    text = CopyText(
        headline=_text(copy, "headline"), description=_text(copy, "description"), bullets=tuple(bullets)
    )
    prompt = copy_prompt(request)
    asked = (("system", CHAT_RULES), ("user", prompt))
    return TextPair(prompt=asked if chat else prompt, answer=copy_target(text), group=group or record.title)


def _conversation(messages: object, group: str) -> TextPair:
    turns: list[tuple[str, str]] = []
    for one in messages if isinstance(messages, list) else []:
        if not isinstance(one, dict) or one.get("role") not in ("system", "user", "assistant"):
            raise ValueError("messages: each needs a role (system, user or assistant) and a content")
        turns.append((str(one["role"]), _text(one, "content")))
    if len(turns) < 2 or turns[-1][0] != "assistant":
        raise ValueError("messages: the last must be the assistant's, after at least one other")
    return TextPair(prompt=tuple(turns[:-1]), answer=turns[-1][1], group=group or turns[-2][1])


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is missing: it must be a text with something in it")
    return value
