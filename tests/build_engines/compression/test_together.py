"""Several processes learn what one would, each example once; one that dies ends the run with a sentence, and it goes on."""

from __future__ import annotations

import multiprocessing
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from build_engines.compression.learning import Lesson, optimizers_of, trained
from build_engines.distributed import checkpoints
from build_engines.distributed.launch import _result, learn_together
from build_engines.distributed.lesson_files import RESULT_FILE, SHARED
from build_engines.distributed.shards import part_of
from build_engines.errors import BuildError
from build_engines.tuning_loop import TuningResult, run_loop
from tests.build_engines.compression.learning_cases import work
from tests.build_engines.compression.tiny_model import TinyModel
from tests.build_engines.compression.together_cases import hand_over, lesson, take_part


@given(batch=st.lists(st.integers(0, 10**6), unique=True, max_size=70), size=st.integers(1, 9))
def test_every_example_is_of_exactly_one_process(batch: list[int], size: int) -> None:
    """Nothing twice, nothing lost, and nobody has two more than another; whatever the batch and the crew."""
    parts = [part_of(batch, rank, size) for rank in range(size)]

    assert sorted(one for part in parts for one in part) == sorted(batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def processes(folder: Path, size: int, *, code: int = 0) -> None:
    # From a process that has everything imported already: each start costs a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch._dynamo", "torch.distributed.fsdp", "torch.distributed.checkpoint", "build_engines.distributed.worker",
         "tests.build_engines.compression.together_cases"]
    )  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [context.Process(target=take_part, args=(folder, rank, size, port)) for rank in range(size)]
    for one in running:
        one.start()
    for one in running:
        one.join(90)
    assert [one.exitcode for one in running] == [code] * size


def alone(one: Lesson) -> TuningResult:
    parameters = trained(one.learner.network)
    return run_loop(one.learner, parameters, optimizers_of(one), one.options.loop(), identity=one.identity)


def found(folder: Path, one: Lesson) -> tuple[dict[str, torch.Tensor], TuningResult]:
    result = _result(folder, one)
    assert result is not None
    return result


@pytest.mark.parametrize("sharding", ["replicate", "shard"])
def test_two_processes_learn_what_one_learns(tmp_path: Path, sharding: Any) -> None:
    """The same loss at every point and the same weights up to rounding: with accumulation, a running mean, float16's scale."""
    options = {"accumulate": 2, "precision": "float16" if sharding == "replicate" else "float32"}
    one, shared = lesson(tmp_path, **options), lesson(tmp_path, sharding=sharding, **options)
    hand_over(tmp_path, shared)

    expected = alone(one)
    processes(tmp_path, 2)

    weights, result = found(tmp_path, shared)
    tolerance = 2e-3 if sharding == "replicate" else 1e-4
    for ours, theirs in zip(result.curve, expected.curve, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=tolerance)
        assert ours.heldout_loss == pytest.approx(theirs.heldout_loss, abs=tolerance)
    for name, weight in trained(one.learner.network).items():
        assert torch.allclose(weight, weights[name], atol=30 * tolerance)
    assert result.tokens == expected.tokens


def test_a_checkpoint_of_two_processes_is_gone_on_from_by_one_and_by_three(tmp_path: Path) -> None:
    """Cut behind step 8 with weights in parts of two; put together, cut anew, and the course is that of one that never stopped."""
    shared = lesson(tmp_path, cut=True, sharding="shard")
    expected = alone(lesson(tmp_path))
    (tmp_path / "stop").touch()
    hand_over(tmp_path / "2", shared)
    processes(tmp_path / "2", 2, code=1)
    (tmp_path / "stop").unlink()
    newest = checkpoints.latest(tmp_path / "2" / SHARED)
    assert newest is not None and newest.name == "step-8"

    for size in (1, 3):
        folder = tmp_path / f"by{size}"
        hand_over(folder, shared)
        shutil.copytree(newest, folder / SHARED / newest.name)
        processes(folder, size)
        _, result = found(folder, shared)
        assert [point.heldout_loss for point in result.curve] == pytest.approx(
            [point.heldout_loss for point in expected.curve], abs=1e-4
        )


def test_a_process_that_dies_ends_the_run_and_the_next_run_goes_on(tmp_path: Path) -> None:
    """Started by torchrun, killed by signal 9: who, when, and from where the next run goes on; then it ends as if alone."""
    mortal = lesson(tmp_path, mortal=True, processes=2)
    place = work(tmp_path, TinyModel())

    with pytest.raises(
        BuildError,
        match=r"process 1 of 2 was killed by signal 9 \(Killed\) after step 9; run this again, .* checkpoint step-8",
    ):
        learn_together(mortal, place)
    result = learn_together(mortal, place)

    assert [point.step for point in result.curve] == [6, 12, 18]
    expected = alone(lesson(tmp_path))
    for ours, theirs in zip(result.curve, expected.curve, strict=True):
        assert ours.heldout_loss == pytest.approx(theirs.heldout_loss, abs=1e-4)
    assert learn_together(mortal, place) == result  # what is done is not done again


def test_who_wants_other_machines_is_told_the_command(tmp_path: Path) -> None:
    """The folder is ready for torchrun, and nothing was started."""
    waiting = lesson(tmp_path, launch="torchrun")
    place = work(tmp_path, TinyModel())

    with pytest.raises(BuildError, match=r"torchrun --nnodes N .* -m build_engines.distributed .*together"):
        learn_together(waiting, place)

    assert not (place.scratch / "together" / RESULT_FILE).exists()


def test_a_model_that_cannot_travel_is_said(tmp_path: Path) -> None:
    """What cannot be pickled learns in one process."""
    stuck = lesson(tmp_path, processes=2)
    stuck.learner.network.tied = lambda: None  # type: ignore[assignment]

    with pytest.raises(BuildError, match="cannot be sent to another process"):
        learn_together(stuck, work(tmp_path, TinyModel()))


def test_started_by_hand_it_says_how(tmp_path: Path) -> None:
    """Without a lesson, or without torchrun: usage, and exit code 2."""
    for arguments in ([], [str(tmp_path)]):
        ended = subprocess.run(
            [sys.executable, "-m", "build_engines.distributed", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 2 and "torchrun --nproc-per-node" in ended.stderr
