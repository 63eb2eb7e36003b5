"""Lessons for several processes, in a module that those can import."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from build_engines.compression.finetune import FinetuneOptions
from build_engines.compression.learning import Lesson, TaskLearner, lesson_of
from build_engines.compression.model import Keep
from build_engines.distributed.launch import _hand_over
from build_engines.distributed.lesson_files import LESSON_FILE
from tests.build_engines.compression.tiny_model import TinyModel, trained


class Positions(TinyModel):
    """The tiny model, whose mean is over positions and says so."""

    def weight(self, batch: Sequence[int]) -> float:
        return float(self.tokens(batch) - len(batch))


class Mortal(TaskLearner):
    """Process 1 is killed in step 9, once."""

    grave: Path

    def tokens(self, batch: Sequence[int]) -> int:
        self.steps = getattr(self, "steps", 0) + 1
        if os.environ.get("RANK") == "1" and self.steps == 9 and not self.grave.exists():
            self.grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().tokens(batch)


class Cut(TaskLearner):
    """Every process ends in step 9, where a file says so."""

    stop: Path

    def tokens(self, batch: Sequence[int]) -> int:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 9 and self.stop.exists():
            raise ValueError("cut")
        return super().tokens(batch)


def model() -> Positions:
    small = trained(TinyModel(), epochs=6).narrowed(Keep(blocks=(1, 2)))
    return Positions(small.sizes, net=small.module)


def lesson(folder: Path, *, mortal: bool = False, cut: bool = False, **options: object) -> Lesson:
    """Three epochs of six steps, a checkpoint every four."""
    plan = FinetuneOptions(
        **{"epochs": 3, "learning_rate": 1e-2, "checkpoint_every": 4, "average": 0.8, **options}  # type: ignore[arg-type]
    )
    learner = (Mortal if mortal else Cut if cut else TaskLearner)(model())
    if isinstance(learner, Mortal):
        learner.grave = folder / "grave"
    if isinstance(learner, Cut):
        learner.stop = folder / "stop"
    return lesson_of(learner, plan, what="test")


def take_part(folder: Path, rank: int, size: int, port: int) -> None:
    """What torchrun would start."""
    from build_engines.distributed.worker import work_in

    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    raise SystemExit(work_in(folder))


def hand_over(folder: Path, lesson: Lesson) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _hand_over(folder, lesson)
    assert (folder / LESSON_FILE).is_file()
