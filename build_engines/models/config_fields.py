"""A JSON object of a checkpoint that knows how to complain: every refusal names file, field and value."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from build_engines.errors import BuildError

SMALL_SIZES = (
    "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "n_layers", "n_heads", "type_vocab_size"
)  # fmt: skip
LARGEST = 1 << 24  # of any size: beyond it is no model but a broken file


class ConfigFields:
    """A JSON object and the file that it came from.

    Args:
        path: the file, for messages.
        values: the object.
        prefix: where it is inside the file, "rope_scaling.".
    """

    def __init__(self, path: Path, values: Mapping[str, Any], prefix: str = "") -> None:
        self.path, self._values, self._prefix = path, values, prefix

    def get(self, name: str) -> Any:
        """The value, or None."""
        return self._values.get(name)

    def names(self) -> tuple[str, ...]:
        """Fields that are there."""
        return tuple(self._values)

    def refuse(self, name: str, why: str) -> NoReturn:
        """Raise BuildError with file, field and value."""
        raise BuildError(f"{self.path}: {self._prefix}{name} = {json.dumps(self.get(name))[:200]}: {why}")

    def must_be(self, name: str, wanted: object, *, hint: str = "") -> None:
        """Refuse any value but this one; a field that is not there is that value."""
        value = self.get(name)
        if value is not None and value != wanted:
            self.refuse(name, hint or f"not supported, only {json.dumps(wanted)} is")

    def one_of(self, name: str, known: tuple[str, ...], default: str | None = None) -> str:
        """A word that is known."""
        value = self.get(name) if name in self._values else default
        if value not in known:
            self.refuse(name, f"not supported, there are {', '.join(known)}")
        return str(value)

    def flag(self, name: str) -> bool:
        """A switch; false where it is not there."""
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            self.refuse(name, "must be true or false")
        return bool(value)

    def size(self, name: str, default: int | None = None) -> int:
        """A whole number of 1 or more, within reason."""
        value = self.get(name)
        value = default if value is None else value
        most = 4096 if name in SMALL_SIZES else LARGEST
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            self.refuse(name, f"must be a whole number in 1..{most}")
        return int(value)

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            self.refuse(name, "must be a number above 0")
        return float(value)


def read_json(path: Path) -> Mapping[str, Any]:
    """A file that holds one JSON object.

    Raises:
        BuildError: it cannot be read or is something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BuildError(f"{path}: cannot be read ({error.strerror}); name a checkpoint folder") from error
    except (ValueError, RecursionError) as error:
        raise BuildError(f"{path}: is not JSON ({error}); fetch the checkpoint again") from error
    if not isinstance(value, dict):
        raise BuildError(f"{path}: is not a JSON object; fetch the checkpoint again")
    return value
