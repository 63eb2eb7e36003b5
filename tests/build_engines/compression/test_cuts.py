"""Cuts of shapes: really smaller, of valid and nested choices, what matters kept, and refused where nothing would be left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from build_engines.compression.importance import best, measure_importance
from build_engines.compression.learning import LearningOptions
from build_engines.compression.model import Keep
from build_engines.compression.prune_rows import covered, kept_rows
from build_engines.compression.share_blocks import groups_of
from build_engines.compression.sharing import own_state, share_again, shared_parameters
from build_engines.errors import BuildError
from tests.build_engines.compression.stepping import stepped, tiny
from tests.build_engines.compression.tiny_model import SIZES, TinyModel

RECOVERY = LearningOptions(epochs=2, learning_rate=3e-3)
CUTS: list[tuple[str, dict[str, Any], dict[str, int]]] = [
    ("prune_heads", {"keep": 2}, {"heads": 2, "kv_heads": 1}),
    ("prune_inner", {"keep": 0.5, "multiple": 4}, {"inner": 16}),
    ("prune_width", {"keep": 12, "multiple": 4}, {"dim": 12}),
    ("prune_blocks", {"keep": 2}, {"blocks": 2}),
]


@pytest.mark.parametrize("importance", ["activation", "taylor"])
@pytest.mark.parametrize(("name", "options", "sizes"), CUTS, ids=[one[0] for one in CUTS])
def test_the_model_is_really_smaller(
    tmp_path: Path, name: str, options: dict[str, Any], sizes: dict[str, int], importance: str
) -> None:
    """Shapes and numbers of parameters, as the record says; the model that was given stays as it was."""
    model = tiny()

    cut, record = stepped(name, tmp_path, model, importance=importance, **options)

    assert all(getattr(cut.sizes, key) == value for key, value in sizes.items())
    assert all(
        getattr(cut.sizes, key) == getattr(SIZES, key)
        for key in ("blocks", "dim", "heads", "kv_heads", "head_dim", "inner", "rows")
        if key not in sizes
    )
    weights = sum(one.numel() for one in cut.module.parameters())
    assert weights == record.figures["parameters after"] < record.figures["parameters before"]
    assert record.after == record.before | sizes
    assert record.figures["loss after"] == cut.judge()
    assert model.sizes == SIZES and model.judge() == tiny().judge()


@pytest.mark.parametrize(("name", "options", "sizes"), CUTS, ids=[one[0] for one in CUTS])
def test_rounds_with_learning_between_end_at_the_same_shapes(
    tmp_path: Path, name: str, options: dict[str, Any], sizes: dict[str, int]
) -> None:
    """And get back what the cut took: the loss after learning is no higher than before it."""
    cut, record = stepped(name, tmp_path, rounds=2, recovery=RECOVERY, **options)

    assert all(getattr(cut.sizes, key) == value for key, value in sizes.items())
    assert record.figures["loss after"] <= record.figures["loss pruned"]
    assert any("held-out loss, round" in curve.name for curve in record.curves)


@pytest.mark.parametrize("importance", ["activation", "taylor"])
def test_what_does_nothing_goes_first(importance: Any) -> None:
    """A group of heads, inner channels, and a block that add nothing to the stream have an importance of 0 and the lowest rank."""
    model = tiny()
    with torch.no_grad():
        block = model.module.blocks[1]
        block.out.weight[:, : 2 * SIZES.head_dim] = 0
        block.down.weight[:, 5:9] = 0
        last = model.module.blocks[2]
        for part in (last.out, last.down):
            part.weight.zero_()
            part.bias.zero_()

    found = measure_importance(model, importance, 32)

    assert found.heads_LH[1, :2] == pytest.approx(0, abs=1e-6)
    assert found.inner_LF[1, 5:9] == pytest.approx(0, abs=1e-6)
    assert best(found.blocks_L, 2) == (0, 1) and found.blocks_L[2] == pytest.approx(0, abs=1e-4)
    assert set(best(found.heads_LH[1], 2)) == {2, 3}
    assert not {5, 6, 7, 8} & set(best(found.inner_LF[1], SIZES.inner - 4))


@pytest.mark.parametrize("importance", ["activation", "taylor"])
def test_measuring_changes_nothing(importance: Any) -> None:
    """Weights, gradients and hooks are as before, and the same model gives the same importance."""
    model = tiny()

    first = measure_importance(model, importance, 32)
    second = measure_importance(model, importance, 32)

    assert np.array_equal(first.heads_LH, second.heads_LH) and np.array_equal(first.dims_D, second.dims_D)
    assert all(one.grad is None for one in model.module.parameters())
    assert all(not one._forward_hooks and not one._forward_pre_hooks for one in model.module.modules())
    assert model.judge() == tiny().judge()


def test_cutting_by_importance_is_better_than_cutting_the_most_important() -> None:
    """Half the inner channels by importance cost less than the other half would."""
    model = tiny()
    for importance in ("activation", "taylor"):
        found = measure_importance(model, importance, 96).inner_LF  # type: ignore[arg-type]

        kept = model.narrowed(Keep(inner=tuple(best(one, 16) for one in found)))
        other = model.narrowed(Keep(inner=tuple(best(-one, 16) for one in found)))

        assert kept.judge() < other.judge()


def test_removal_takes_the_block_that_the_loss_misses_least(tmp_path: Path) -> None:
    """A block that does nothing is found by trying."""
    model = tiny()
    with torch.no_grad():
        for part in (model.module.blocks[1].out, model.module.blocks[1].down):
            part.weight.zero_()
            part.bias.zero_()
    kept = model.judge()

    cut, _ = stepped("prune_blocks", tmp_path, model, keep=2, importance="removal")

    assert cut.judge() == pytest.approx(kept, abs=1e-6)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.data())
def test_fewer_kept_are_always_among_more(values: list[float], data: st.DataObject) -> None:
    """Choices rise, are of the size asked for, hold the best, and are nested, ties included."""
    low = data.draw(st.integers(1, len(values)))
    high = data.draw(st.integers(low, len(values)))
    array = np.array(values)

    few, many = best(array, low), best(array, high)

    assert len(few) == low and list(few) == sorted(set(few))
    assert set(few) <= set(many)
    assert min(array[list(few)]) >= max((array[at] for at in range(len(values)) if at not in few), default=0)


@given(
    st.lists(st.integers(0, 100), min_size=3, max_size=60), st.floats(0.5, 1.0), st.sets(st.integers(0, 59))
)
def test_rows_cover_the_traffic_asked_for_and_no_more_than_needed(
    counts: list[int], coverage: float, fixed: set[int]
) -> None:
    """Row 0 and rows that must stay are kept; one row fewer would not do."""
    traffic = np.array(counts, np.float64)
    must = [at for at in fixed if at < len(traffic)]
    traffic[must] = np.inf
    others = [at for at in range(1, len(traffic)) if at not in must]
    if not traffic[others].sum() > 0:
        with pytest.raises(BuildError, match="no row occurs"):
            kept_rows(traffic, coverage=coverage)
        return

    rows = kept_rows(traffic, coverage=coverage)

    assert rows[0] == 0 and set(must) <= set(rows.tolist()) and list(rows) == sorted(set(rows.tolist()))
    free = [at for at in rows.tolist() if at in others]
    total = traffic[others].sum()
    assert traffic[free].sum() >= coverage * total * (1 - 1e-9)
    if len(free) > 1:
        assert traffic[free].sum() - traffic[free].min() < coverage * total
    assert covered(np.r_[0.0, traffic[1:]], np.array(free or [0])) >= 0


def test_rows_go_by_traffic_and_one_row_stands_for_them(tmp_path: Path) -> None:
    """The table has as many rows as were kept, the busiest among them, and the model still judges every text."""
    traffic = tiny().traffic_R()

    cut, record = stepped("prune_rows", tmp_path, keep=0.5)

    assert cut.sizes.rows == 12 == cut.module.table.weight.shape[0]
    assert record.figures["traffic kept"] == pytest.approx(np.sort(traffic)[::-1][:11].sum() / traffic.sum())
    assert np.isfinite(cut.judge())


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("prune_heads", {"keep": 3}, "keep is 3 heads of queries; use a multiple of 2, at most 4"),
        ("prune_heads", {"keep": 8}, "keep is 8, and there are 4 heads of queries; use 1 to 4"),
        ("prune_inner", {"keep": 33, "multiple": 1}, "keep is 33, and there are 32 inner channels"),
        ("prune_rows", {"keep": 1}, "1 rows are to be left, and 1 must stay"),
        ("share_blocks", {"keep": 3}, "3 blocks with 3 sets of weights share nothing"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_what_there_is(
    tmp_path: Path, name: str, options: dict[str, Any], sentence: str
) -> None:
    """A sentence, and no model."""
    with pytest.raises(BuildError, match=sentence):
        stepped(name, tmp_path, **options)


@pytest.mark.parametrize("keep", [0, -1, 1.5, float("nan"), 1e9])
@pytest.mark.parametrize(
    "name", ["prune_heads", "prune_inner", "prune_width", "prune_blocks", "share_blocks"]
)
def test_keeping_nothing_or_half_a_head_is_refused(tmp_path: Path, name: str, keep: float) -> None:
    """Before anything runs: zero, less than zero, no number, a fraction above 1."""
    with pytest.raises(ValueError, match=r"keep is .*; use a share above 0 and below 1, or a whole number"):
        stepped(name, tmp_path, keep=keep)


@pytest.mark.parametrize("order", ["sequence", "cycle"])
@pytest.mark.parametrize("take", ["mean", "first"])
def test_blocks_share_their_weights_through_training(tmp_path: Path, order: str, take: str) -> None:
    """Blocks of a group hold the same parameters before and after learning, and each is counted once."""
    shared, record = stepped("share_blocks", tmp_path, keep=1, order=order, take=take, recovery=RECOVERY)

    first, *others = shared.module.blocks
    for other in others:
        assert all(a is b for a, b in zip(first.parameters(), other.parameters(), strict=True))
    block = sum(one.numel() for one in first.parameters())
    assert record.figures["parameters before"] - record.figures["parameters after"] == 2 * block
    assert len(list(shared_parameters(shared.module))) == 2 * len(list(first.named_parameters()))
    assert record.figures["loss after"] <= record.figures["loss pruned"]


def test_a_checkpoint_of_shared_blocks_is_an_ordinary_one(tmp_path: Path) -> None:
    """Written out for each block, it loads into a model that knows no sharing and computes the same."""
    shared, _ = stepped("share_blocks", tmp_path, keep=2)
    state = own_state(shared.module)
    assert len({one.data_ptr() for one in state.values()}) == len(state)

    plain = TinyModel()
    plain.module.load_state_dict(state)
    assert plain.judge() == shared.judge()
    assert share_again(plain) == 1 and share_again(tiny()) == 0

    tuned, _ = stepped("finetune", tmp_path / "tuned", plain, epochs=1, learning_rate=1e-3)

    assert len(list(shared_parameters(tuned.module))) == len(list(shared_parameters(shared.module)))


@given(st.integers(1, 40), st.data(), st.sampled_from(["sequence", "cycle"]))
def test_every_block_is_in_one_group(blocks: int, data: st.DataObject, order: str) -> None:
    """As many groups as sets, none empty, sizes differ by one at most."""
    sets = data.draw(st.integers(1, blocks))

    groups = groups_of(blocks, sets, order)

    assert sorted(at for group in groups for at in group) == list(range(blocks))
    assert len(groups) == sets
    assert max(map(len, groups)) - min(map(len, groups)) <= 1
