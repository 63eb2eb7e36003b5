"""What each stage of a re-ranker's line says about its result; the stages behind training are those of one's own model.

Units: seconds.
"""

from __future__ import annotations

import msgspec

from build_engines.own_model.records import OwnVerifyRecord, SourceGraph
from build_engines.records import CurvePoint


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class CandidatesRecord(_Record, frozen=True, kw_only=True):
    """The first stage's candidates for every case.

    Attributes:
        first_model: its name.
        first_version: its version.
        candidates: of each case.
        cases: by what they are for ("train", "gate").
        found: of those, cases whose right item is among the candidates; the others cannot be ranked better.
        notes: a sentence each.
    """

    first_model: str
    first_version: str
    candidates: int
    cases: dict[str, int]
    found: dict[str, int]
    notes: tuple[str, ...] = ()


class RerankTrainRecord(_Record, frozen=True, kw_only=True):
    """How training went.

    Attributes:
        graph: what the network became.
        architecture: "dlrm" or "dcn_v2".
        curve: one point an epoch: training loss, held-out loss.
        rows: of the gate and for calibration.
        attributes: columns that are read.
        buckets: by sparse feature.
        salt: of the hash.
        max_history: newest items that are looked at.
        notes: a sentence each.
    """

    graph: SourceGraph
    architecture: str
    curve: tuple[CurvePoint, ...]
    rows: dict[str, int]
    attributes: tuple[str, ...]
    buckets: dict[str, int]
    salt: int
    max_history: int
    notes: tuple[str, ...] = ()


class RerankVerifyRecord(_Record, frozen=True, kw_only=True):
    """What the gate measured.

    Attributes:
        engine: what any model must prove.
        lists: figures by who ranked ("first stage", "re-ranker") and metric.
        cases: that the comparison with the first stage rests on.
        notes: a sentence each.
    """

    engine: OwnVerifyRecord
    lists: dict[str, dict[str, float]]
    cases: int
    notes: tuple[str, ...] = ()
