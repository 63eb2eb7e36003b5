"""The sample shop's pages by section, and the questions about them whose section is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import build_engines.data
from server.knowledge_domain import Passage

DATA = Path(build_engines.data.__file__).parent


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question, and the section that answers it."""

    text: str
    document: str
    heading: str


def shop_passages() -> list[Passage]:
    """One passage a section, as the server cuts pages of this size."""
    return [
        passage
        for file in sorted((DATA / "sample_pages").glob("*/*.md"))
        for passage in _sections(
            file.read_text(encoding="utf-8"), f"{file.parent.name}/{file.name}", file.parent.name
        )
    ]


def _sections(page: str, document_id: str, language: str) -> list[Passage]:
    title = page.split("\n", 1)[0].removeprefix("# ")
    found: list[Passage] = []
    at = page.index("\n## ") + 1
    while at > 0:
        after = page.find("\n## ", at) + 1
        section = page[at : after or len(page)]
        heading, _, body = section.partition("\n")
        text = body.strip()
        start = at + len(heading) + 1 + body.index(text)
        found.append(
            Passage(
                document_id=document_id,
                ordinal=len(found),
                title=title,
                headings=(title, heading.removeprefix("## ")),
                anchor="",
                url="",
                question="",
                text=text,
                start=start,
                end=start + len(text),
                language=language,
            )
        )
        at = after
    return found


def labelled_questions(language: str) -> list[LabelledQuestion]:
    """The questions of ``sample_questions.jsonl`` that a page answers."""
    lines = (DATA / "sample_questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        LabelledQuestion(one["question"], one["document"], one["heading"])
        for one in map(json.loads, lines)
        if one["kind"] == "page" and one["language"] == language
    ]
