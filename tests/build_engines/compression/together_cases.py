"""Lessons for several processes, in a module that those can import."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from build_engines.compression.finetune import FinetuneOptions
from build_engines.compression.learning import Lesson, TaskLearner, lesson_of
from build_engines.compression.model import Keep
from build_engines.distributed.launch import LESSON_FILE, _hand_over
from tests.build_engines.compression.tiny_model import TinyModel, trained


class Positions(TinyModel):
    """The tiny model, whose mean is over positions and says so."""

    def weight(self, batch: Sequence[int]) -> float:
        return float(self.tokens(batch) - len(batch))


class Mortal(TaskLearner):
    """Process 1 is killed in the middle of step 9, once."""

    grave: Path

    def loss(self, batch: Sequence[int]) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        if os.environ.get("RANK") == "1" and self.calls == 10 and not self.grave.exists():
            self.grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(batch)


def model() -> Positions:
    small = trained(TinyModel(), epochs=6).narrowed(Keep(blocks=(1, 2)))
    return Positions(small.sizes, net=small.module)


def lesson(folder: Path, *, mortal: bool = False, **options: object) -> Lesson:
    """Three epochs of six steps, a checkpoint every four."""
    plan = FinetuneOptions(
        **{"epochs": 3, "learning_rate": 1e-2, "checkpoint_every": 4, "average": 0.8, **options}  # type: ignore[arg-type]
    )
    learner = Mortal(model()) if mortal else TaskLearner(model())
    if isinstance(learner, Mortal):
        learner.grave = folder / "grave"
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
