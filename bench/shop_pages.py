"""The sample shop's pages, and the questions about them whose section is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import build_engines.data
from server.knowledge_domain import Document

DATA = Path(build_engines.data.__file__).parent


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question, and the section that answers it."""

    text: str
    document: str
    heading: str


def shop_documents() -> list[Document]:
    """The pages in both languages; ids are their paths, as the questions name them."""
    return [
        Document(
            id=f"{file.parent.name}/{file.name}",
            text=file.read_text(encoding="utf-8"),
            language=file.parent.name,
        )
        for file in sorted((DATA / "sample_pages").glob("*/*.md"))
    ]


def labelled_questions(language: str) -> list[LabelledQuestion]:
    """The questions of ``sample_questions.jsonl`` that a page answers."""
    lines = (DATA / "sample_questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        LabelledQuestion(one["question"], one["document"], one["heading"])
        for one in map(json.loads, lines)
        if one["kind"] == "page" and one["language"] == language
    ]
