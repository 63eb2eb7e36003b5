"""Customer service under load: how long a whole answer takes with 10,000 passages, what it costs, and what all of it weighs.

    python -m bench.support_speed          alone, in under three minutes once the passages have been made

A real server with everything of the sample shop (recommender, text model, encoder) beside a knowledge file of its own, the real
load tester in another process with an open loop, and the sample shop's 200 questions in both languages. The knowledge file
holds the shop's pages and as many more made of their sentences as make 10,000 passages; it is filled once, which takes minutes,
and kept under ``--out``. Latency counts from the intended send time. CPU is the server's whole process tree.

Units: milliseconds and MiB where a name says so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import serving
from bench.shop_pages import DATA, shop_documents
from server.artifacts.repository import current_version
from server.knowledge.document_limits import DEFAULT_MAX_TEXT_BYTES, DocumentLimits
from server.knowledge.store import KnowledgeStore
from server.knowledge_domain import Document
from server.pipelines.live_encoder import open_encoder

Json = dict[str, Any]
RECOMMENDER, ENCODER = "sample-shop", "sample-support"
PASSAGES, SECTIONS = 10_000, 10  # in all; of a made page
RATE_RPS, SLO_MS, HIGHEST_MS = 50, 15, 50
# Whatever was found is quoted: what is timed is the whole way to an answer by quotes, not a handover's.
ALL_QUOTED = {"VITRINE_SUPPORT_ANSWER_THRESHOLD": "0"}
LEARNT_AT_ONCE = 250  # documents between two looks at how many passages there are
PATH = "/v1/customer-service"
PRODUCTS = {
    "en": (
        [
            "oak",
            "walnut",
            "linen",
            "wool",
            "steel",
            "ceramic",
            "leather",
            "cotton",
            "bamboo",
            "glass",
            "marble",
            "velvet",
            "copper",
            "rattan",
            "pine",
            "cork",
        ],
        [
            "desk",
            "lamp",
            "chair",
            "sofa",
            "kettle",
            "blanket",
            "jacket",
            "backpack",
            "headset",
            "keyboard",
            "mirror",
            "shelf",
            "rug",
            "teapot",
            "tent",
            "scooter",
        ],
    ),
    "zh": (
        [
            "橡木",
            "胡桃木",
            "亚麻",
            "羊毛",
            "钢制",
            "陶瓷",
            "皮革",
            "棉质",
            "竹制",
            "玻璃",
            "大理石",
            "天鹅绒",
            "铜制",
            "藤编",
            "松木",
            "软木",
        ],
        [
            "书桌",
            "台灯",
            "椅子",
            "沙发",
            "水壶",
            "毛毯",
            "夹克",
            "背包",
            "耳机",
            "键盘",
            "镜子",
            "书架",
            "地毯",
            "茶壶",
            "帐篷",
            "滑板车",
        ],
    ),
}
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s*(?=\S)")
_NUMBER = re.compile(r"\d+")


def main() -> int:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.support_speed", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument(
        "--repository", type=Path, default=Path("model_repository"), help="with sample-shop, sample-support"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("bench/results/support_speed"), help="default: %(default)s"
    )
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="of the run at 50 requests/s (default: %(default)s)"
    )
    parser.add_argument("--fill-only", action="store_true", help="make the passages, and measure nothing")
    args = parser.parse_args()
    if args.fill_only:
        filled(args.repository, args.out)
        return 0
    results = measure(args.repository, args.out, seconds=args.seconds)
    (args.out / "support_speed.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(markdown(results))
    return 0


def measure(repository: Path, out: Path, *, seconds: float = 15.0) -> Json:
    """Start a server on 10,000 passages and load it.

    Args:
        repository: with the sample shop's models.
        out: folder that keeps the passages.
        seconds: of the run at 50 requests/s.

    Raises:
        RuntimeError: the server or the load tester could not run; holds what it said.
    """
    knowledge = filled(repository, out)
    bodies = out / "questions.jsonl"
    questions = [json.dumps({"messages": [{"role": "user", "content": text}]}) for text in _questions()]
    bodies.write_text("\n".join(questions) + "\n", encoding="utf-8")
    bench = serving.Bench(
        repository,
        bodies,
        seconds=3.0,
        say=_say,
        path=PATH,
        env={"VITRINE_KNOWLEDGE": str(knowledge), **ALL_QUOTED},
    )
    with bench.server(RECOMMENDER) as running:
        _say("warming up, until all passages are read")
        tiers = Counter(str(_ask(body)["served_by"]) for body in questions)
        idle_s = _until_idle(running.pid)
        rss_before = running.rss_mib()
        _say(f"{RATE_RPS} requests/s for {seconds:g} s")
        steady = bench.load(
            "run", "--rate", str(RATE_RPS), "--duration", f"{seconds:g}", "--warmup", "3", pid=running.pid
        )
        _say(f"highest rate with p99 <= {HIGHEST_MS} ms")
        highest = bench.highest(HIGHEST_MS, start=60.0)
        result = steady["result"]
        return {
            "machine": serving.machine(),
            "passages": PASSAGES,
            "tiers": dict(tiers),
            "idle_after_s": idle_s,
            "rate_rps": RATE_RPS,
            "latency_ms": result["latency_ms"],
            "ok_rps": result["ok_rps"],
            "cpu_ms_an_answer": result["used"]["server_cpu_s_per_1000_ok"],
            "foreign_cores": result["used"]["foreign_cores"],
            "highest_rps_50ms": highest,
            "rss_mib": rss_before,
            "rss_mib_after_load": running.rss_mib(),
        }


def markdown(results: Json) -> str:
    """The figures as a table."""
    latency = results["latency_ms"]
    kept = "kept" if (latency["p99"] or 1e9) <= SLO_MS else "not kept"
    rows = [
        (f"p50 at {results['rate_rps']} requests/s", f"{_ms(latency['p50'])} ms"),
        (f"p99 at {results['rate_rps']} requests/s", f"{_ms(latency['p99'])} ms (goal {SLO_MS} ms: {kept})"),
        (f"highest rate with p99 <= {HIGHEST_MS} ms", f"{results['highest_rps_50ms']:.0f} requests/s"),
        ("CPU an answer, all of the server", f"{_ms(results['cpu_ms_an_answer'])} ms"),
        ("memory, everything of the sample shop loaded", f"{results['rss_mib']:.0f} MiB"),
        ("memory after the load", f"{results['rss_mib_after_load']:.0f} MiB"),
        ("answers", ", ".join(f"{count} {tier}" for tier, count in sorted(results["tiers"].items()))),
        ("other work on the machine", f"{results['foreign_cores']:.2f} cores"),
    ]
    lines = [f"| customer service, {results['passages']} passages | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)]) + "\n"


def filled(repository: Path, out: Path) -> Path:
    """The knowledge file, made where it is not there or was made by another encoder."""
    out.mkdir(parents=True, exist_ok=True)
    version = current_version(repository, ENCODER)
    file, done = out / "knowledge.db", out / "knowledge.done"
    mark = f"{ENCODER}/{(repository / ENCODER / version).resolve()} {PASSAGES}"
    if done.exists() and done.read_text(encoding="utf-8") == mark:
        return file
    done.unlink(missing_ok=True)
    asyncio.run(_fill(repository, file))
    done.write_text(mark, encoding="utf-8")
    return file


async def _fill(repository: Path, file: Path) -> None:
    _say(f"making {PASSAGES} passages, once (minutes); an interrupted run is gone on with")
    began = time.monotonic()
    async with open_encoder(repository, ENCODER) as encoder:
        store = KnowledgeStore(file, encoder, DocumentLimits(DEFAULT_MAX_TEXT_BYTES))
        await store.start(follow=False)
        try:
            pages = made_pages()
            passages = 0
            while passages < PASSAGES:
                for _ in range(max(1, min(LEARNT_AT_ONCE, (PASSAGES - passages) // SECTIONS))):
                    await store.put(next(pages))
                _, _, passages, _ = await store.standing()
            async for at, waiting in store.encode_waiting():
                if at % 512 < 64:
                    _say(f"{at} passages encoded, {waiting} to go, {time.monotonic() - began:.0f} s")
        finally:
            await store.close()


def made_pages() -> Iterator[Document]:
    """The shop's own pages, and then as many pages about products as are asked for, of the shop's sentences; seeded."""
    own = shop_documents()
    yield from own
    rng = random.Random(11)
    headings: dict[str, list[str]] = {"en": [], "zh": []}
    sentences: dict[str, list[str]] = {"en": [], "zh": []}
    for page in own:
        for section in _HEADING.split(page.text)[1:][::2]:
            headings[page.language].append(section)
        for body in _HEADING.split(page.text)[::2]:
            plain = re.sub(r"^#.*$", "", body, flags=re.MULTILINE)
            sentences[page.language] += [one for one in _SENTENCE.split(plain.strip()) if len(one) > 8]
    number = 0
    while True:
        number += 1
        language = "en" if number % 2 else "zh"
        what, thing = PRODUCTS[language]
        joint = " " if language == "en" else ""
        name = f"{rng.choice(what)}{joint}{rng.choice(thing)} {rng.choice('ABCDEFGHKLMNPRSTX')}{rng.randrange(100, 1000)}"
        parts = [f"# {name.capitalize()}\n"]
        for heading in rng.sample(headings[language], SECTIONS):
            said = [
                _NUMBER.sub(lambda _: str(rng.randrange(1, 400)), one)
                for one in rng.sample(sentences[language], 4)
            ]
            said.insert(0, f"{heading}: {name}{'.' if language == 'en' else '。'}")
            parts.append(f"## {heading}\n\n{joint.join(said)}\n")
        yield Document(id=f"{language}/products/{number}.md", text="\n".join(parts), language=language)


def _questions() -> list[str]:
    lines = (DATA / "sample_questions.jsonl").read_text(encoding="utf-8").splitlines()
    found = [str(one["question"]) for one in map(json.loads, lines) if one["kind"] == "page"]
    random.Random(5).shuffle(found)
    return found


def _ask(body: str) -> Json:
    request = urllib.request.Request(
        f"http://127.0.0.1:{serving.HTTP}{PATH}", body.encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.load(answer))


def _until_idle(pid: int, within_s: float = 300.0) -> float:
    """Wait until the server does nothing of its own: it reads new passages behind what is live."""
    began = time.monotonic()
    used = _cpu_ticks(pid)
    while time.monotonic() - began < within_s:
        time.sleep(1.0)
        before, used = used, _cpu_ticks(pid)
        if used - before <= 5:
            return time.monotonic() - began
    raise RuntimeError(f"the server was still at work on its own after {within_s:g} s")


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
