"""TOML tables into frozen dataclasses: every key known, every value of its type, every error with its place.

A key that nobody reads is a wish that nobody hears, so an unknown one is an error that names the nearest
known key. Ranges stand in one table, ``recipe_limits``; what values say of each other is the dataclasses' own business
(``__post_init__`` raises ``ValueError``), and the place is added here.

Paths in a file are relative to that file; paths in a ``--set`` are relative to where the command was typed.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from build_engines.errors import RecipeError
from build_engines.recipe_limits import LIMITS

T = TypeVar("T")
_NOT_TOML = (
    ValueError,
    RecursionError,
)  # beside TOMLDecodeError: a number of 5,000 digits, brackets 1,000 deep


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where values come from, for messages and for relative paths.

    Attributes:
        file: the recipe.
        set_keys: dotted keys given by ``--set``.
    """

    file: Path
    set_keys: frozenset[str] = frozenset()

    def place(self, key: str) -> str:
        """How to name a key to a person."""
        return f"--set {key}" if key in self.set_keys else f"{self.file}: {key}"

    def section(self, key: str) -> str:
        """How to name a section whose values do not go together, with the settings that had a part in it."""
        sets = sorted(name for name in self.set_keys if name.startswith(f"{key}.") or not key)
        return f"{self.file}: {key or 'recipe'}{' with --set ' + ', '.join(sets) if sets else ''}"

    def path(self, key: str, value: str) -> Path:
        """A path as whoever wrote it meant it."""
        path = Path(value).expanduser()
        return path if path.is_absolute() or key in self.set_keys else self.file.parent / path


def parse_toml(file: Path) -> tuple[dict[str, Any], str]:
    """A TOML file as a table, and its text.

    Raises:
        RecipeError: it cannot be read, or is not TOML; names the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{file}: cannot be read ({error.strerror}); name a recipe file") from error
    try:
        return tomllib.loads(text), text
    except _NOT_TOML as error:
        raise RecipeError(f"{file}: is not TOML: {error}") from error


def apply_sets(table: dict[str, Any], sets: Sequence[str]) -> frozenset[str]:
    """Write ``a.b=value`` settings into ``table``; a value that is not TOML is taken as text.

    Returns:
        The dotted keys that were set.

    Raises:
        RecipeError: a setting has no ``=``, or goes through a key that is no table.
    """
    keys = set()
    for setting in sets:
        dotted, equals, text = setting.partition("=")
        *parents, last = path = dotted.strip().split(".")
        if not equals or not all(path):
            raise RecipeError(f"--set {setting!r}: write it as section.key=value")
        place = table
        for name in parents:
            place = place.setdefault(name, {})
            if not isinstance(place, dict):
                raise RecipeError(f"--set {setting!r}: {name!r} is a value, not a section")
        place[last] = _value(text.strip())
        keys.add(".".join(path))
    return frozenset(keys)


def decode(kind: type[T], table: object, origin: Origin, key: str = "") -> T:
    """One table as one frozen dataclass; fields that are dataclasses are sub-tables.

    Args:
        kind: the dataclass.
        table: what TOML gave.
        origin: for messages and paths.
        key: dotted key of the table; empty for the whole file.

    Raises:
        RecipeError: an unknown or missing key, a value of another type, or one out of range; names the place.
    """
    if not isinstance(table, Mapping):
        raise RecipeError(f"{origin.place(key)} is {table!r}, must be a section with keys")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    for name in table:
        if name not in fields:
            raise RecipeError(_unknown(name, list(fields), origin, key))
    values = {name: _field(hints[name], value, origin, _join(key, name)) for name, value in table.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise RecipeError(f"{origin.place(_join(key, name))} is missing; it has no default")
    for name, limit in LIMITS.get(kind, {}).items():
        fault = limit.fault(values.get(name))
        if fault is not None:
            raise RecipeError(f"{origin.place(_join(key, name))} {fault}")
    try:
        return kind(**values)
    except ValueError as error:
        raise RecipeError(f"{origin.section(key)}: {error}") from error


def _field(hint: Any, value: object, origin: Origin, key: str) -> object:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if dataclasses.is_dataclass(option) and isinstance(option, type) and isinstance(value, Mapping):
            return decode(option, value, origin, key)
        if option is Path:
            if not isinstance(value, str) or not value:
                raise RecipeError(f"{origin.place(key)} is {value!r}, must be a path in quotes")
            return origin.path(key, value)
    if all(dataclasses.is_dataclass(option) or option is types.NoneType for option in options):
        raise RecipeError(f"{origin.place(key)} is {value!r}, must be a section with keys")
    try:
        return msgspec.convert(value, type=hint)
    except (msgspec.ValidationError, OverflowError) as error:
        raise RecipeError(f"{origin.place(key)} is {value!r}: {error}") from error


def _unknown(name: str, known: list[str], origin: Origin, key: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"{origin.place(_join(key, name))} is not known; {hint}"


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except _NOT_TOML:
        return text
