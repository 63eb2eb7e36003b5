"""A trained tiny model, a smaller student of it, and a place to work in."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from build_engines.compression.model import Compressible, Family, Keep
from build_engines.compression.step import StepWork
from build_engines.progress import Silent
from tests.build_engines.compression.tiny_model import TinyModel, trained


class Killed(RuntimeError):
    """A power cut, for a test."""


class KilledAt(Silent):
    """A person who pulls the plug after a step."""

    def __init__(self, step: int) -> None:
        self.at = step

    def step(self, what: str, done: float, total: float, note: str = "") -> None:
        if done == self.at:
            raise Killed


@cache
def _teacher(family: Family) -> TinyModel:
    return trained(TinyModel(family=family))


def teacher(family: Family = "decoder") -> TinyModel:
    """The same one each time; of one's own."""
    return _teacher(family).narrowed(Keep())


def student(family: Family = "decoder") -> TinyModel:
    """One block of the teacher's three, and half of its width."""
    return teacher(family).narrowed(Keep(blocks=(2,), dims=tuple(range(0, 16, 2))))


def work(folder: Path, parent: Compressible, progress: Silent | None = None) -> StepWork:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return StepWork(scratch=scratch, progress=progress or Silent(), parent=parent)
