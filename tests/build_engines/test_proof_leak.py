"""What is judged on is never calibrated on, whatever it is called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.errors import BuildError
from build_engines.proof.leak import digest_of_ids, digests_of, refuse_leak

examples = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple), min_size=1, max_size=12)


@given(examples, examples)
def test_a_leak_is_found_by_content_and_only_there(
    calibration: list[tuple[int, ...]], gate: list[tuple[int, ...]]
) -> None:
    """Refused exactly where an example is on both sides; what integers it is kept in says nothing."""
    one = digests_of(np.array(row, np.int32) for row in calibration)
    other = digests_of(np.array(row, np.int64) for row in gate)
    leaked = sum(row in set(gate) for row in calibration)

    if leaked:
        with pytest.raises(
            BuildError, match=f"package: {leaked} of {len(calibration)} texts are also what the gate judges"
        ):
            refuse_leak("package", one, other, what="texts", advice="split them")
        refuse_leak("package", one, other, what="texts", allowed=leaked, advice="split them")
    else:
        refuse_leak("package", one, other, what="texts", advice="split them")


def test_an_empty_calibration_set_is_refused() -> None:
    """Nothing to calibrate on is no calibration."""
    with pytest.raises(BuildError, match="quantize: there are no histories to calibrate on; give more users"):
        refuse_leak(
            "quantize", [], [digest_of_ids(np.array([1]))], what="histories", advice="give more users"
        )
