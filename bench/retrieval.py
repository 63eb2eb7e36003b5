"""Retrieval: ``python -m bench.retrieval [--encoder FOLDER] [--stackfaq FOLDER] [--passages N]``.

Without an encoder: the scan of N vectors against the exact ranking and against what else there is (recall, time, memory), and
whole searches of a knowledge file of N passages, each in a process of its own, so that memory is that of the search alone.

With ``--encoder`` (the folder of one version): the sample shop's labelled questions by language, and with ``--stackfaq`` the
paraphrases of ``stackExchange-FAQ.json`` to their entry, once with questions and answers indexed and once with the answers
alone.  Nothing is trained or chosen on StackFAQ; ``server/knowledge/ranking.py`` says on what its weights were.

An entry's rank is that of its best passage.  Times are of one thread; wall time is what a request waits, CPU time is what
is left of it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.retrieval_questions import say, times, with_encoder
from bench.retrieval_report import markdown
from server.knowledge.reader import SqliteReader
from server.knowledge.schema import open_to_write
from server.knowledge.search import KnowledgeSearch
from server.knowledge.vectors import Floats, VectorIndex, pack_rows, unit
from server.knowledge.words import indexed_text
from server.knowledge_domain import Passage, SearchAsked

DIM = 384
QUERIES = 400
WARM_UP = 30
CLOSE_VECTORS = 4


def main() -> int:
    """Measure, and write ``retrieval.json`` and ``retrieval.md``."""
    args = _arguments()
    if args.search_file:
        print(json.dumps(_searched(args.search_file)))
        return 0
    results = measure(args.passages, args.encoder, args.stackfaq, args.embed)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "retrieval.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = markdown(results)
    (args.out / "retrieval.md").write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(one.get("holds", True) for one in results.get("stackfaq", [])) else 1


def measure(passages: int, encoder: Path | None, stackfaq: Path | None, embed: int) -> dict[str, Any]:
    """All figures; see the command's arguments of the same names."""
    results: dict[str, Any] = {}
    if passages:
        say(f"scan of {passages} vectors")
        results["scan"] = scan(passages)
        say(f"search of {passages} passages")
        results["search"] = search_many(passages)
    if encoder:
        results.update(asyncio.run(with_encoder(encoder, stackfaq, embed)))
    return results


# -- vectors -----------------------------------------------------------------------------------------------------------


def clustered(count: int, seed: int = 0) -> Floats:
    """Vectors in families of ten, as passages on one subject are; independent ones would have no neighbours to find."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((-(-count // 10), DIM)).astype(np.float32)
    rows = np.repeat(centres, 10, axis=0)[:count]
    for start in range(0, count, 10_000):
        part = rows[start : start + 10_000]
        part += rng.standard_normal(part.shape).astype(np.float32)
    return unit(rows)


def scan(count: int) -> list[dict[str, Any]]:
    """Recall of the ten nearest, time and memory of each way to find them."""
    rows = clustered(count)
    asked = unit(rows[:: max(1, count // QUERIES)][:QUERIES] + clustered(QUERIES, 1))
    exact = [set(np.argpartition(-(rows @ one), 10)[:10].tolist()) for one in asked]
    packed = [pack_rows(row[None]) for row in rows]
    index = VectorIndex(DIM).with_changes(range(count), packed, [])
    found = [
        _timed("signs, then INT8 (served)", lambda one: index.search(one, 10)[0], asked, exact, index.nbytes),
        _timed(
            "float32 product", lambda one: np.argpartition(-(rows @ one), 10)[:10], asked, exact, rows.nbytes
        ),
    ]
    return [*found, *_others(rows, asked, exact)]


def _others(rows: Floats, asked: Floats, exact: list[set[int]]) -> Iterable[dict[str, Any]]:
    """What is installed of the alternatives; none of them is a dependency."""
    codes = np.rint(rows * 127 / np.abs(rows).max(axis=1, keepdims=True)).astype(np.int8)

    def as_code(one: Floats) -> npt.NDArray[np.int8]:
        return np.asarray(np.rint(one * 127 / np.abs(one).max()), np.int8)

    try:
        import numkong

        def all_dots(one: Floats) -> npt.NDArray[np.intp]:
            dots = np.asarray(numkong.cdist(as_code(one)[None], codes, "dot"))[0]
            return np.argpartition(-dots, 10)[:10]

        yield _timed("numkong INT8 products", all_dots, asked, exact, codes.nbytes)
    except ImportError:
        pass
    try:
        from usearch.index import Index

        began_s = time.perf_counter()
        index = Index(ndim=DIM, metric="ip", dtype="i8")
        index.add(np.arange(len(rows)), rows, threads=1)
        built = f"usearch HNSW INT8 (built in {time.perf_counter() - began_s:.0f} s)"
        yield _timed(built, lambda one: index.search(one, 10).keys, asked, exact, int(index.memory_usage))
    except ImportError:
        pass


def _timed(
    name: str,
    search: Callable[[Floats], npt.NDArray[Any]],
    asked: Floats,
    exact: list[set[int]],
    nbytes: int,
) -> dict[str, Any]:
    for one in asked[:WARM_UP]:
        search(one)
    wall_s, cpu_s, hits = [], [], 0
    for one, wanted in zip(asked, exact, strict=True):
        wall, cpu = time.perf_counter(), time.thread_time()
        found = search(one)
        cpu_s.append(time.thread_time() - cpu)
        wall_s.append(time.perf_counter() - wall)
        hits += len(wanted & {int(at) for at in found})
    return {
        "name": name,
        "recall_at_10": hits / (10 * len(asked)),
        "mib": nbytes / 2**20,
        **times(wall_s, cpu_s),
    }


# -- whole searches ----------------------------------------------------------------------------------------------------


def search_many(count: int) -> dict[str, Any]:
    """Search a file of synthetic passages, 50 words of Zipf's distribution each, in a process of its own."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "knowledge.db"
        rows, rng = clustered(count), np.random.default_rng(3)
        words, odds = _vocabulary()

        def passages() -> Iterable[tuple[Passage, Floats, Floats]]:
            for at in range(count):
                text = " ".join(words[rng.choice(len(words), size=50, p=odds)])
                close = unit(rows[at] + rng.standard_normal((CLOSE_VECTORS, DIM)).astype(np.float32) / 20)
                yield _passage(text, document_id=f"page-{at}"), rows[at : at + 1], close

        began_s = time.perf_counter()
        fill(file, passages())
        filled_s = time.perf_counter() - began_s
        command = [sys.executable, "-m", "bench.retrieval", "--search-file", str(file)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {
            "passages": count,
            "file_mib": file.stat().st_size / 2**20,
            "filled_s": filled_s,
            **json.loads(told),
        }


def _vocabulary() -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float64]]:
    odds = 1 / np.arange(1, 50_001)
    return np.array([f"w{at:x}" for at in range(len(odds))]), odds / odds.sum()


def _searched(file: Path) -> dict[str, Any]:
    words, odds = _vocabulary()
    rng = np.random.default_rng(5)
    asked = [
        (" ".join(words[rng.choice(len(words), size=9, p=odds)]), vector)
        for vector in unit(clustered(QUERIES + WARM_UP, 4))
    ]
    before = _resident_mib()

    async def run() -> dict[str, Any]:
        search = KnowledgeSearch(lambda: SqliteReader(file))
        began_s = time.perf_counter()
        await search.start()
        started_s = time.perf_counter() - began_s
        times_s = []
        cpu_s = time.process_time()
        for text, vector_D in asked:
            times_s.append((await search.search(SearchAsked(text=text, vector_D=vector_D))).search_s)
        cpu_s = (time.process_time() - cpu_s) / len(asked)
        vectors_mib = search.nbytes / 2**20
        await search.close()
        return {"start_s": started_s, "cpu_mean_ms": cpu_s * 1e3, "vectors_mib": vectors_mib} | {
            key: value for key, value in times(times_s[WARM_UP:], [0.0]).items() if key.startswith("wall")
        }

    found = asyncio.run(run())
    return {**found, "mib": _resident_mib() - before}


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _passage(
    text: str, *, document_id: str, ordinal: int = 0, question: str = "", title: str = ""
) -> Passage:
    return Passage(
        document_id=document_id,
        ordinal=ordinal,
        title=title or document_id,
        headings=(),
        anchor="",
        url="",
        question=question,
        text=text,
        start=0,
        end=len(text),
        language="en",
    )


def fill(file: Path, passages: Iterable[tuple[Passage, Floats, Floats]], dim: int = DIM) -> None:
    """Write passages with their vectors into a new knowledge file, in one transaction and without its documents' texts."""
    db = open_to_write(file)
    db.execute("PRAGMA foreign_keys = OFF")  # documents come last
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO encoders VALUES (1, 'bench/1', ?)", (dim,))
    db.execute("UPDATE state SET epoch = 2, encoder = 1")
    keys: dict[str, int] = {}
    counts: dict[str, int] = {}
    for one, scan_1D, close_SD in passages:
        key = keys.setdefault(one.document_id, len(keys) + 1)
        counts[one.document_id] = counts.get(one.document_id, 0) + 1
        headings, heads = json.dumps(one.headings), (one.title, *one.headings, one.question)
        at = db.execute(
            "INSERT INTO passages (document, ordinal, epoch, encoder, title, headings, anchor, url, question, starts, ends, "
            "language, text, scan, close) VALUES (?, ?, 2, 1, ?, ?, '', '', ?, ?, ?, ?, ?, ?, ?)",
            (
                *(
                    key,
                    one.ordinal,
                    one.title,
                    headings,
                    one.question,
                    one.start,
                    one.end,
                    one.language,
                    one.text,
                ),
                *(pack_rows(scan_1D), pack_rows(close_SD)),
            ),
        ).lastrowid
        kept = (indexed_text("\n".join(dict.fromkeys(heads))), indexed_text(one.text))
        db.execute("INSERT INTO word_index (rowid, head, body) VALUES (?, ?, ?)", (at, *kept))
    db.executemany(
        "INSERT INTO documents VALUES (?, ?, 1, 2, '', 'text', '', 'en', '', '{}', ?, 0, 0, '')",
        ((key, name, counts[name]) for name, key in keys.items()),
    )
    db.execute("COMMIT")
    db.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.retrieval", description=__doc__)
    parser.add_argument("--encoder", type=Path, help="folder of one published version of a sentence encoder")
    parser.add_argument("--stackfaq", type=Path, help="folder with stackExchange-FAQ.json")
    parser.add_argument(
        "--passages", type=int, default=100_000, help="0: leave them out; default: %(default)s"
    )
    parser.add_argument("--embed", type=int, default=1000, help="passages to encode; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("bench/results"), help="default: %(default)s")
    parser.add_argument("--search-file", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
