"""One setting: what it says of itself, how its text becomes a value, and when that value is refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

PREFIX = "VITRINE_"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def setting(
    default: Any,
    about: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A field with its meaning and range."""
    metadata = {"about": about, "low": low, "high": high, "choices": choices, "secret": secret}
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


def read_keys(path: Path) -> tuple[str, ...]:
    """Keys of a file, one a line; ``#`` begins a comment.

    Raises:
        ValueError: it cannot be read, or holds none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{PREFIX}API_KEYS_FILE: cannot read {path}: {error}") from error
    keys = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
    if not keys:
        raise ValueError(f"{PREFIX}API_KEYS_FILE: {path} holds no key; one a line is needed")
    return keys


def parse(name: str, kind: str, text: str) -> Any:
    """A value of the field's type.

    Raises:
        ValueError: it cannot be read as one; names the setting.
    """
    try:
        if kind == "bool":
            lowered = text.strip().lower()
            if lowered not in _TRUE | _FALSE:
                raise ValueError("not one of true, false, 1, 0, yes, no, on, off")
            return lowered in _TRUE
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
    except ValueError as error:
        raise ValueError(f"{name}: cannot read {text!r} as {kind}: {error}") from error
    if kind == "Path":
        return Path(text)
    if kind == "Path | None":
        return Path(text) if text else None
    if kind == "tuple[str, ...]":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def check_range(spec: dataclasses.Field[Any], value: Any) -> None:
    """Refuse a value that is out of its field's range.

    Raises:
        ValueError: says the range.
    """
    name = PREFIX + spec.name.upper()
    low, high, choices = spec.metadata["low"], spec.metadata["high"], spec.metadata["choices"]
    if choices and value not in choices:
        raise ValueError(f"{name} is {value!r}, must be one of {', '.join(choices)}")
    if low is not None and not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} is {value!r}, must be within {low:g} .. {high:g}")
