"""Which line a recipe is for, before anything of that line is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from build_engines.errors import RecipeError
from build_engines.recipe import find_recipe
from build_engines.recipe_toml import parse_toml

Kind = Literal["recommender", "text", "encoder", "own", "rerank"]

_NAMED: tuple[Kind, ...] = ("text", "encoder", "own", "rerank")


def recipe_kind(file: Path) -> Kind:
    """The kind of a recipe file, or of the built-in one of that name.

    Raises:
        RecipeError: it is missing, not TOML, or of a kind that is not known.
    """
    file = find_recipe(file)
    kind = parse_toml(file)[0].get("kind")
    for known in _NAMED:
        if kind == known:
            return known
    if kind is not None:
        raise RecipeError(
            f'{file}: kind is {kind!r}; write kind = "text" for a text model, kind = "encoder" for a sentence encoder, '
            'kind = "own" for a model of your own, kind = "rerank" for a re-ranker, and leave it out for a recommender'
        )
    return "recommender"
