"""Steps of an encoder's chain: from ``EncoderLoaded`` to ``EncoderLoaded``, before the intents' head is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from build_engines.compression.chain import run_step
from build_engines.compression.families.encoder import Encoder, open_encoder
from build_engines.compression.families.encoder_texts import UNLABELLED, TextData, Texts
from build_engines.compression.records import CompressRecord
from build_engines.compression.stage_parts import CompressEncoderPart
from build_engines.encoder.load import CALIBRATION, GATE, LEARN, QUESTIONS, ids_path
from build_engines.encoder.states import CHECKPOINT, EncoderLoaded
from build_engines.encoder.texts import load_ids
from build_engines.intents.examples import labels_of
from build_engines.intents.linear import label_numbers
from build_engines.intents.recipe_parts import IntentsPart
from build_engines.intents.sources import load_sets
from build_engines.intents.vectors import EncoderSource, token_ids
from build_engines.models.encoder.batches import Ids
from build_engines.models.encoder.package import resolved_form
from build_engines.proof.leak import digest_of_ids, digests_of
from build_engines.stage import Work


def run(loaded: EncoderLoaded, part: CompressEncoderPart, work: Work) -> CompressRecord:
    """Run one step.

    Raises:
        BuildError: there are too few texts to learn from, or the step cannot be done; says which.
        DataError: the intents' examples cannot be used; says where.
    """
    base = loaded.uncompressed
    folder = base.output.folder
    judged = digests_of(ids for name in (GATE, QUESTIONS) for ids in load_ids(ids_path(folder, name)))
    options = part.form.options("fp32")
    _, form = resolved_form(base.checkpoint, options)
    calibration = tuple(load_ids(ids_path(folder, CALIBRATION)))
    learn, intents = _learnt(
        folder, part.intents, EncoderSource(checkpoint=base.checkpoint, options=options), judged
    )
    data = TextData(
        checkpoint=base.checkpoint, form=form, learn=learn, calibration=calibration, intents=intents
    )

    def open_model(first: bool) -> Encoder:
        return open_encoder((base if first else loaded).checkpoint, data)

    return run_step(
        part.number, part.entry, open_model, _inside(work, CHECKPOINT), before=loaded.step, judged=judged
    )


def _learnt(
    folder: Path, intents: IntentsPart | None, source: EncoderSource, judged: list[bytes]
) -> tuple[Texts, int]:
    # Calibration texts are learnt from too: what must be apart is what the gate reads.
    found: dict[bytes, tuple[Ids, int]] = {
        digest_of_ids(ids): (ids, UNLABELLED)
        for name in (CALIBRATION, LEARN)
        for ids in load_ids(ids_path(folder, name))
    }
    names: tuple[str, ...] = ()
    apart = set(judged)
    if intents is not None:
        sets, _ = load_sets(intents)
        names = labels_of(sets.train)
        codec = source.codec(intents.max_tokens)
        apart |= {
            digest_of_ids(ids) for ids in token_ids(codec, [one.text for one in sets.test]) if ids is not None
        }
        labels = label_numbers([one.intent for one in sets.train], names).tolist()
        for ids, label in zip(token_ids(codec, [one.text for one in sets.train]), labels, strict=True):
            if ids is not None:
                found[digest_of_ids(ids)] = (ids, label)
    # By digest: which texts are held out does not depend on the order of files.
    kept = [found[digest] for digest in sorted(found) if digest not in apart]
    labels_N = np.array([label for _, label in kept], np.int64)
    return Texts(ids=tuple(ids for ids, _ in kept), labels_N=labels_N), len(names)


def _inside(work: Work, name: str) -> Work:
    return Work(folder=work.folder / name, scratch=work.scratch, progress=work.progress)
