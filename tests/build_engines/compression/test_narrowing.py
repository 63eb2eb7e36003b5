"""What may be kept of a model, whatever its family: every answer is a model of one shape, or a sentence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from build_engines.compression.families.narrowing import columns_of, resolved
from build_engines.compression.model import Keep, Sizes
from build_engines.errors import BuildError

SIZES = Sizes(blocks=3, dim=6, heads=4, kv_heads=2, head_dim=2, inner=5, rows=9)


def indices(size: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(-1, size), max_size=size).map(tuple)


@given(
    blocks=st.none() | indices(3),
    heads=st.none() | st.lists(indices(4), max_size=3).map(tuple),
    inner=st.none() | st.lists(indices(5), max_size=3).map(tuple),
    dims=st.none() | indices(6),
)
def test_what_is_kept_has_one_shape_in_every_block_or_is_refused(
    blocks: tuple[int, ...] | None,
    heads: tuple[tuple[int, ...], ...] | None,
    inner: tuple[tuple[int, ...], ...] | None,
    dims: tuple[int, ...] | None,
) -> None:
    """No wish leads to a model whose blocks differ, whose groups are torn, or that is empty."""
    try:
        cut = resolved(Keep(blocks=blocks, heads=heads, inner=inner, dims=dims), SIZES)
    except BuildError as error:
        assert str(error)
        return
    assert len(cut.blocks) == len(cut.heads) == len(cut.inner) == cut.sizes.blocks >= 1
    for kept, kv_kept, channels in zip(cut.heads, cut.kv_heads, cut.inner, strict=True):
        assert len(kept) == cut.sizes.heads == 2 * len(kv_kept) == 2 * cut.sizes.kv_heads
        assert {head // 2 for head in kept} == set(kv_kept)
        assert len(channels) == cut.sizes.inner >= 1
        assert len(columns_of(kept, SIZES.head_dim)) == cut.sizes.heads * SIZES.head_dim
    assert len(cut.dims) == cut.sizes.dim and set(cut.dims) <= set(range(SIZES.dim))
