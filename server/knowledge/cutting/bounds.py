"""How much structure a document may have, so that cutting one takes seconds whatever it holds, and changes of others do not wait.

Each step of cutting is linear in the characters, but what a character costs grows with what it means: a line of a quote in a
quote is looked at once for each of them, a tag costs a hundred letters. So lines, cells, tags and nesting have bounds of their
own beside that of the bytes. A usual page of 4 MiB keeps far within them.
"""

from __future__ import annotations

from server.errors import InvalidRequest

MOST_LINES = 100_000
MOST_CELLS = 150_000  # of Markdown tables: signs that part cells
MOST_TOKENS = 300_000  # of HTML: tags, comments, and the texts between them
MOST_NESTING = 10  # of quotes (one each) and lists (two each) in each other; what lies deeper is text


def check_lines(text: str) -> None:
    """Hold a Markdown or plain text against the bounds.

    Raises:
        InvalidRequest: says what there is too much of, how much there may be, and what to do.
    """
    _within("lines", text.count("\n") + text.count("\r"), MOST_LINES)


def check_cells(text: str) -> None:
    """Hold the tables of a Markdown text against the bounds; raises as ``check_lines`` does."""
    _within("signs | of tables", text.count("|"), MOST_CELLS)


def check_tokens(count: int) -> None:
    """Hold the tags of an HTML page against the bounds; raises as ``check_lines`` does."""
    _within("tags and texts between them", count, MOST_TOKENS)


def _within(what: str, count: int, most: int) -> None:
    if count > most:
        raise InvalidRequest(
            f"text has {count} {what}; {most} at most: put it in as several documents",
            field="text",
            limit=f"{most} {what}",
        )
