"""Which weights go: exactly as many as asked for, two in every four, nested, and by Wanda and SparseGPT for a reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from build_engines.compression.packed_size import packed_bytes, stored_bytes
from build_engines.compression.semi_structured import (
    GONE,
    is_two_of_four,
    lowest,
    lowest_of_all,
    lowest_of_each_row,
    two_of_four,
)
from build_engines.compression.sparsegpt import gram_II, output_error, sparsegpt, wanda_mask

SPARSITIES = st.floats(0.01, 0.99)


def matrix(seed: int, rows: int, width: int, *, ties: bool = False) -> Tensor:
    values = np.random.default_rng(seed).standard_normal((rows, width))
    return torch.from_numpy(np.round(values, 0) if ties else values).float()


def linears() -> st.SearchStrategy[tuple[Tensor, Tensor]]:
    """A matrix, and inputs of it whose channels hang together and differ in size."""

    def made(seed: int, rows: int, fours: int) -> tuple[Tensor, Tensor]:
        width = 4 * fours
        random = np.random.default_rng(seed)
        mixing = random.standard_normal((width, width)) * random.exponential(1.0, width)
        return matrix(seed + 1, rows, width), torch.from_numpy(random.standard_normal((64, width)) @ mixing)

    return st.builds(made, st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 40))


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 40), SPARSITIES, st.booleans())
def test_exactly_as_many_weights_go_as_asked_for(
    seed: int, rows: int, width: int, sparsity: float, ties: bool
) -> None:
    """Of a matrix, of each row, and of several matrices together; also where many scores are equal."""
    score = matrix(seed, rows, width, ties=ties).abs()
    others = {"a": score, "b": matrix(seed + 1, 3, 5, ties=ties).abs()}

    whole = lowest(score, round(sparsity * score.numel()))
    by_row = lowest_of_each_row(score, sparsity)
    together = lowest_of_all(others, sparsity)

    assert int(whole.sum()) == round(sparsity * rows * width)
    assert by_row.sum(1).tolist() == [round(sparsity * width)] * rows
    assert sum(int(one.sum()) for one in together.values()) == round(sparsity * (rows * width + 15))
    if whole.any() and not whole.all():
        assert score[whole].max() <= score[~whole].min()


@given(st.integers(0, 2**31), st.integers(2, 9), st.integers(2, 40), SPARSITIES, SPARSITIES)
def test_what_is_zero_stays_among_what_goes(
    seed: int, rows: int, width: int, one: float, other: float
) -> None:
    """Pruned to more and more zeros, a matrix never gets one back."""
    low, high = sorted((one, other))
    score = matrix(seed, rows, width).abs()

    first = lowest(score, round(low * score.numel()))
    then = lowest(score.masked_fill(first, GONE), round(high * score.numel()))

    assert not (first & ~then).any()


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 20), st.booleans())
def test_every_four_neighbours_lose_their_two_lowest(seed: int, rows: int, fours: int, ties: bool) -> None:
    """2:4 holds in every group, and no weight that goes has a higher score than one that stays beside it."""
    score = matrix(seed, rows, 4 * fours, ties=ties).abs()

    mask = two_of_four(score)

    grouped, groups = mask.reshape(-1, 4), score.reshape(-1, 4)
    assert (grouped.sum(1) == 2).all()
    assert is_two_of_four(torch.ones_like(score).masked_fill(mask, 0.0))
    gone, kept = groups[grouped].reshape(-1, 2), groups[~grouped].reshape(-1, 2)
    assert (gone.amax(1) <= kept.amin(1)).all()


def test_a_width_that_has_no_groups_of_four_is_refused() -> None:
    """With its width."""
    with pytest.raises(ValueError, match="is 6 wide, 2:4 needs a multiple of 4"):
        two_of_four(torch.ones(2, 6))


def test_one_weight_too_many_is_no_two_of_four() -> None:
    """Three weights in one group of thousands are seen."""
    weight = torch.ones(64, 64).masked_fill(two_of_four(torch.rand(64, 64)), 0.0)
    assert is_two_of_four(weight)

    weight[17, 8:12] = torch.tensor([1.0, 1.0, 0.0, 1.0])

    assert not is_two_of_four(weight)
    assert not is_two_of_four(torch.zeros(4, 6))


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(2, 40), SPARSITIES, st.floats(0.01, 100.0))
def test_wanda_is_magnitude_where_all_inputs_are_alike(
    seed: int, rows: int, width: int, sparsity: float, size: float
) -> None:
    """With isotropic inputs the norm of a channel says nothing, and the smallest weights of each row go."""
    weight = matrix(seed, rows, width)

    mask = wanda_mask(weight, size * torch.eye(width, dtype=torch.float64), sparsity, pattern="unstructured")

    assert torch.equal(mask, lowest_of_each_row(weight.abs().double(), sparsity))


def test_wanda_keeps_a_small_weight_of_a_loud_channel() -> None:
    """A weight of 0.1 whose input is 100 times as large stays, and the larger one goes."""
    x = torch.tensor([[100.0, 1.0], [-100.0, 1.0]])

    mask = wanda_mask(torch.tensor([[0.1, 0.5]]), gram_II([x]), 0.5, pattern="unstructured")

    assert mask.tolist() == [[False, True]]


@settings(deadline=None, max_examples=40)
@given(linears(), st.floats(0.05, 0.95), st.sampled_from(["unstructured", "2:4"]))
def test_sparsegpt_is_never_worse_than_wanda_on_what_both_minimize(
    linear: tuple[Tensor, Tensor], sparsity: float, pattern: str
) -> None:
    """Squared change of the outputs on the calibration inputs; as many zeros as asked for, and 2:4 where asked for."""
    weight, x = linear
    gram = gram_II([x])
    sparsity = 0.5 if pattern == "2:4" else sparsity

    found = sparsegpt(weight, gram, sparsity, pattern=pattern)

    plain = weight.masked_fill(wanda_mask(weight, gram, sparsity, pattern=pattern), 0.0)
    limit = output_error(weight, plain, gram)
    assert output_error(weight, found, gram) <= limit * (1 + 1e-6) + 1e-6 * float(gram.diagonal().mean())
    assert abs(int((found == 0).sum()) - sparsity * weight.numel()) <= len(weight) / 2 + 1
    if pattern == "2:4":
        assert is_two_of_four(found)


def test_sparsegpt_makes_an_eighth_of_wandas_error_where_channels_hang_together() -> None:
    """Its point: the weights that stay make up for those that go (more columns than one block of them)."""
    random = np.random.default_rng(0)
    width = 256
    x = torch.from_numpy(random.standard_normal((2000, 32)) @ random.standard_normal((32, width)))
    x = x + 0.1 * torch.from_numpy(random.standard_normal((2000, width)))
    weight, gram = matrix(3, 64, width), gram_II([x])

    found = sparsegpt(weight, gram, 0.5, pattern="unstructured")

    plain = weight.masked_fill(wanda_mask(weight, gram, 0.5, pattern="unstructured"), 0.0)
    assert int((found == 0).sum()) == weight.numel() // 2
    assert output_error(weight, found, gram) < 0.125 * output_error(weight, plain, gram)


def test_a_channel_that_was_never_seen_breaks_nothing() -> None:
    """Inputs that are always zero (a dead channel) leave finite weights."""
    x = torch.randn(50, 8)
    x[:, 3] = 0.0

    found = sparsegpt(matrix(0, 4, 8), gram_II([x]), 0.5, pattern="unstructured")

    assert torch.isfinite(found).all()


def test_zeros_are_worth_bytes_only_after_compression() -> None:
    """Half zeros leave the stored size as it is, and take at least a third of the packed one."""
    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    sparse = np.where(np.random.default_rng(1).random(weight.shape) < 0.5, 0, weight).astype(np.float32)

    assert stored_bytes([weight]) == stored_bytes([sparse]) == 262_144
    assert packed_bytes([sparse]) < 0.67 * packed_bytes([weight])
    assert packed_bytes([np.zeros((3, 0), np.float32)]) < 16
    assert packed_bytes([np.zeros_like(weight)]) < 4096
