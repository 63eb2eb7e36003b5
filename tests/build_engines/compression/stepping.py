"""Run a step on the tiny model, trained once a session."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from build_engines.compression import registry
from build_engines.compression.model import Compressible, Keep
from build_engines.compression.step import StepRecord, StepWork
from build_engines.progress import Silent
from tests.build_engines.compression.tiny_model import TinyModel, trained


@functools.cache
def _learnt() -> TinyModel:
    return trained(TinyModel(), epochs=10)


def tiny() -> TinyModel:
    """A trained model of its own."""
    return _learnt().narrowed(Keep())


def stepped(
    name: str, scratch: Path, model: Compressible | None = None, **options: Any
) -> tuple[Any, StepRecord]:
    """What a step makes of the tiny model, and its record."""
    step = registry.find(name)
    work = StepWork(scratch=scratch, progress=Silent(), parent=_learnt())
    return step.run(model or tiny(), step.options(**options), work)
