"""Steps of a decoder's chain: from ``Tuned`` to ``Tuned``, behind fine-tuning."""

from __future__ import annotations

from build_engines.compression.chain import run_step
from build_engines.compression.families.decoder import Decoder, PairData, open_decoder
from build_engines.compression.records import CompressRecord
from build_engines.compression.stage_parts import CompressTextPart
from build_engines.proof.leak import digests_of
from build_engines.stage import Work
from build_engines.text.pair_arrays import load_pairs, pairs_path
from build_engines.text.states import CHECKPOINT, Tuned


def run(tuned: Tuned, part: CompressTextPart, work: Work) -> CompressRecord:
    """Run one step.

    Raises:
        BuildError: there are no pairs to learn from, or the step cannot be done; says which.
    """
    base = tuned.uncompressed
    sides = {
        name: tuple(load_pairs(pairs_path(base.loaded.output.folder, name)))
        for name in ("train", "validation", "calibration", "gate")
    }
    data = PairData(
        checkpoint=base.checkpoint,
        train=sides["train"],
        validation=sides["validation"],
        calibration=sides["calibration"],
        batch_tokens=part.batch_tokens,
        seed=part.seed,
    )

    def open_model(first: bool) -> Decoder:
        return open_decoder((base if first else tuned).checkpoint, data)

    inside = Work(folder=work.folder / CHECKPOINT, scratch=work.scratch, progress=work.progress)
    return run_step(
        part.number,
        part.entry,
        open_model,
        inside,
        before=tuned.step,
        judged=digests_of(pair.ids for pair in sides["gate"]),
    )
