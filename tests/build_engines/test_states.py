"""The gate is a type: what was not measured is not verified; what was not verified is not published."""

from __future__ import annotations

import ast
import math
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import build_engines
from build_engines import publish as publishing
from build_engines.states import REQUIRED_OF_COMPRESSED, Verified
from server.artifacts.manifest import Kind, Measurement
from tests.build_engines.build_cases import ALL_EVIDENCE, compiled, evidence, output, verify_record


def verified(
    items: tuple[Measurement, ...], flags: tuple[str, ...] = (), *, compressed: bool = True
) -> Verified:
    """A state behind the gate, if there can be one."""
    record = verify_record(items, flags)
    return Verified(compiled=compiled(compressed=compressed), output=output("verify"), record=record)


def test_whole_evidence_passes_the_gate() -> None:
    """A candidate that proved everything can be published."""
    assert verified(ALL_EVIDENCE).content == "verify-content"


@pytest.mark.parametrize("missing", REQUIRED_OF_COMPRESSED)
def test_missing_evidence_never_passes(missing: Kind) -> None:
    """What nobody measured, nobody may publish."""
    with pytest.raises(ValueError, match=f"no evidence of {missing}"):
        verified(tuple(item for item in ALL_EVIDENCE if item.kind != missing))


def test_no_evidence_at_all_never_passes() -> None:
    """An empty gate is a closed gate."""
    with pytest.raises(ValueError, match="not measured"):
        verified((), compressed=False)


def test_the_parent_itself_needs_no_comparison_with_itself() -> None:
    """An FP32 model proves parity and floor; there is nothing it could be slower than."""
    assert verified((evidence("parity"), evidence("floor")), compressed=False)


@pytest.mark.parametrize("kind", REQUIRED_OF_COMPRESSED)
@pytest.mark.parametrize(
    "changes",
    [
        {"verdict": "fail"},
        {"verdict": "undecidable"},
        {"value": 0.5},
        {"value": math.nan},
        {"value": math.inf, "sense": "at_most"},
        {"sample_size": 0},
    ],
)
def test_evidence_that_does_not_hold_never_passes(kind: Kind, changes: dict[str, object]) -> None:
    """Failed, undecided, NaN or unsampled: the state cannot be made, and the sentence says which."""
    bad = evidence(kind, **changes)

    with pytest.raises(ValueError, match=f"{kind} figure"):
        verified((*ALL_EVIDENCE, bad))


def test_only_the_floor_can_be_waived_and_only_by_its_flag() -> None:
    """A flag that is not in the manifest waives nothing, and no flag waives quality, or a NaN."""
    below = evidence("floor", value=0.5, verdict="fail", waived_by="below_floor")
    others = tuple(item for item in ALL_EVIDENCE if item.kind != "floor")

    assert verified((*others, below), ("below_floor",))
    for items, flags in [
        ((*others, below), ()),
        ((*others, evidence("floor", value=math.nan, waived_by="below_floor")), ("below_floor",)),
        ((*ALL_EVIDENCE, evidence("quality", verdict="fail", waived_by="below_floor")), ("below_floor",)),
    ]:
        with pytest.raises(ValueError, match="does not hold"):
            verified(items, flags)


@given(
    value=st.floats(),
    limit=st.floats(-10, 10),
    n=st.integers(-1, 3),
    verdict=st.sampled_from(["pass", "fail"]),
)
def test_what_holds_is_a_finite_figure_on_its_side(value: float, limit: float, n: int, verdict: str) -> None:
    """Whatever a measurement claims, it holds only as a finite figure of a real sample on the right side."""
    item = evidence("speed", value=value, limit=limit, sample_size=n, verdict=verdict)

    assert item.holds(()) == (verdict == "pass" and n > 0 and math.isfinite(value) and value >= limit)


def test_publish_takes_nothing_but_verified() -> None:
    """Skipping the gate does not type-check."""
    assert typing.get_type_hints(publishing.publish)["verified"] is Verified


def test_stages_never_import_each_other() -> None:
    """Only the pipeline knows which stage follows which, so that a new one can come between any two."""
    stages = ("load", "train", "graph_stages", "verify", "publish")
    folder = Path(build_engines.__file__).parent

    for name in stages:
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        others = {f"build_engines.{other}" for other in (*stages, "pipeline") if other != name}
        assert not imported & others, name
