"""What files an options object names, by content: a step that reads a teacher is stale when the teacher changes."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any


def named_files(options: Any) -> dict[str, str]:
    """Hex SHA-256 of each file or folder that a field of the options names, by the field; "absent" where there is none."""
    found = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Path):
            found[field.name] = content_digest(value)
    return found


def content_digest(path: Path) -> str:
    """Of a file's bytes, or of the names and bytes of all files in a folder."""
    if not path.exists():
        return "absent"
    digest = hashlib.sha256()
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if one.is_file():
            with one.open("rb") as file:
                name = one.relative_to(path).as_posix()
                digest.update(name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
