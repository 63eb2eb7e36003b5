"""What a step says of itself; apart from steps, which import torch: whoever lists versions reads records."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a plot in the report.

    Attributes:
        name: what is plotted.
        x, y: names of the axes, with units.
        points: (x, y).
    """

    name: str
    x: str
    y: str
    points: tuple[tuple[float, float], ...]


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one step did; part of the manifest's provenance and of the report.

    Attributes:
        step: its name.
        said: one sentence for a person: "12 of 12 blocks keep 4 of 12 heads".
        figures: numbers worth keeping ("sparsity", "loss before", "loss after").
        before, after: sizes, as a mapping.
        curves: plots.
    """

    step: str
    said: str
    figures: Mapping[str, float] = {}
    before: Mapping[str, int] = {}
    after: Mapping[str, int] = {}
    curves: tuple[Curve, ...] = ()
