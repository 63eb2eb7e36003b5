"""A candidate measured for real: built by its line, opened as the server does, compared with the reference on the gate's examples.

The line's own gate is opened wide while it measures, so that a figure comes out where it would refuse; the search's
objective judges. What is published in the end goes through the recipe's own gate, as ever.

Units: seconds, bytes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_engines.compare.compare import compare_quality
from build_engines.compare.limits import CompareLimits
from build_engines.data.errors import DataError
from build_engines.errors import BuildError, GateRefused, RecipeError, WorkspaceError
from build_engines.proof.footprint import ask_of_version, measured
from build_engines.search.outcome import Outcome
from build_engines.search.part import Rung, SearchPart
from build_engines.search.space import toml_value
from build_engines.steps import Redo
from build_engines.workspace import Workspace
from server.artifacts.errors import ArtifactError
from server.artifacts.repository import OpenedVersion, open_version

_SPEED = ("gate.min_speedup=0.001", "gate.rounds=10", "gate.footprint=false", 'gate.on_refused="stop"')
# What opens each family's gate wide.
WIDE: dict[str, tuple[str, ...]] = {
    "recommender": (
        "gate.max_relative_loss=1.0", "gate.max_slice_loss=1.0", "gate.min_overlap=0.0", "gate.allow_below_floor=true",
        "gate.batch_sizes=[1]", *_SPEED,
    ),
    "encoder": (
        "gate.min_cosine=0.0", "gate.max_recall_loss=1.0", "gate.max_intent_loss_points=100.0",
        "gate.max_slice_loss_points=100.0", 'gate.reference="none"', "gate.max_reference_error=1000.0", "gate.batch_sizes=[8]",
        *_SPEED,
    ),
    "text": (
        "gate.max_perplexity_rise=1000.0", "gate.max_slice_rise=1000.0", 'gate.reference="none"',
        "gate.max_logprob_error=1000.0", "gate.samples=0", "gate.batch_sizes=[1]", *_SPEED,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How a line is run by hand.

    Attributes:
        load: a recipe from a file and settings.
        verified_by: a recipe to what its gate passed.
        assemble: lays a version out in a folder that is not there yet.
    """

    load: Callable[[Path, Sequence[str]], Any]
    verified_by: Callable[[Any, Workspace, Redo], Any]
    assemble: Callable[[Path, Any, Any, str], None]


class MeasuredLine:
    """See ``build_engines.search.study.Measures``.

    Args:
        file: the recipe.
        sets: that the person gave, under those of each candidate.
        kind: of the recipe.
        part: what it says about searching.
        workspace: where results of stages are kept.
        scratch: folder for versions that are being measured.
    """

    def __init__(
        self,
        file: Path,
        sets: Sequence[str],
        kind: str,
        part: SearchPart,
        workspace: Workspace,
        scratch: Path,
    ) -> None:
        if kind not in WIDE:
            raise BuildError(
                f"{file}: recipes of kind {kind!r} are not searched yet; there are {', '.join(WIDE)}"
            )
        self._file, self._sets, self._kind, self._part = file, tuple(sets), kind, part
        self._workspace, self._scratch = workspace, scratch
        self._family = family_of(kind)
        self._reference: OpenedVersion | None = None

    def reference(self, number: int) -> Outcome:
        """See ``Measures``."""
        rung = Rung(rate_seconds=self._part.rate_seconds)
        return self._guarded((), rung, number, lambda: self._opened_reference())

    def measure(self, sets: Sequence[str], rung: Rung, place: int) -> Outcome:
        """See ``Measures``."""
        cheaper = [f"{key}={toml_value(value)}" for key, value in rung.set.items()]
        return self._guarded(
            sets, rung, place, lambda: self._opened("candidate", [*sets, *cheaper], uncompressed=False)
        )

    def _guarded(
        self, sets: Sequence[str], rung: Rung, place: int, opened: Callable[[], OpenedVersion]
    ) -> Outcome:
        began_s = time.monotonic()
        try:
            return self._outcome(opened(), tuple(sets), rung, place, began_s)
        except WorkspaceError:
            raise  # not this candidate's fault: the next one would end the same way
        except (RecipeError, GateRefused, BuildError, DataError, ArtifactError) as error:
            said = str(error).strip().splitlines()
            self._workspace.progress.say(f"search: {' '.join(sets)}: {said[0]}")
            return Outcome(
                sets=tuple(sets), rung=place, refused=" ".join(said)[:500], seconds=time.monotonic() - began_s
            )

    def _outcome(
        self, candidate: OpenedVersion, sets: tuple[str, ...], rung: Rung, place: int, began_s: float
    ) -> Outcome:
        objective = self._part.objective
        limits = CompareLimits(
            examples=rung.examples,
            rounds=0,
            footprint=False,
            batch_sizes=objective.batch_sizes,
            seed=self._part.seed,
        )
        metric = compare_quality(self._opened_reference(), candidate, limits)
        footprint = measured(
            ask_of_version(
                candidate.folder,
                candidate.manifest,
                batch_sizes=objective.batch_sizes,
                rate_per_s=objective.at_requests_per_s,
                rate_seconds=rung.rate_seconds,
                seed=self._part.seed,
            )
        )
        scale = 1.0 if metric.unit == "ratio" else 0.01  # points of a share are hundredths
        interval = metric.interval
        return Outcome(
            sets=sets,
            rung=place,
            loss=None if metric.loss is None else metric.loss * scale,
            interval=None if interval is None else (interval[0] * scale, interval[1] * scale),
            metric=metric.name,
            before=metric.a,
            after=metric.b,
            examples=metric.n,
            p99_s=footprint.p99_s,
            p99_interval_s=footprint.p99_interval_s,
            served_per_s=footprint.served_per_s,
            size_bytes=footprint.disk_bytes,
            memory_bytes=footprint.engine_bytes,
            cpu_s_per_1000=footprint.batches[0].cpu_s_per_1000,
            seconds=time.monotonic() - began_s,
            refused=""
            if metric.loss is not None
            else f"{metric.name} of the reference is 0: there is no loss to it",
        )

    def _opened_reference(self) -> OpenedVersion:
        if self._reference is None:
            self._reference = self._opened("reference", (), uncompressed=True)
        return self._reference

    def _opened(self, name: str, sets: Sequence[str], *, uncompressed: bool) -> OpenedVersion:
        every = [*self._sets, *sets, *WIDE[self._kind]]
        recipe = self._family.load(self._file, every)
        if uncompressed:
            recipe = recipe.parent()
        verified = self._family.verified_by(recipe, self._workspace, Redo())
        folder = self._scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        self._family.assemble(folder, verified, recipe, name)
        return open_version(folder, verify=False)


def family_of(kind: str) -> Family:
    """The line of a kind; imported now."""
    if kind == "text":
        from build_engines.text.line import verified_by as text_verified
        from build_engines.text.publish import assemble as assemble_text
        from build_engines.text.recipe import load_text_recipe

        return Family(load=load_text_recipe, verified_by=text_verified, assemble=assemble_text)
    if kind == "encoder":
        from build_engines.encoder.line import verified_by as encoder_verified
        from build_engines.encoder.publish import assemble as assemble_encoder
        from build_engines.encoder.recipe import load_encoder_recipe

        return Family(load=load_encoder_recipe, verified_by=encoder_verified, assemble=assemble_encoder)
    from build_engines.pipeline import verified_by
    from build_engines.publish import assemble
    from build_engines.recipe import load_recipe

    return Family(load=load_recipe, verified_by=verified_by, assemble=assemble)
