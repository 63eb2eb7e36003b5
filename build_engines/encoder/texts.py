"""The texts that an encoder is calibrated and judged on, and the questions whose passages must still be found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from build_engines.data.errors import DataError
from build_engines.data.sample_intents import sample_examples
from build_engines.data.sample_questions import of_kind, sample_questions
from build_engines.encoder.recipe_parts import TextsPart
from build_engines.models.encoder.batches import Ids

SAMPLE_PAGES = Path(__file__).parents[1] / "data" / "sample_pages"
EXAMPLES_PER_INTENT = 12  # of the generated ones, to calibrate on
LEARNT_PER_INTENT = 60  # of other generated ones, for steps of compression to learn from
MOST_LEARNT = 20_000
SHORTEST_CHARS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieval:
    """Questions and the passages that answer them.

    Attributes:
        questions: texts.
        passages: texts, each once.
        answers: of each question, the place of its passage.
    """

    questions: tuple[str, ...] = ()
    passages: tuple[str, ...] = ()
    answers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderTexts:
    """What ``read_texts`` found.

    Attributes:
        calibration, gate: texts, none in both.
        learn: further texts, none of the gate's or the questions: what steps of compression learn from.
        retrieval: see there.
    """

    calibration: tuple[str, ...]
    gate: tuple[str, ...]
    retrieval: Retrieval
    learn: tuple[str, ...] = ()


def read_texts(part: TextsPart) -> EncoderTexts:
    """Read and divide.

    Raises:
        DataError: a file cannot be used, or too little is in it; names file and line.
    """
    if part.sample_shop:
        sections = _sample_sections()
        asked = _sample_retrieval(sections)
        generated = [one.text for one in sample_examples(per_intent=EXAMPLES_PER_INTENT, seed=part.seed + 1)]
        calibration, gate = _divided([*generated, *sections.values()], part)
        judged = list(asked.questions) + [one.question for one in sample_questions() if one.kind != "page"]
        known = set(judged)
        calibration = [text for text in calibration if text not in known]
        gate = [*judged, *gate]
        more = sample_examples(per_intent=LEARNT_PER_INTENT, seed=part.seed + 2)
        calibration += [text for text in dict.fromkeys(one.text for one in more) if text not in calibration]
    else:
        assert part.file is not None, "TextsPart has one source"
        calibration, gate = _divided(_lines(part.file), part)
        asked = read_pairs(part.retrieval) if part.retrieval is not None else Retrieval()
    unseen = {*gate, *asked.questions}
    found = EncoderTexts(
        calibration=tuple(calibration[: part.max_calibration_texts]),
        gate=tuple(gate[: part.max_gate_texts]),
        retrieval=asked,
        learn=tuple(
            text for text in calibration[part.max_calibration_texts :][:MOST_LEARNT] if text not in unseen
        ),
    )
    if len(found.calibration) < 8 or len(found.gate) < 8:
        raise DataError(
            part.file,
            f"{len(found.calibration)} texts are left for calibration and {len(found.gate)} for the gate",
            hint="give at least 8 for each: more texts, or another texts.gate_share",
        )
    return found


def save_ids(path: Path, ids: Sequence[Ids]) -> None:
    """Token ids of texts, in one file."""
    flat = np.concatenate(ids) if ids else np.zeros(0, np.int64)
    with path.open("wb") as file:
        np.savez(file, flat=flat, lengths=np.array([len(one) for one in ids], np.int64))


def load_ids(path: Path) -> list[Ids]:
    """What ``save_ids`` wrote."""
    with np.load(path, allow_pickle=False) as kept:
        flat, lengths = kept["flat"], kept["lengths"]
    ends = np.cumsum(lengths)
    return [flat[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _divided(texts: Sequence[str], part: TextsPart) -> tuple[list[str], list[str]]:
    # A text's side is a hash of it: one more or less moves nobody else, and the order of a file says nothing.
    sides: tuple[list[str], list[str]] = ([], [])
    placed = {
        text: hashlib.sha256(f"{part.seed}/{text}".encode("utf-8", "surrogatepass")).digest()
        for text in texts
    }
    for text, digest in sorted(placed.items(), key=lambda pair: pair[1]):
        sides[int.from_bytes(digest[8:16], "big") / 2**64 < part.gate_share].append(text)
    return sides


def _lines(path: Path) -> list[str]:
    texts = []
    for number, line in enumerate(_read(path).splitlines(), 1):
        text = line.strip()
        if path.suffix in (".jsonl", ".ndjson") and text:
            text = str(_record(path, number, text, ("text",))["text"]).strip()
        if len(text) >= SHORTEST_CHARS:
            texts.append(text)
    return texts


def read_pairs(path: Path) -> Retrieval:
    """JSON lines of ``question`` and ``passage``.

    Raises:
        DataError: it cannot be used, or holds fewer than two passages; names the line.
    """
    questions, answers = [], []
    passages: dict[str, int] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        if line.strip():
            row = _record(path, number, line, ("question", "passage"))
            questions.append(row["question"])
            answers.append(passages.setdefault(row["passage"], len(passages)))
    if len(passages) < 2:
        raise DataError(path, f"holds {len(passages)} passages", hint="give two or more to choose from")
    return Retrieval(questions=tuple(questions), passages=tuple(passages), answers=tuple(answers))


def _record(path: Path, number: int, line: str, names: Sequence[str]) -> Mapping[str, Any]:
    hint = f"write a JSON object with {' and '.join(names)} on each line"
    try:
        row: Mapping[str, Any] = json.loads(line)
    except ValueError as error:
        raise DataError(path, f"is not JSON ({error})", hint=hint, line=number) from error
    for name in names:
        if not isinstance(row, Mapping) or not isinstance(row.get(name), str) or not row[name].strip():
            raise DataError(path, f"has no text {name!r}", hint=hint, line=number)
    return row


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read as UTF-8 ({error})", hint="name a text file") from error


def _sample_sections() -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for path in sorted(SAMPLE_PAGES.glob("*/*.md")):
        place = path.relative_to(SAMPLE_PAGES).as_posix()
        for block in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            heading, _, body = block.partition("\n")
            found[place, heading.strip()] = f"{heading.strip()}\n{body.strip()}"
    return found


def _sample_retrieval(sections: Mapping[tuple[str, str], str]) -> Retrieval:
    keys = {key: place for place, key in enumerate(sections)}
    asked = [
        (one.question, keys[one.document, one.heading])
        for one in of_kind(sample_questions(), "page")
        if (one.document, one.heading) in keys
    ]
    return Retrieval(
        questions=tuple(question for question, _ in asked),
        passages=tuple(sections.values()),
        answers=tuple(answer for _, answer in asked),
    )
