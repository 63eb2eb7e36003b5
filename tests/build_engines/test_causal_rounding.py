"""Codes and scales of INT4 and INT8: what is written is what is read, and no further from the weights than a step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from build_engines.models.causal.rounding import (
    int4_blocks,
    int8_codes,
    int8_scales,
    pack_int4,
    unpack_int4,
)

BLOCK = 32
NORMAL = st.floats(-1e4, 1e4, width=32)


def pieces() -> st.SearchStrategy[npt.NDArray[np.float32]]:
    shapes = st.tuples(st.sampled_from([BLOCK, 2 * BLOCK]), st.integers(1, 4))
    return shapes.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=NORMAL))


@given(arrays.arrays(np.int8, st.integers(0, 64).map(lambda n: 2 * n), elements=st.integers(-8, 7)))
def test_packed_codes_come_back(codes: npt.NDArray[np.int8]) -> None:
    """Every code from -8 to 7 survives packing, in its place."""
    np.testing.assert_array_equal(unpack_int4(pack_int4(codes)), codes)


@given(pieces())
@settings(deadline=None)
def test_int4_is_at_least_as_close_as_rounding_to_the_largest(piece_KN: npt.NDArray[np.float32]) -> None:
    """Block by block, the squared error is never above that of the plain scale, largest over 7."""
    codes, scales = int4_blocks(piece_KN, BLOCK)
    blocks = piece_KN.reshape(-1, BLOCK, piece_KN.shape[1]).astype(np.float64)
    plain = np.maximum(np.abs(blocks).max(axis=1, keepdims=True) / 7, 1e-12)

    error = np.square(codes.reshape(blocks.shape) * scales[:, None, :].astype(np.float64) - blocks).sum(
        axis=1
    )
    plain_error = np.square(np.rint(blocks / plain) * plain - blocks).sum(axis=1)

    assert scales.min() > 0 and codes.min() >= -8 and codes.max() <= 7
    rounding = 1e-6 * np.square(plain * 7)[:, 0]  # of arithmetic in float32
    assert (error <= plain_error * 1.001 + rounding + 1e-20).all()


def test_int4_pays_for_an_outlier_only_where_it_stands() -> None:
    """One huge weight makes its own block coarse and leaves the next block, and the next column, fine."""
    piece = np.random.default_rng(0).normal(0, 1, (2 * BLOCK, 2)).astype(np.float32)
    piece[3, 0] = 1000.0

    _, scales = int4_blocks(piece, BLOCK)

    assert scales[0, 0] > 100
    assert scales[1, 0] < 1 and scales[:, 1].max() < 1


@given(pieces())
@settings(deadline=None)
def test_int8_is_within_half_a_step(piece_KN: npt.NDArray[np.float32]) -> None:
    """Every weight is read back to within half a step of its column."""
    scales = int8_scales(np.abs(piece_KN).max(axis=0))

    codes = int8_codes(piece_KN, scales)

    assert codes.min() >= -127
    assert (np.abs(codes * scales - piece_KN) <= scales * 0.501).all()
