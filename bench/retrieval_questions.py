"""The part of ``bench.retrieval`` that asks questions: of the sample shop, of StackFAQ, and the encoding of passages for both."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.shop_pages import labelled_questions, shop_documents
from server.encoder_domain import EncodeRequest, InputKind, Truncate
from server.errors import InvalidRequest
from server.knowledge.passage_texts import sentence_spans
from server.knowledge.reader import SqliteReader
from server.knowledge.search import KnowledgeSearch
from server.knowledge.store import KnowledgeStore
from server.knowledge.vectors import Floats
from server.knowledge_domain import Document, DocumentFormat, Hit, SearchAsked
from server.pipelines.live_encoder import LiveEncoder, open_encoder

GATES = {"qa": (0.960, 0.975), "answers": (0.82, 0.0)}
LEAST_KNOWN = 0.7  # as the pipeline has it: below, words alone are asked


async def with_encoder(folder: Path, stackfaq: Path | None, embed: int) -> dict[str, Any]:
    """Figures that need an encoder: encoding passages, the sample shop's questions, StackFAQ where its folder is given."""
    results: dict[str, Any] = {}
    async with open_encoder(folder) as encoder:
        if embed:
            say(f"encoding {embed} passages")
            with TemporaryDirectory() as made:
                results["embed"] = await index_documents(
                    encoder, Path(made) / "knowledge.db", sections(embed)
                )
        say("sample shop")
        results["shop"] = await shop_figures(encoder)
        if stackfaq:
            entries = read_stackfaq(stackfaq)
            results["stackfaq"] = []
            for what in ("qa", "answers"):
                say(f"StackFAQ: {what}")
                results["stackfaq"].append(await stackfaq_figures(encoder, entries, what))
    return results


def sections(count: int) -> Iterable[Document]:
    """Pages of a hundred sections, each of four sentences of the sample shop's English pages."""
    rng = np.random.default_rng(11)
    pages = [one.text for one in shop_documents() if one.language == "en"]
    said = [page[start:end] for page in pages for start, end in sentence_spans(page) if page[start] != "#"]
    for first in range(0, count, 100):
        written = [
            f"## Section {at}\n\n{' '.join(said[one] for one in rng.choice(len(said), 4, replace=False))}\n"
            for at in range(first, min(first + 100, count))
        ]
        yield Document(id=f"page-{first}", text="# Page\n\n" + "\n".join(written), language="en")


async def encode_question(encoder: LiveEncoder, text: str) -> Floats | None:
    """The vector of a question; None where the pipeline would ask by words alone."""
    try:
        found = await encoder.encode(
            EncodeRequest(inputs=(text,), kind=InputKind.QUERY, truncate=Truncate.END)
        )
    except InvalidRequest:  # nothing that it can read
        return None
    return found.vectors_ND[0] if found.known_N[0] >= LEAST_KNOWN else None


async def index_documents(
    encoder: LiveEncoder, file: Path, documents: Iterable[Document]
) -> dict[str, float]:
    """Put documents into a new knowledge file as the server does, and encode them; how many passages, and how long."""
    store = KnowledgeStore(file, encoder)
    await store.start(follow=False)
    began_s, said_s = time.perf_counter(), time.perf_counter()
    for document in documents:
        await store.put(document)
    async for done, left in store.encode_waiting():
        if time.perf_counter() - said_s > 10:
            said_s = time.perf_counter()
            say(f"{done} passages encoded, {left} to go")
    with contextlib.closing(store.open_reader()) as reader, reader.view() as view:
        passages = view.count()
    await store.close()
    return {"passages": passages, "seconds": time.perf_counter() - began_s}


async def found_for(
    encoder: LiveEncoder, file: Path, asked: Sequence[str], language: str, k: int
) -> tuple[list[tuple[Hit, ...]], dict[str, float]]:
    """Hits of each question, and the times of the searches."""
    search = KnowledgeSearch(lambda: SqliteReader(file))
    await search.start()
    hits, times_s = [], []
    for text in asked:
        vector_D = await encode_question(encoder, text)
        found = await search.search(SearchAsked(text=text, vector_D=vector_D, language=language, k=k))
        hits.append(found.hits)
        times_s.append(found.search_s)
    await search.close()
    return hits, times(times_s, [0.0])


def rank_figures(ranks: Sequence[int | None]) -> dict[str, float]:
    """R@1, R@5 and MRR of ranks from 1; None: not found, which counts as 0."""
    found = np.array([np.inf if rank is None else rank for rank in ranks])
    return {
        "r_at_1": float((found <= 1).mean()),
        "r_at_5": float((found <= 5).mean()),
        "mrr": float((1 / found).mean()),
        "questions": len(ranks),
    }


def rank_of(wanted: object, keys: Iterable[object]) -> int | None:
    """Place of a key among the different ones, from 1."""
    return next((place for place, key in enumerate(dict.fromkeys(keys), 1) if key == wanted), None)


async def shop_figures(encoder: LiveEncoder) -> list[dict[str, Any]]:
    """The sample shop's labelled questions to the section that answers them, both languages' pages indexed."""
    figures = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "knowledge.db"
        await index_documents(encoder, file, shop_documents())
        for language in ("en", "zh"):
            asked = labelled_questions(language)
            hits, times = await found_for(encoder, file, [one.text for one in asked], language, 8)
            ranks = [
                rank_of(
                    (one.document, one.heading),
                    ((hit.passage.document_id, hit.passage.headings[-1]) for hit in found),
                )
                for one, found in zip(asked, hits, strict=True)
            ]
            figures.append({"language": language, **rank_figures(ranks), **times})
    return figures


def read_stackfaq(folder: Path) -> list[tuple[str, list[str], list[str]]]:
    """Entries: the question, its answers, its paraphrases."""
    file = folder / "stackExchange-FAQ.json" if folder.is_dir() else folder
    entries = json.loads(file.read_text(encoding="utf-8"))["root"]["qapair"]
    read = []
    for entry in entries:
        answers = entry["answer"]
        if all(len(part) <= 1 for part in answers):  # one answer that was written letter by letter
            answers = ["".join(answers)]
        asked = [text for text in entry["rephr"] or () if text and text.strip() != "*"]
        read.append((entry["question"], [text for text in answers if text.strip()], asked))
    return read


async def stackfaq_figures(
    encoder: LiveEncoder, entries: Sequence[tuple[str, list[str], list[str]]], what: str
) -> dict[str, Any]:
    """Paraphrases to their entry; ``what`` is "qa", or "answers" for the answers alone."""
    documents = []
    for at, (question, answers, _) in enumerate(entries):
        if what == "qa":
            lines = "".join(json.dumps({"question": question, "answer": one}) + "\n" for one in answers)
            documents.append(Document(id=f"faq-{at}", text=lines, format=DocumentFormat.QUESTIONS_JSONL))
            continue
        documents += [
            Document(id=f"faq-{at}:{place}", text=one, format=DocumentFormat.TEXT)
            for place, one in enumerate(answers)
        ]
    asked = [(f"faq-{at}", text) for at, (_, _, texts) in enumerate(entries) for text in texts]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "knowledge.db"
        indexed = await index_documents(encoder, file, documents)
        hits, times = await found_for(encoder, file, [text for _, text in asked], "en", 30)
    ranks = [
        rank_of(wanted, (hit.passage.document_id.partition(":")[0] for hit in found))
        for (wanted, _), found in zip(asked, hits, strict=True)
    ]
    figures = rank_figures(ranks)
    least_r1, least_mrr = GATES[what]
    holds = figures["r_at_1"] >= least_r1 and figures["mrr"] >= least_mrr
    return {"what": what, **indexed, **figures, "holds": holds, **times}


def times(wall_s: Sequence[float], cpu_s: Sequence[float]) -> dict[str, float]:
    """Quantiles of wall and CPU time, in milliseconds."""
    return {
        "wall_p50_ms": float(np.quantile(wall_s, 0.5)) * 1e3,
        "wall_p99_ms": float(np.quantile(wall_s, 0.99)) * 1e3,
        "cpu_p50_ms": float(np.quantile(cpu_s, 0.5)) * 1e3,
        "cpu_p99_ms": float(np.quantile(cpu_s, 0.99)) * 1e3,
    }


def say(text: str) -> None:
    """Tell what is being done."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
