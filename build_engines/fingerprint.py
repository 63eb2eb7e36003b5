"""Digests of everything a stage depends on: its part of the recipe, our code, installed packages.

Code is hashed by its syntax tree without docstrings, so that a comment, a docstring or a formatter never
makes a shop train again.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from build_engines.errors import BuildError


def digest_of(facts: object) -> str:
    """Hex SHA-256 of plain values, dataclasses and paths (by name: a folder may move)."""
    return hashlib.sha256(msgspec.json.encode(plain(facts), order="deterministic")).hexdigest()


def plain(facts: object) -> Any:
    """The same facts as JSON knows them."""
    return msgspec.to_builtins(facts, enc_hook=_name_of, str_keys=True)


def code_digest(modules: Sequence[str]) -> str:
    """Hex SHA-256 of what modules and packages (with all below them) do.

    Raises:
        BuildError: a module is not there.
    """
    digest = hashlib.sha256()
    for name in sorted(modules):
        for path in _sources(name):
            tree = ast.parse(path.read_bytes())
            _drop_docstrings(tree)
            digest.update(f"{name}\0{path.name}\0{ast.dump(tree)}\0".encode())
    return digest.hexdigest()


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions; "absent" for what is not installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _name_of(value: object) -> Any:
    if isinstance(value, Path):
        return value.name
    raise NotImplementedError(f"a recipe part holds a {type(value).__name__}, which has no digest")


def _sources(name: str) -> Iterator[Path]:
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None or (found.origin is None and not found.submodule_search_locations):
        raise BuildError(f"module {name} is not installed: reinstall vitrine")
    if found.submodule_search_locations:
        for folder in found.submodule_search_locations:
            yield from sorted(Path(folder).rglob("*.py"))
    elif found.origin is not None:
        yield Path(found.origin)


def _drop_docstrings(tree: ast.AST) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
