"""TOML tables into frozen dataclasses: every key known, every value of its type, every error with its place.

A key that nobody reads is a wish that nobody hears, so an unknown one is an error that names the nearest
known key. Ranges stand in one table, ``recipe_limits``; what values say of each other is the dataclasses' own business
(``__post_init__`` raises ``ValueError``), and the place is added here.

An array of tables (``[[compress]]``) is a tuple of a dataclass that reads its entries itself (``EntryReader``), because what
fields an entry has depends on it. Entries are counted from 0, as ``--set compress.0.key=value`` does.

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
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import msgspec

from build_engines.errors import RecipeError
from build_engines.recipe_limits import LIMITS

T = TypeVar("T")
RECIPE_VERSION = 1  # goes up when an old builder would read a recipe as something else than it says
SEARCH = "search"  # section of ``build_engines.search``
ARRAYS = ("compress",)  # keys of arrays of tables
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


def read_table(file: Path) -> tuple[dict[str, Any], str]:
    """A TOML file as a table with all its sections, and its text.

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
        table = tomllib.loads(text)
    except _NOT_TOML as error:
        raise RecipeError(f"{file}: is not TOML: {error}") from error
    _refuse_newer(file, table.pop("recipe_version", RECIPE_VERSION))
    return table, text


def parse_toml(file: Path) -> tuple[dict[str, Any], str]:
    """A recipe as a table, and its text; what ``search`` varies is left out: a build is of what the file says otherwise.

    Raises:
        RecipeError: it cannot be read, or is not TOML; names the line.
    """
    table, text = read_table(file)
    table.pop(SEARCH, None)
    return table, text


def _refuse_newer(file: Path, version: object) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RecipeError(f"{file}: recipe_version is {version!r}, must be a whole number of 1 or more")
    if version > RECIPE_VERSION:
        raise RecipeError(
            f"{file}: recipe_version is {version}, this builder reads up to {RECIPE_VERSION}: the recipe is for a newer "
            "builder; upgrade vitrine here, or write the recipe for this one and leave the key out"
        )


@runtime_checkable
class EntryReader(Protocol):
    """A dataclass that is an entry of an array of tables."""

    @classmethod
    def from_table(cls, table: Mapping[str, Any], origin: Origin, key: str) -> Self:
        """Read an entry; raises ``RecipeError``."""
        ...


def apply_sets(table: dict[str, Any], sets: Sequence[str]) -> frozenset[str]:
    """Write ``a.b=value`` settings into ``table``; a value that is not TOML is taken as text.

    A whole number behind the name of an array of tables is one of its entries, counted from 0; the one behind the last is a
    new one.

    Returns:
        The dotted keys that were set.

    Raises:
        RecipeError: a setting has no ``=``, goes through a key that is no table, or names an entry that is not there.
    """
    keys = set()
    for setting in sets:
        dotted, equals, text = setting.partition("=")
        *parents, last = path = dotted.strip().split(".")
        if not equals or not all(path):
            raise RecipeError(f"--set {setting!r}: write it as section.key=value")
        place: Any = table
        for name, below in zip(parents, path[1:], strict=True):
            place = _below(setting, place, name, below)
        if isinstance(place, list):
            raise RecipeError(f"--set {setting!r}: name a key of the entry, {dotted.strip()}.key=value")
        place[last] = _value(text.strip())
        keys.add(".".join(path))
    return frozenset(keys)


def _below(setting: str, place: Any, name: str, below: str) -> Any:
    if isinstance(place, list):
        number = int(name) if name.isdecimal() else -1
        if not 0 <= number <= len(place):
            there = (
                f"0 to {len(place) - 1}, and {len(place)} is a new one"
                if place
                else "none, and 0 is a new one"
            )
            raise RecipeError(f"--set {setting!r}: {name!r} is no entry; there are {there}")
        if number == len(place):
            place.append({})
        found = place[number]
    else:
        found = place.setdefault(name, [] if name in ARRAYS and below.isdecimal() else {})
    if not isinstance(found, dict | list):
        raise RecipeError(f"--set {setting!r}: {name!r} is a value, not a section")
    return found


def decode(kind: type[T], table: object, origin: Origin, key: str = "", *, what: str = "") -> T:
    """One table as one frozen dataclass; fields that are dataclasses are sub-tables.

    Args:
        kind: the dataclass.
        table: what TOML gave.
        origin: for messages and paths.
        key: dotted key of the table; empty for the whole file.
        what: what it is beside its key, for messages.

    Raises:
        RecipeError: an unknown or missing key, a value of another type, or one out of range; names the place.
    """
    if not isinstance(table, Mapping):
        raise RecipeError(f"{origin.place(key)} is {table!r}, must be a section with keys")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    for name in table:
        if name not in fields:
            raise RecipeError(_unknown(name, list(fields), origin, key) + (f" ({what})" if what else ""))
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
        raise RecipeError(f"{origin.section(key)}{f' ({what})' if what else ''}: {error}") from error


def _field(hint: Any, value: object, origin: Origin, key: str) -> object:
    entry = next(iter(typing.get_args(hint)), None) if typing.get_origin(hint) is tuple else None
    if isinstance(entry, type) and isinstance(entry, EntryReader):
        return _entries(entry, value, origin, key)
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


def _entries(kind: EntryReader, value: object, origin: Origin, key: str) -> tuple[object, ...]:
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise RecipeError(f"{origin.place(key)} is {value!r}; write each of its entries under [[{key}]]")
    return tuple(
        kind.from_table(table, origin, _join(key, str(number))) for number, table in enumerate(value)
    )


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
