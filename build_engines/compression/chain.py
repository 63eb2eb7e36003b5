"""Run one step of a chain, whatever the family: check, run, look at what came out, and say it.

A chain is one stage a step (``build_engines.compression.stage``), so each result is kept by itself: a chain whose third step
changed reuses the first two, and a kill costs one step. What is here knows no stage and no family.

The parent of a step's work is the model before the first step, opened anew: no step can have changed it.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import msgspec
import torch
from safetensors import SafetensorError

from build_engines.compression.model import Compressible
from build_engines.compression.packed_size import packed_bytes, parameter_arrays
from build_engines.compression.parts import CompressEntry
from build_engines.compression.records import CompressRecord
from build_engines.compression.registry import find
from build_engines.compression.sharing import share_again
from build_engines.compression.step import StepWork, sizes_of
from build_engines.errors import BuildError
from build_engines.fingerprint import plain
from build_engines.proof.leak import refuse_leak
from build_engines.stage import Work
from build_engines.tuning_loop import TuningDiverged

_TORCH_WRITER = "inline_container.cc"
_NEARLY_FULL = 1 << 20  # bytes


def run_step(
    number: int,
    entry: CompressEntry,
    open_model: Callable[[bool], Compressible],
    work: Work,
    *,
    before: CompressRecord | None = None,
    judged: Collection[bytes] = (),
    by_chance: int = 0,
) -> CompressRecord:
    """Run a step and write what came out into ``work.folder``.

    Args:
        number: of the entry, from 0, for messages.
        entry: what to do.
        open_model: opens the model before the first step (True), or the one that the step gets (False).
        work: of the stage; its scratch is the step's.
        before: of the step before, whose figures need not be measured again; None: this is the first.
        judged: digests of what the gate judges (``proof.leak.digests_of``).
        by_chance: so many examples may be the same by chance.

    Raises:
        BuildError: the step cannot be done, training went nowhere, nothing would be left, or the gate's examples calibrate;
            names the entry and its step.
    """
    name = f"compress.{number} ({entry.step})"
    step = find(entry.step)
    model, parent = open_model(False), open_model(True)
    share_again(model)
    calibration = model.calibration_digests()
    if calibration:  # a step that needs some says so itself
        refuse_leak(
            name,
            calibration,
            judged,
            what="calibration examples",
            allowed=by_chance,
            advice="change the split so that they are apart",
        )
    had = _look(model) if before is None else _of_record(before)
    threads = torch.get_num_threads()
    try:
        with (
            _disk_faults(work),
            torch.random.fork_rng(devices=[]),
        ):  # what a step draws depends on the step alone
            torch.manual_seed(number)
            result, record = step.run(
                model, entry.options, StepWork(scratch=work.scratch, progress=work.progress, parent=parent)
            )
    except (ValueError, TuningDiverged) as error:
        raise BuildError(f"{name}: {error}") from error
    except BuildError as error:
        if type(error) is not BuildError or str(error).startswith("compress."):
            raise
        raise BuildError(f"{name}: {error}") from error
    finally:
        torch.set_num_threads(threads)
    if result is parent:
        raise BuildError(f"{name}: the step gave back the model before the chain; it must leave that alone")
    got = _look(result)
    if not math.isfinite(got.loss):
        raise BuildError(
            f"{name}: the held-out loss is {got.loss} after it (it was {had.loss:.4f}); lower its learning rate, or cut less"
        )
    with _disk_faults(work):
        result.save(work.folder)
    work.progress.say(f"  {record.said}")
    work.progress.say(
        f"  {had.parameters:,} -> {got.parameters:,} weights, held-out loss {had.loss:.4f} -> {got.loss:.4f}"
    )
    # Sizes are told of what was looked at, whatever a step filled in.
    record = msgspec.structs.replace(record, before=had.sizes, after=got.sizes)
    return CompressRecord(
        record=record,
        number=number,
        options=plain(entry.options),
        loss_before=had.loss,
        loss_after=got.loss,
        parameters_before=had.parameters,
        parameters_after=got.parameters,
        packed_before=had.packed,
        packed_after=got.packed,
        notes=(record.said,),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What a model is, in numbers."""

    loss: float
    sizes: Mapping[str, int]
    parameters: int
    packed: int


def _look(model: Compressible) -> _Looked:
    return _Looked(
        loss=model.judge(),
        sizes=sizes_of(model.sizes),
        parameters=sum(one.numel() for one in model.module.parameters()),
        packed=packed_bytes(parameter_arrays(model.module)),
    )


def _of_record(record: CompressRecord) -> _Looked:
    return _Looked(
        loss=record.loss_after,
        sizes=record.record.after,
        parameters=record.parameters_after,
        packed=record.packed_after,
    )


@contextlib.contextmanager
def _disk_faults(work: Work) -> Iterator[None]:
    """Writers of weights have errors of their own for a full disk; here it is one again, which the workspace knows."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        code = int(found.group(1))
        raise OSError(code, os.strerror(code), str(work.folder)) from error
    except RuntimeError as error:
        if _TORCH_WRITER not in str(error):  # as torch 2.13 says that a checkpoint could not be written
            raise
        left = shutil.disk_usage(work.scratch).free
        code = errno.ENOSPC if left < _NEARLY_FULL else errno.EIO
        raise OSError(code, os.strerror(code), str(work.scratch)) from error
