"""What a step left: the record of its stage, part of the manifest's provenance and of the report.

Units: bytes, seconds; losses as the family measures them (nats, or 1 - cosine).
"""

from __future__ import annotations

import msgspec

from build_engines.compression.step_records import StepRecord
from server.artifacts.manifest import CompressionStep


class CompressRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One step of a chain.

    Attributes:
        record: of the step.
        number: its place in the chain, from 0.
        options: of the step, as JSON knows them.
        loss_before, loss_after: held-out loss of the model before and after it.
        parameters_before, parameters_after: weights of the network.
        packed_before, packed_after: bytes of its float32 weights after zlib: what zeros and codebooks are worth on disk.
        notes: a sentence each.
    """

    record: StepRecord
    number: int
    options: dict[str, object]
    loss_before: float
    loss_after: float
    parameters_before: int
    parameters_after: int
    packed_before: int
    packed_after: int
    notes: tuple[str, ...] = ()

    def provenance(self) -> CompressionStep:
        """For the manifest."""
        return CompressionStep(
            step=self.record.step,
            said=self.record.said,
            options=msgspec.json.encode(self.options, order="sorted").decode(),
            figures={
                **dict(self.record.figures),
                "held-out loss before": self.loss_before,
                "held-out loss after": self.loss_after,
                "packed bytes before": float(self.packed_before),
                "packed bytes after": float(self.packed_after),
            },
            before={**dict(self.record.before), "parameters": self.parameters_before},
            after={**dict(self.record.after), "parameters": self.parameters_after},
        )


def step_provenance(record: StepRecord) -> CompressionStep:
    """A record that is no stage of its own (the choice of precisions), for the manifest."""
    return CompressionStep(step=record.step, said=record.said, figures=dict(record.figures))
