"""What is wrong with a shop's data: one error type that names the file, the line and the way out.

Loaders never let a library's exception through: whoever reads the message is
a person with a file open in front of them, so it always says where and what to do.
"""

from __future__ import annotations

from pathlib import Path


class DataError(ValueError):
    """A data file, or what follows from it, cannot be used as it is.

    Args:
        path: the file, or None where the fault belongs to no single file.
        what: what is wrong, with the offending value.
        hint: what to do about it.
        line: 1-based physical line (text) or row (Parquet), where one is to blame.
    """

    def __init__(self, path: Path | str | None, what: str, *, hint: str, line: int | None = None) -> None:
        where = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(f"{where}{what}; {hint}")
        self.path = None if path is None else Path(path)
        self.line = line
        self.what = what
        self.hint = hint
