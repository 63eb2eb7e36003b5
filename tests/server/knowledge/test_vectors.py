"""The vectors of a knowledge base: found as exactly as INT8 allows, and changed without anybody noticing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.knowledge.vectors import Floats, VectorIndex, pack_rows, unit, unpack_rows

DIM = 96


def _rows(count: int, seed: int = 0, dim: int = DIM) -> Floats:
    return unit(np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32))


def _packed(rows_ND: Floats) -> list[bytes]:
    return [pack_rows(row[None]) for row in rows_ND]


def _index(rows_ND: Floats, ids: Sequence[int] | None = None) -> VectorIndex:
    ids = range(len(rows_ND)) if ids is None else ids
    return VectorIndex(rows_ND.shape[1]).with_changes(list(ids), _packed(rows_ND), [])


def _near(centres_ND: Floats, noise: float, seed: int) -> Floats:
    return unit(centres_ND + noise * _rows(len(centres_ND), seed, centres_ND.shape[1]))


def test_a_vector_survives_being_written() -> None:
    """What is read back has a cosine above 0.9999 with what was written, and zeros stay zeros."""
    rows = _rows(50, dim=384)
    back = unpack_rows(pack_rows(rows), 384)

    assert np.all((unit(back) * rows).sum(axis=1) > 0.9999)
    assert not unpack_rows(pack_rows(np.zeros((1, 384), np.float32)), 384).any()


def test_bytes_that_are_no_vectors_are_refused() -> None:
    """A file written for another encoder is an error with both lengths in it, and no garbage."""
    with pytest.raises(ValueError, match=r"388 bytes are not rows of 96 dimensions \(100 bytes each\)"):
        unpack_rows(pack_rows(_rows(1, dim=384)), 96)


def test_a_scan_in_two_steps_finds_what_the_exact_ranking_finds() -> None:
    """Of the ten nearest of 20,000 rows about 2,000 subjects, at least 99 % are found by 2,000 cosines."""
    rows = _near(np.repeat(_rows(2_000, dim=384), 10, axis=0), 0.9, seed=2)
    index = _index(rows)
    asked = _near(rows[:100], 0.9, seed=1)
    found = 0
    for query_D in asked:
        ids, _ = index.search(query_D, 10)
        found += len(set(ids.tolist()) & set(np.argsort(-(rows @ query_D))[:10].tolist()))

    assert found >= 990


def test_cosines_are_right_and_best_first() -> None:
    """A hit's cosine is within 0.005 of the exact one."""
    rows = _rows(300)
    ids, cosines = _index(rows).search(rows[7], 20)

    assert ids[0] == 7
    assert np.all(np.diff(cosines) <= 0)
    assert np.allclose(cosines, (rows @ rows[7])[ids], atol=0.005)


@st.composite
def _steps(draw: st.DrawFn) -> list[tuple[int, list[int]]]:
    """Changes: how many rows come, and which places of all ids so far go."""
    return draw(
        st.lists(
            st.tuples(st.integers(0, 12), st.lists(st.integers(0, 80), max_size=6)), min_size=1, max_size=12
        )
    )


@settings(max_examples=60, deadline=None)
@given(_steps())
def test_an_index_holds_exactly_what_was_added_and_not_removed(steps: list[tuple[int, list[int]]]) -> None:
    """Whatever comes and goes in whatever order, what is found is what is there; older indexes never change."""
    index, there, next_id = VectorIndex(DIM), set[int](), 0
    seen: list[tuple[VectorIndex, set[int]]] = []
    for count, gone in steps:
        new = list(range(next_id, next_id + count))
        next_id += count + 1  # ids have gaps
        index = index.with_changes(new, _packed(_rows(count, next_id)), gone)
        there = (there | set(new)) - set(gone)
        seen.append((index, set(there)))

    for old, held in seen:
        ids, _ = old.search(_rows(1)[0], 1000)
        few, _ = old.search(_rows(1)[0], 1000, kept=0)  # the scan of signs, which small indexes go without
        assert set(ids.tolist()) == held >= set(few.tolist())
        assert len(old) == len(held)
        rows = old.vectors(np.array(sorted(held), np.int64))
        assert np.allclose(old.mean_D, rows.mean(axis=0) if held else 0, atol=1e-5)


def test_the_scan_of_signs_never_gives_a_removed_row() -> None:
    """A page that was taken away is not found, however close it lies."""
    rows = _rows(5000)
    index = _index(rows).with_changes([], [], list(range(0, 900)))

    for at in (0, 1, 899):
        ids, _ = index.search(rows[at], 50, kept=200)
        assert ids.min() >= 900


def test_two_indexes_made_of_one_do_not_disturb_each_other() -> None:
    """A change that is given up and made again finds its own rows, and not those of the first try."""
    rows = _rows(5)
    first = _index(rows[:1]).with_changes([1], _packed(rows[1:2]), [])  # has room for more behind its rows
    tried = first.with_changes([2], _packed(rows[2:3]), [])
    made = first.with_changes([2, 3], _packed(rows[3:5]), [])

    assert np.allclose(tried.vectors(np.array([2]))[0], rows[2], atol=0.01)
    assert np.allclose(made.vectors(np.array([2, 3])), rows[3:5], atol=0.01)


def test_ids_that_do_not_ascend_are_refused_and_change_nothing() -> None:
    """The database's ids ascend; anything else would be found under the wrong passage."""
    index = _index(_rows(3), [4, 5, 6])

    for wrong in ([6], [9, 8], [7, 7]):
        with pytest.raises(ValueError, match="must ascend from 7"):
            index.with_changes(wrong, _packed(_rows(len(wrong))), [])
    assert index.with_changes([7], _packed(_rows(1)), []).search(_rows(1)[0], 9)[0].size == 4


def test_vectors_of_unknown_passages_are_not_numbers() -> None:
    """A passage without a vector is told from one at a right angle."""
    rows = _rows(2)
    index = _index(rows).with_changes([], [], [1])

    found = index.vectors(np.array([0, 1, 99]))

    assert np.allclose(found[0], rows[0], atol=0.01)
    assert np.isnan(found[1:]).all()
    assert np.isnan(VectorIndex(DIM).vectors(np.array([3]))).all()
