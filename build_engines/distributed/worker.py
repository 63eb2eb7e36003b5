"""One of the processes that learn a lesson together."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist

from build_engines.compression.learning import Lesson, optimizers_of, trained
from build_engines.distributed.lesson_files import (
    FAILURE_FILE,
    LESSON_FILE,
    OWNER_VARIABLE,
    RESULT_FILE,
    SHARED,
    STEP_MARK,
)
from build_engines.distributed.ranks import Ranks, whole
from build_engines.errors import BuildError
from build_engines.tuning_loop import LossPoint, TuningDiverged, run_loop

SILENCE = datetime.timedelta(
    minutes=30
)  # the longest that ranks wait for one another: rank 0 may judge that long


def work_in(folder: Path) -> int:
    """Take part; the exit code."""
    lesson: Lesson = torch.load(folder / LESSON_FILE, map_location="cpu", weights_only=False)
    wanted = torch.device(lesson.options.device)
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if wanted.type == "cuda" else wanted
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=SILENCE)
    try:
        return _learn(folder, lesson, device)
    finally:
        dist.destroy_process_group()


def _learn(folder: Path, lesson: Lesson, device: torch.device) -> int:
    crew = Ranks(lesson.learner, lesson.options.sharding, device)
    parameters = trained(lesson.learner.network)
    first = crew.rank == 0

    def progress(step: int, steps: int, point: LossPoint | None) -> None:
        _check_owner()
        if first:
            told = [step, steps, None if point is None else dataclasses.asdict(point)]
            print(STEP_MARK + json.dumps(told), flush=True)

    try:
        result = run_loop(
            lesson.learner,
            parameters,
            optimizers_of(lesson),
            dataclasses.replace(lesson.options.loop(), device=str(device)),
            identity=lesson.identity,
            checkpoint=folder / SHARED,
            progress=progress,
            crew=crew,
        )
    except (ValueError, TuningDiverged, BuildError) as error:
        if first:
            (folder / FAILURE_FILE).write_text(str(error), encoding="utf-8")
        return 1
    kept = whole(parameters)
    if first:
        aside = folder / f"{RESULT_FILE}.part"
        held = {
            "identity": lesson.identity,
            "parameters": kept,
            "curve": [dataclasses.asdict(point) for point in result.curve],
            "steps": result.steps,
            "tokens": result.tokens,
            "skipped": result.skipped,
        }
        torch.save(held, aside)
        os.replace(aside, folder / RESULT_FILE)
    dist.barrier()
    return 0


def _check_owner() -> None:
    owner = os.environ.get(OWNER_VARIABLE)
    if owner is None:
        return
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        raise SystemExit(f"process {owner}, which waited for this training, is gone: ended") from None
