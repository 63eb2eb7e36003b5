"""What a recipe says about searching ([search]): what may vary, what must hold, how cheaply to look first.

    [search]
    trials = 24

    [search.objective]                 # in the shop's words
    p99_ms = 10
    at_requests_per_s = 300
    max_loss = 0.01
    take = "smallest"

    [[search.vary]]
    set = "network.dim"
    choices = [32, 64]

    [[search.chain]]                   # a step of [[compress]] that may be taken
    step = "prune_inner"
    vary = [{ set = "keep", choices = [64, 128] }]

    [[search.rungs]]                   # cheap before dear; the last, in full, is always there
    set = { "train.epochs" = 2 }
    examples = 1000
    keep = 0.4

``run`` builds what the rest of the file says and does not read this section.

Units: as the names say; losses are relative to the reference (the recipe as it stands, uncompressed).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from build_engines.errors import RecipeError
from build_engines.recipe import find_recipe
from build_engines.recipe_toml import SEARCH, read_table

Take = Literal["smallest", "fastest", "best", "least_memory"]
Orders = Literal["listed", "any"]
MOST = 64


def _positive(part: Any, name: str) -> None:
    value = getattr(part, name)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}; use more than 0")


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Objective(_Part, frozen=True, kw_only=True):
    """What must hold, and what is best of what holds ([search.objective]).

    Attributes:
        max_loss: of the gate's metric to the reference; 0.01 is 1 %.
        decided: the whole interval of the loss must be within ``max_loss``, not the figure alone.
        p99_ms: of requests at ``at_requests_per_s``; None: any.
        at_requests_per_s: how many requests (texts; of a text model, decode steps) arrive a second.
        max_size_mb: engine and tables, MB of 10^6 bytes; None: any.
        max_memory_mb: what loading adds to a server; None: any.
        take: of all that holds.
        batch_sizes: at which engines are timed; the largest is the largest batch at the rate.
    """

    max_loss: float = 0.01
    decided: bool = True
    p99_ms: float | None = None
    at_requests_per_s: float = 100.0
    max_size_mb: float | None = None
    max_memory_mb: float | None = None
    take: Take = "smallest"
    batch_sizes: tuple[int, ...] = (1, 8)

    def __post_init__(self) -> None:
        """Check the ranges."""
        _positive(self, "at_requests_per_s")
        for name in ("p99_ms", "max_size_mb", "max_memory_mb"):
            if getattr(self, name) is not None:
                _positive(self, name)
        if not 0 <= self.max_loss <= 1:
            raise ValueError(f"max_loss is {self.max_loss}; use 0 to 1 (0.01 is 1 %)")
        if not self.batch_sizes or min(self.batch_sizes) < 1 or len(self.batch_sizes) > MOST:
            raise ValueError(f"batch_sizes are {self.batch_sizes}; give 1 to {MOST}, each 1 or more")


class Vary(_Part, frozen=True, kw_only=True):
    """One key that may vary ([[search.vary]]).

    Attributes:
        set: "section.key" as in ``--set``; in a chain's step, the step's own key.
        choices: values, of any kind that TOML knows (a whole list of steps, too).
        low, high: a range of numbers instead; whole numbers where both are whole.
        step: of the range; 0: whole numbers by 1, others anything between.
        log: spread evenly in the logarithm.
    """

    set: str
    choices: tuple[Any, ...] = ()
    low: float | int | None = None
    high: float | int | None = None
    step: float | int = 0
    log: bool = False

    def __post_init__(self) -> None:
        """Check that there is one way to vary."""
        if not self.set.strip() or "=" in self.set:
            raise ValueError(f"set is {self.set!r}; name a key as in --set, without a value")
        ranged = self.low is not None and self.high is not None
        if (self.low is None) != (self.high is None) or bool(self.choices) == ranged:
            raise ValueError(f"{self.set}: give either choices, or low and high")
        if len(self.choices) > MOST:
            raise ValueError(f"{self.set}: {len(self.choices)} choices; give at most {MOST}")
        if self.low is not None and self.high is not None:
            if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
                raise ValueError(
                    f"{self.set}: low is {self.low} and high is {self.high}; low must be below high"
                )
            if self.log and (self.low <= 0 or self.step):
                raise ValueError(f"{self.set}: log needs low above 0 and no step")
            if self.step < 0:
                raise ValueError(f"{self.set}: step is {self.step}; use 0 or more")


class ChainStep(_Part, frozen=True, kw_only=True):
    """A step of ``[[compress]]`` that may be taken ([[search.chain]]).

    Attributes:
        step: its name.
        always: it is taken in every candidate.
        options: of the step, that do not vary.
        vary: of the step, that do.
    """

    step: str
    always: bool = False
    options: dict[str, Any] = {}
    vary: tuple[Vary, ...] = ()


class Rung(_Part, frozen=True, kw_only=True):
    """A cheap look before the dear one ([[search.rungs]]).

    Attributes:
        set: what is cheaper, by "section.key".
        examples: of the gate, judged at most (0: all).
        rate_seconds: how long requests arrive.
        keep: share of the candidates that goes on from here.
    """

    set: dict[str, Any] = {}
    examples: int = 0
    rate_seconds: float = 2.0
    keep: float = 0.4

    def __post_init__(self) -> None:
        """Check the ranges."""
        _positive(self, "rate_seconds")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep is {self.keep}; use more than 0, to 1")
        if self.examples < 0:
            raise ValueError(f"examples is {self.examples}; use 0 or more")


class SearchPart(_Part, frozen=True, kw_only=True):
    """All of [search].

    Attributes:
        trials: candidates to look at.
        startup_trials: of those, drawn at random before any model of them.
        seed: of the sampler.
        objective: what must hold, and what is best.
        vary: keys that may vary.
        chain: steps that may be taken.
        orders: of the chain's steps: as they are listed, or any.
        rungs: cheap looks; the last look, in full, is always there.
        rate_seconds: how long requests arrive in the last look.
        reference_runs: how often the reference is measured, to say how noisy the machine is.
    """

    trials: int = 24
    startup_trials: int = 8
    seed: int = 0
    objective: Objective = Objective()
    vary: tuple[Vary, ...] = ()
    chain: tuple[ChainStep, ...] = ()
    orders: Orders = "listed"
    rungs: tuple[Rung, ...] = ()
    rate_seconds: float = 5.0
    reference_runs: int = 2

    def __post_init__(self) -> None:
        """Check that there is something to vary, once each."""
        for name, low, high in (
            ("trials", 1, 100_000),
            ("startup_trials", 1, 100_000),
            ("reference_runs", 1, 100),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}; use {low} to {high}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; use 0 to {2**32 - 1}")
        _positive(self, "rate_seconds")
        if not self.vary and not self.chain:
            raise ValueError("nothing varies; give [[search.vary]] or [[search.chain]]")
        keys = [one.set for one in self.vary]
        twice = next((one for one in keys if keys.count(one) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} varies twice; once is enough")
        if self.chain and any(one.split(".")[0] == "compress" for one in keys):
            raise ValueError("give either [[search.chain]] or a vary of compress, not both")

    def all_rungs(self) -> tuple[Rung, ...]:
        """The cheap looks, and the last one in full."""
        return (*self.rungs, Rung(rate_seconds=self.rate_seconds, keep=1.0))


def load_search(file: Path) -> tuple[SearchPart, Path]:
    """The section [search] of a recipe, and the recipe's path.

    Raises:
        RecipeError: there is no such section, or something in it is wrong; names the place.
    """
    file = find_recipe(file)
    table: Mapping[str, Any] = read_table(file)[0]
    if SEARCH not in table:
        raise RecipeError(
            f"{file}: has no section [search]; say what may vary, see docs/compression/search.md"
        )
    try:
        return msgspec.convert(table[SEARCH], type=SearchPart), file
    except msgspec.ValidationError as error:
        raise RecipeError(f"{file}: search: {error}") from error
