"""Quality of product copy: what it took to release it, whether a falsehood got out, lengths, and how alike products read.

Three runs. *Planted*: true copy with one falsehood each, by a writer that repeats it when asked again, which is the worst
that a model can do. *True*: the same copy without it; whatever is refused there is refused wrongly. *Written*: the shop's
products by the model that is published, or by the templates where there is none.

Every released text is looked at once more by rules opened anew, and its lengths are measured against the channel's limits.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.copy_lies import Planted, StubbornWriter, examples, planted
from server.copy_domain import CopyAnswer, CopyRequest, CopyText, Effort, Language, count_words
from server.pipelines.product_copy.pipeline import CopyPipeline
from server.pipelines.product_copy.rules import open_rules
from server.settings import Settings
from server.telemetry_interface import NullTelemetry
from server.text_generator import TextGenerator

PLANTED = 400
WRITTEN_BY_MODEL, WRITTEN_BY_TEMPLATE = 40, 200  # products a language
AT_ONCE = 8
_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
Json = dict[str, Any]


def measure(repository: Path, text_model: str = "") -> Json:
    """All three runs.

    Args:
        repository: of published models.
        text_model: name of the text model; empty: the first there is.
    """
    return asyncio.run(_measure(repository, text_model))


async def _measure(repository: Path, text_model: str) -> Json:
    found = examples()
    lies = planted(found, PLANTED)
    out: Json = {"planted": await _planted(lies), "true": await _true(lies)}
    requests = [replace(example.request, keywords=(), audience="") for example in found]
    out["template"] = await written(None, requests, WRITTEN_BY_TEMPLATE)
    settings = Settings.from_env({}, repository=repository, text_model=text_model)
    model = _open(settings)
    if model is not None:
        await model.start()
        try:
            out[f"model {model.info().name}"] = await written(model, requests, WRITTEN_BY_MODEL)
        finally:
            await model.close(0.0)
    return out


async def _planted(lies: Sequence[Planted]) -> Json:
    writer = StubbornWriter()
    pipeline = CopyPipeline(writer, *open_rules(None))
    kinds: dict[str, Counter[str]] = {}
    try:
        for lie in lies:
            writer.text = lie.text
            (variant,) = (await pipeline.write(lie.request, emit=lambda _: None)).variants
            released = any(lie.words.casefold() in part.casefold() for _, part in variant.text.parts())
            row = kinds.setdefault(f"{lie.kind} {lie.request.language.value}", Counter())
            row["records"] += 1
            row["released"] += released
            row[variant.effort.value] += 1
    finally:
        pipeline.close()
    return {"records": len(lies), "released": sum(row["released"] for row in kinds.values()), "kinds": kinds}


async def _true(lies: Sequence[Planted]) -> Json:
    writer = StubbornWriter()
    pipeline = CopyPipeline(writer, *open_rules(None))
    rows: dict[str, Counter[str]] = {}
    refused: Counter[str] = Counter()
    try:
        for lie in lies:
            writer.text = lie.true
            (variant,) = (await pipeline.write(lie.request, emit=lambda _: None)).variants
            row = rows.setdefault(lie.request.language.value, Counter())
            row["records"] += 1
            row["claims"] += len(variant.claims)
            row["refused"] += len(variant.refused)
            row[variant.effort.value] += 1
            refused.update(f"{claim.kind.value}: {claim.text}" for claim in variant.refused)
    finally:
        pipeline.close()
    return {"languages": rows, "most refused": dict(refused.most_common(10))}


async def written(model: TextGenerator | None, requests: Sequence[CopyRequest], most: int) -> Json:
    """Products written as they would be served, a language at a time."""
    pipeline = CopyPipeline(model, *open_rules(None))
    out: Json = {}
    try:
        for language in Language:
            asked = [request for request in requests if request.language is language][:most]
            began_s = time.perf_counter()
            answers = await _all(pipeline, asked)
            out[language.value] = figures(asked, answers, time.perf_counter() - began_s)
    finally:
        pipeline.close()
    return out


def figures(requests: Sequence[CopyRequest], answers: Sequence[CopyAnswer], seconds: float) -> Json:
    """The table of one language."""
    rules, _ = open_rules(None)
    efforts: Counter[str] = Counter()
    false, long, claims, refused = 0, 0, 0, 0
    texts: list[CopyText] = []
    for request, answer in zip(requests, answers, strict=True):
        check = rules.open(request)
        for variant in answer.variants:
            efforts[variant.effort.value] += 1
            claims += len(variant.claims)
            refused += len(variant.refused)
            texts.append(variant.text)
            told = [c for name, part in variant.text.parts() for c in check.claims(name, part)]
            false += sum(claim.source is None for claim in told)
            long += not within_limits(request, variant.text)
    count = max(1, len(texts))
    return {
        "texts": len(texts),
        "shares": {effort.value: efforts[effort.value] / count for effort in Effort},
        "claims": claims,
        "refused": refused,
        "false released": false,
        "over the limits": long,
        "distinct-2": distinct_bigrams(texts),
        "seconds a text": seconds / count,
    }


def within_limits(request: CopyRequest, text: CopyText) -> bool:
    """Whether all lengths hold."""
    limits = request.limits
    parts = [
        (text.headline, limits.headline_chars, limits.headline_words),
        (text.description, limits.description_chars, limits.description_words),
        *((bullet, limits.bullet_chars, limits.bullet_words) for bullet in text.bullets),
    ]
    words = sum(count_words(part) for _, part in text.parts())
    return (
        len(text.bullets) <= limits.bullets
        and all(0 < len(part) <= chars and count_words(part) <= most for part, chars, most in parts)
        and (request.max_words is None or words <= request.max_words)
    )


def distinct_bigrams(texts: Sequence[CopyText]) -> float:
    """Different pairs of neighbouring words among all there are, over the descriptions of all products."""
    pairs: Counter[tuple[str, str]] = Counter()
    for text in texts:
        words = _TOKEN.findall(text.description.casefold())
        pairs.update(itertools.pairwise(words))
    return len(pairs) / max(1, pairs.total())


async def _all(pipeline: CopyPipeline, requests: Sequence[CopyRequest]) -> list[CopyAnswer]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(request: CopyRequest) -> CopyAnswer:
        async with turns:
            return await pipeline.write(request, emit=lambda _: None)

    return list(await asyncio.gather(*map(one, requests)))


def _open(settings: Settings) -> Any:
    from server.pipelines.live_text import open_live_text
    from server.pipelines.text_names import text_model_name

    name = text_model_name(settings.repository, settings.text_model)
    return None if name is None else open_live_text(settings, name, NullTelemetry(), threads=2)
