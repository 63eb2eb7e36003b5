"""Run one step of a chain, whatever the family: check, run, look at what came out, and say it.

A chain is one stage a step (``build_engines.compression.stage``), so each result is kept by itself: a chain whose third step
changed reuses the first two, and a kill costs one step. What is here knows no stage and no family.

The parent of a step's work is the model before the first step, opened anew: no step can have changed it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import msgspec
import torch

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


def run_step(
    number: int,
    entry: CompressEntry,
    open_model: Callable[[bool], Compressible],
    work: Work,
    *,
    judged: Collection[bytes] = (),
    by_chance: int = 0,
) -> CompressRecord:
    """Run a step and write what came out into ``work.folder``.

    Args:
        number: of the entry, from 0, for messages.
        entry: what to do.
        open_model: opens the model before the first step (True), or the one that the step gets (False).
        work: of the stage; its scratch is the step's.
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
    before = _Looked(model)
    work.progress.say(f"  step {number + 1}, {entry.step}: held-out loss {before.loss:.4f} before")
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):  # what a step draws depends on the step alone
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
    after = _Looked(result)
    if not math.isfinite(after.loss):
        raise BuildError(
            f"{name}: the held-out loss is {after.loss} after it (it was {before.loss:.4f}); lower its learning rate, or cut less"
        )
    result.save(work.folder)
    work.progress.say(f"  {record.said}")
    work.progress.say(
        f"  {before.parameters:,} -> {after.parameters:,} weights, held-out loss {before.loss:.4f} -> {after.loss:.4f}"
    )
    # Sizes are told of what was looked at, whatever a step filled in.
    record = msgspec.structs.replace(record, before=before.sizes, after=after.sizes)
    return CompressRecord(
        record=record,
        number=number,
        options=plain(entry.options),
        loss_before=before.loss,
        loss_after=after.loss,
        parameters_before=before.parameters,
        parameters_after=after.parameters,
        packed_before=before.packed,
        packed_after=after.packed,
        notes=(record.said,),
    )


class _Looked:
    """What a model is, in numbers."""

    def __init__(self, model: Compressible) -> None:
        self.loss = model.judge()
        self.sizes = sizes_of(model.sizes)
        self.parameters = sum(one.numel() for one in model.module.parameters())
        self.packed = packed_bytes(parameter_arrays(model.module))
