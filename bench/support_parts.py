"""The parts of ``python -m bench`` that are about customer service: each command's own measurement, cheap, and its tables.

Their full size is asked for by their own commands: ``bench.retrieval --passages 100000 --stackfaq FOLDER``, ``bench.encoder``,
``bench.embeddings``, ``bench.support``.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from server.artifacts.repository import current_version
from server.pipelines.encoder_names import encoder_name

Json = dict[str, Any]
PARTS = ("support", "retrieval", "encoder", "embeddings")
PASSAGES, EMBEDDED, ROUNDS, SECONDS = 10_000, 200, 3, 2.0


def measure(wanted: Collection[str], repository: Path, say: Callable[[str], None]) -> Json:
    """The parts that were asked for, by name; all but ``encoder`` need a published encoder, and are left out without one.

    Args:
        wanted: names of ``PARTS``; others are passed over.
        repository: of the sentence encoder.
        say: is told what is being done.
    """
    results: Json = {}
    if "encoder" in wanted:
        from bench import encoder

        say("sentence encoder, INT8 and FP32 in turn, beside the peers that are installed")
        with tempfile.TemporaryDirectory() as scratch:
            results["encoder"] = encoder.measure(Path(scratch), threads=2, rounds=ROUNDS, texts=128)
    rest = set(wanted) & set(PARTS) - {"encoder"}
    name = encoder_name(repository, "") if rest and repository.is_dir() else None
    if rest and name is None:
        say(f"{', '.join(sorted(rest))}: left out, {repository} has no sentence encoder; run make build")
        return results
    if name is None:
        return results
    if "retrieval" in wanted:
        from bench import retrieval

        say(f"retrieval, {PASSAGES:,} passages, and the sample shop's questions")
        version = repository / name / current_version(repository, name)
        results["retrieval"] = retrieval.measure(PASSAGES, version, None, EMBEDDED)
    if "embeddings" in wanted:
        from bench import embeddings

        say("embeddings over HTTP")
        results["embeddings"] = asyncio.run(embeddings.measure(repository, name, SECONDS))
    if "support" in wanted:
        from bench import support

        say("customer service on the sample shop's labelled questions")
        results["support"] = asyncio.run(support.measured(repository, name, fit=False))
    return results


def tables(results: Json) -> list[str]:
    """The tables of those parts that were measured."""
    from bench import embeddings, encoder, retrieval_report, support_report

    writers: dict[str, Callable[[Json], str]] = {
        "support": support_report.support_tables,
        "retrieval": lambda one: retrieval_report.markdown(one).replace("# Retrieval", "### Retrieval", 1).replace("\n## ", "\n#### "),
        "encoder": lambda one: "### Sentence encoder\n\n" + encoder.markdown(one),
        "embeddings": lambda one: "### Embeddings over HTTP\n\n" + embeddings.tables(one),
    }  # fmt: skip
    return [write(results[name]).rstrip() for name, write in writers.items() if name in results]
