"""A lesson learnt by several processes: handed over as a folder, started by torchrun, watched, and taken back.

    <scratch>/together/lesson.pt   what is learnt (pickled; of our own making, read by our own processes)
                       shared         checkpoints
                       result.pt   weights and course, once it is done

Who wants other machines too sets ``launch = "torchrun"``: the folder is written, the command is said, and the next run of the
builder goes on with the result.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import torch

from build_engines.compression.learning import Lesson, trained
from build_engines.compression.step import StepWork
from build_engines.distributed import checkpoints
from build_engines.distributed.lesson_files import (
    FAILURE_FILE,
    LESSON_FILE,
    OWNER_VARIABLE,
    RESULT_FILE,
    SHARED,
    STEP_MARK,
)
from build_engines.errors import BuildError
from build_engines.tuning_loop import LossPoint, TuningResult, load_state

_LAST_LINES = 400


def learn_together(lesson: Lesson, work: StepWork) -> TuningResult:
    """Train with ``options.processes`` processes, and leave the best weights in the learner's network.

    Raises:
        BuildError: a process died, or training cannot go on; the next run goes on from the last checkpoint.
    """
    folder = work.scratch / "together"
    folder.mkdir(parents=True, exist_ok=True)
    done = _result(folder, lesson)
    if done is None:
        (folder / FAILURE_FILE).unlink(missing_ok=True)
        _hand_over(folder, lesson)
        if lesson.options.launch == "torchrun":
            raise BuildError(
                'training: launch is "torchrun": run `torchrun --nnodes N --nproc-per-node P ... -m '
                f"build_engines.distributed {folder}` on the machines that share this folder, then run this again"
            )
        _run(folder, lesson.options.processes, work)
        done = _result(folder, lesson)
    if done is None:
        raise BuildError(f"training: the processes ended and left no result in {folder}; run this again")
    load_state(trained(lesson.learner.network), done[0])
    return done[1]


def command(folder: Path, processes: int) -> list[str]:
    """How the processes are started on this machine."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"),
        *("--nproc-per-node", str(processes), "--max-restarts", "0"),
        *(sys.executable, "-m", "build_engines.distributed", str(folder)),
    ]


def _run(folder: Path, processes: int, work: StepWork) -> None:
    environment = {**os.environ, OWNER_VARIABLE: str(os.getpid())}
    log = folder / "log.txt"
    last = 0
    with log.open("w", encoding="utf-8") as errors:
        running = subprocess.Popen(
            command(folder, processes), stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
        )
        try:
            assert running.stdout is not None
            for step in _told(running.stdout, work):
                last = step
            code = running.wait()
        finally:
            if running.poll() is None:
                running.terminate()  # torchrun takes its processes along
                running.wait()
    if code:
        raise BuildError(
            _sentence(folder, processes, last, log.read_text(encoding="utf-8", errors="replace"))
        )


def _told(lines: IO[str], work: StepWork) -> Any:
    for line in lines:
        if not line.startswith(STEP_MARK):
            continue
        step, steps, point = json.loads(line.removeprefix(STEP_MARK))
        if point is not None:
            work.progress.say(
                f"  step {step}: loss {point['loss']:.4f}, held out {point['heldout_loss']:.4f}"
            )
        yield int(step)
        work.progress.step("training together, step", step, steps)


def _sentence(folder: Path, processes: int, last: int, log: str) -> str:
    own = folder / FAILURE_FILE
    if own.is_file():
        return f"training: {own.read_text(encoding='utf-8')}"
    tail = log.splitlines()[-_LAST_LINES:]
    ranks = _found(r"rank\s*:\s*(\d+)", tail)
    codes = _found(r"exitcode\s*:\s*(-?\d+)", tail)
    who = f"process {ranks[-1]} of {processes}" if ranks else f"one of {processes} processes"
    how = "ended"
    if codes:
        code = int(codes[-1])
        how = (
            f"was killed by signal {-code} ({signal.strsignal(-code)})"
            if code < 0
            else f"ended with code {code}"
        )
    saved = checkpoints.latest(folder / SHARED)
    on = (
        f"it goes on from the checkpoint {saved.name}"
        if saved
        else "there was no checkpoint yet, it begins anew"
    )
    return (
        f"training: {who} {how} after step {last}; run this again, {on} (what it said: {folder / 'log.txt'})"
    )


def _found(pattern: str, lines: Sequence[str]) -> list[str]:
    return [match.group(1) for line in lines if (match := re.search(pattern, line))]


def _hand_over(folder: Path, lesson: Lesson) -> None:
    aside = folder / f"{LESSON_FILE}.part"
    try:
        torch.save(lesson, aside)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise BuildError(
            f"training: processes is {lesson.options.processes}, and this model cannot be sent to another process ({error}); use 1"
        ) from error
    os.replace(aside, folder / LESSON_FILE)


def _result(folder: Path, lesson: Lesson) -> tuple[dict[str, torch.Tensor], TuningResult] | None:
    path = folder / RESULT_FILE
    if not path.is_file():
        return None
    held = torch.load(path, map_location="cpu", weights_only=True)
    if held["identity"] != lesson.identity:
        return None
    curve = tuple(LossPoint(**point) for point in held["curve"])
    result = TuningResult(
        curve=curve,
        best=min(curve, key=lambda one: one.heldout_loss),
        steps=held["steps"],
        tokens=held["tokens"],
        skipped=held["skipped"],
    )
    return held["parameters"], result
