"""Perplexity of the served text engine on copy of another shop, per language: what it thinks of texts that it never learnt from.

The engine is opened from the published version and read as in serving (prompts in chunks, answers token by token). A token of
the answer is counted, the prompt is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.copy_lies import examples
from build_engines.data.copy_corpus import CopyExample
from build_engines.text.pairs import EncodedPair, TextPair, encode_pairs
from build_engines.text.scoring import perplexity, score_pairs
from server.artifacts.repository import current_version, open_version
from server.copy_domain import Language
from server.encoding.text import load_codec
from server.engines.onnxruntime_causal import OnnxRuntimeCausal
from server.pipelines.product_copy.prompt import copy_prompt, copy_target
from server.pipelines.text_names import text_model_name

PAIRS, SLOTS = 60, 8  # pairs a language
Json = dict[str, Any]


def measure(repository: Path, text_model: str = "") -> Json:
    """Rows by language; empty where no text model is published."""
    name = text_model_name(repository, text_model)
    if name is None:
        return {}
    opened = open_version(repository / name / current_version(repository, name))
    limits = opened.manifest.limits
    engine = OnnxRuntimeCausal(
        opened.path(opened.manifest.graph),
        pools={limits["max_context"]: SLOTS},
        threads=2,
        max_chunk=limits["max_chunk"],
    )
    codec = load_codec(opened.folder, max_vocab=limits["vocab_size"])
    rows: Json = {}
    try:
        for language in Language:
            found = [one for one in examples() if one.request.language is language][:PAIRS]
            pairs = _pairs(found, codec, limits["max_context"])
            if pairs:
                scores = score_pairs(engine, pairs, slots=SLOTS)
                tokens = sum(len(one.logprobs) for one in scores)
                rows[language.value] = {
                    "pairs": len(pairs),
                    "too long": len(found) - len(pairs),
                    "tokens": tokens,
                    "perplexity": perplexity(scores),
                    "greedy right": float(
                        sum(
                            int((one.greedy == pair.ids[pair.prompt_tokens :]).sum())
                            for one, pair in zip(scores, pairs, strict=True)
                        )
                        / tokens
                    ),
                }
    finally:
        engine.close()
    return {"model": name, "version": opened.manifest.version, "languages": rows}


def _pairs(found: Sequence[CopyExample], codec: Any, max_context: int) -> list[EncodedPair]:
    asked = [TextPair(prompt=copy_prompt(one.request), answer=copy_target(one.text)) for one in found]
    encoded = encode_pairs(
        asked,
        lambda prompt: codec.encode(str(prompt)),
        lambda answer: codec.encode(answer, add_special_tokens=False),
        eos_id=min(codec.eos_ids),
        max_tokens=max_context,
    )
    return [pair for pair in encoded if pair is not None]
