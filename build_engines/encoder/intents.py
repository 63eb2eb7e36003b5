"""Stage 2 of an encoder: the intent head, where the recipe asks for one."""

from __future__ import annotations

import os
from dataclasses import dataclass

from build_engines.encoder.recipe_parts import FormPart
from build_engines.encoder.records import HeadRecord
from build_engines.encoder.states import EncoderLoaded
from build_engines.intents.recipe_parts import IntentsPart
from build_engines.stage import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentsStagePart:
    """For ``intents``: what is learnt, and how the encoder will be packaged."""

    intents: IntentsPart | None
    form: FormPart


def run(loaded: EncoderLoaded, part: IntentsStagePart, work: Work) -> HeadRecord:
    """Train it, if it is asked for.

    Raises:
        DataError: the examples cannot be used; says where.
        BuildError: the encoder cannot be read or tuned.
    """
    if part.intents is None:
        return HeadRecord(intents=None, notes=("no intents are asked for",))
    # Here and not above: torch is only wanted where something is learnt.
    from build_engines.intents.train import train_intents
    from build_engines.intents.vectors import EncoderSource

    source = EncoderSource(checkpoint=loaded.checkpoint, options=part.form.options("fp32"))
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    record = train_intents(
        part.intents,
        source,
        folder=work.folder,
        scratch=work.scratch,
        progress=work.progress,
        threads=threads,
    )
    told = record.of("test")
    note = f"{len(record.labels)} intents, accuracy {told.accuracy:.4f} on {told.texts} test texts"
    return HeadRecord(intents=record, notes=(note, *record.notes))
