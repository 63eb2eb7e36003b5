"""The same requests to a real tritonserver and to ours: they agree, or the difference is listed with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.kserve_cases import DIFFERENCES
from bench.kserve_conformance import compare, faults, table
from bench.real_triton import MISSING, triton_venv
from tests.tiny import Tiny


@pytest.mark.skipif(triton_venv() is None, reason=MISSING)
async def test_every_answer_agrees_with_tritonservers_or_differs_for_a_listed_reason(
    tiny: Tiny, tmp_path: Path
) -> None:
    """And no reason is listed that is not needed any more."""
    rows = await compare(tiny.repository, "tiny", tmp_path)

    assert faults(rows) == []
    assert len(rows) > 80


def test_the_document_lists_every_reason() -> None:
    """``docs/kserve.md`` was written by the comparison, after the last reason was added."""
    text = (Path(__file__).parents[3] / "docs" / "kserve.md").read_text(encoding="utf-8")

    missing = [what for what, why in DIFFERENCES.items() if f"| {what} |" not in text or why not in text]
    assert missing == []
    assert table([]).startswith("0 requests")
