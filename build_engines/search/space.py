"""From a point of the search space to what ``--set`` would say; knows names and values, and no recipe.

Names of parameters are stable: a study that was begun yesterday goes on today.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from build_engines.search.part import ChainStep, SearchPart, Vary


class Suggests(Protocol):
    """What is asked for values: a trial of optuna, or a test's own."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of them."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number."""
        ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number."""
        ...


def suggested_sets(trial: Suggests, part: SearchPart) -> tuple[str, ...]:
    """Settings of one candidate, as ``--set`` takes them."""
    sets = [f"{vary.set}={toml_value(_value(trial, vary.set, vary))}" for vary in part.vary]
    if part.chain:
        sets.append(f"compress={toml_value(_chain(trial, part))}")
    return tuple(sets)


def toml_value(value: Any) -> str:
    """A value as TOML on one line.

    Raises:
        TypeError: TOML has no such value on a line (a date is none that a recipe takes).
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{json.dumps(str(key))} = {toml_value(one)}" for key, one in value.items()) + "}"
        )
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml_value(one) for one in value) + "]"
    raise TypeError(f"{value!r} is a {type(value).__name__}; a recipe takes none")


def _chain(trial: Suggests, part: SearchPart) -> list[dict[str, Any]]:
    taken: list[tuple[float, int, ChainStep]] = []
    for number, step in enumerate(part.chain):
        name = f"chain.{number}.{step.step}"
        if not step.always and not trial.suggest_categorical(f"{name}.taken", (True, False)):
            continue
        place = float(number)
        if part.orders == "any":
            place = float(trial.suggest_int(f"{name}.place", 0, len(part.chain) - 1))
        taken.append((place, number, step))
    entries = []
    for _, number, step in sorted(taken, key=lambda one: one[:2]):
        varied = {
            vary.set: _value(trial, f"chain.{number}.{step.step}.{vary.set}", vary) for vary in step.vary
        }
        entries.append({"step": step.step, **step.options, **varied})
    return entries


def _value(trial: Suggests, name: str, vary: Vary) -> Any:
    if vary.choices:
        # By place: a database keeps numbers and words, and a choice may be a list of steps.
        return vary.choices[trial.suggest_categorical(f"{name} (of {len(vary.choices)})", range_of(vary))]
    low, high = vary.low, vary.high
    assert low is not None and high is not None, "Vary has choices or a range"
    if isinstance(low, int) and isinstance(high, int) and isinstance(vary.step, int):
        return trial.suggest_int(name, low, high, step=vary.step or 1, log=vary.log)
    return trial.suggest_float(name, float(low), float(high), step=float(vary.step) or None, log=vary.log)


def range_of(vary: Vary) -> tuple[int, ...]:
    """Places of the choices."""
    return tuple(range(len(vary.choices)))
