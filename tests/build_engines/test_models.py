"""Promises of the recommender's models: sequence model, count model, popularity, mix."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from build_engines.models.mix import (
    TIE_BREAK,
    Candidates,
    MixConfig,
    MixGrid,
    fold,
    mix_scores_BN,
    recall_and_ndcg,
    tune_mix,
)
from build_engines.models.popularity import decayed_popularity
from build_engines.models.sasrec import SasRec, SasRecConfig, pad_attributes
from build_engines.models.transitions import TransitionConfig, build_transitions, transition_scores_BN
from tests.build_engines.walking_shop import held_out, walks_of

FloatArray = npt.NDArray[np.float32]
AnyFloats = npt.NDArray[np.floating[Any]]
ITEMS = 12
logs = st.lists(
    st.lists(st.integers(1, ITEMS), max_size=9).map(lambda items: np.array(items, dtype=np.int64)), max_size=8
)


# --- sequence model -------------------------------------------------------------------------------------


def _normed(x: AnyFloats, weights: dict[str, FloatArray], name: str) -> AnyFloats:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return np.asarray(scaled * weights[f"{name}_weight"] + weights[f"{name}_bias"])


def _softmax(x: AnyFloats) -> AnyFloats:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _query_from_the_docstring(
    weights: dict[str, FloatArray], ids_BL: npt.NDArray[np.int64], heads: int
) -> AnyFloats:
    """Steps 1 to 3 of the module docstring of ``sasrec``, in numpy."""
    length = ids_BL.shape[1]
    x: AnyFloats = weights["item_emb_ND"][ids_BL] * weights["input_scale_N"][ids_BL][:, :, None]
    x = x + weights["position_LD"][-length:]
    width = x.shape[-1] // heads
    visible = np.tril(np.ones((length, length), dtype=bool))[None] & (ids_BL > 0)[:, None, :]
    gelu = np.vectorize(lambda value: 0.5 * value * (1 + math.erf(value / math.sqrt(2))))
    for index in range(sum(name.endswith("qkv_weight") for name in weights)):
        at = f"blocks.{index}."
        qkv = _normed(x, weights, at + "norm1") @ weights[at + "qkv_weight"] + weights[at + "qkv_bias"]
        query, key, value = np.split(qkv, 3, axis=-1)
        mixed = []
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            scores = query[..., own] @ key[..., own].transpose(0, 2, 1) / math.sqrt(width)
            mixed.append(_softmax(np.where(visible, scores, -1e9)) @ value[..., own])
        x = x + np.concatenate(mixed, -1) @ weights[at + "out_weight"] + weights[at + "out_bias"]
        inner = gelu(_normed(x, weights, at + "norm2") @ weights[at + "up_weight"] + weights[at + "up_bias"])
        x = x + inner @ weights[at + "down_weight"] + weights[at + "down_bias"]
    last = _normed(x, weights, "final_norm")[:, -1]
    return np.asarray(last / np.maximum(np.linalg.norm(last, axis=-1, keepdims=True), 1e-12))


@pytest.mark.parametrize(("blocks", "heads", "with_attributes"), [(1, 1, True), (2, 2, False), (2, 1, True)])
def test_exported_weights_in_numpy_give_the_torch_answer(
    blocks: int, heads: int, with_attributes: bool
) -> None:
    """A graph written from the docstring and the exported arrays alone scores as the trained model does."""
    torch.manual_seed(3)
    config = SasRecConfig(num_items=20, dim=8, blocks=blocks, heads=heads, length=6)
    attributes = pad_attributes([[], *[[item % 3, 7 * (item % 4)][: item % 3] for item in range(1, 21)]], 20)
    model = SasRec(config, attributes if with_attributes else None).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    ids_BL = np.array([[0, 0, 0, 0, 0, 5], [0, 0, 3, 3, 20, 1], [9, 8, 7, 6, 5, 4]])

    weights = model.export_weights()
    query = _query_from_the_docstring(weights, ids_BL, heads)

    with torch.no_grad():
        expected = model(torch.from_numpy(ids_BL))[:, -1]
        table = model.output_table_ND(model.item_vectors_ND())
    np.testing.assert_allclose(query, expected.numpy(), atol=2e-5)
    np.testing.assert_allclose(
        (query @ weights["item_emb_ND"].T)[:, 1:], (expected @ table.T).numpy()[:, 1:], atol=5e-4
    )
    assert not weights["item_emb_ND"][0].any()


def test_padding_never_changes_an_answer() -> None:
    """The same history at any padded length gets the same query: the server may pick a shorter engine."""
    model = SasRec(SasRecConfig(num_items=9, dim=8, blocks=2, length=6)).eval()

    with torch.no_grad():
        short = model(torch.tensor([[4, 2]]))[:, -1]
        padded = model(torch.tensor([[0, 0, 0, 0, 4, 2]]))[:, -1]
        nothing = model(torch.zeros(1, 6, dtype=torch.int64))

    torch.testing.assert_close(short, padded)
    assert torch.isfinite(nothing).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_items", 0), ("dim", 0), ("heads", 3), ("dropout", 1.0), ("tau", 0.0), ("tau", math.nan)],
)
def test_an_impossible_size_is_refused_by_name(field: str, value: Any) -> None:
    """A configuration that cannot work says which value is wrong."""
    with pytest.raises(ValueError, match="dim" if field == "heads" else field):
        SasRecConfig(**{"num_items": 5, "dim": 8, field: value})


def test_attributes_of_another_catalogue_are_refused() -> None:
    """Attributes that do not belong to this catalogue are an error, not a shifted table."""
    with pytest.raises(ValueError, match="row 0"):
        pad_attributes([[1], [2]], 2)
    with pytest.raises(ValueError, match="attributes_NK"):
        SasRec(SasRecConfig(num_items=5, dim=8), pad_attributes([[], [1]], 1))


# --- counts and popularity ------------------------------------------------------------------------------


def _brute_force(log: list[npt.NDArray[np.int64]], config: TransitionConfig) -> dict[int, dict[int, float]]:
    counts: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for sequence in log:
        for first in range(len(sequence)):
            for second in range(first + 1, min(first + config.window, len(sequence) - 1) + 1):
                earlier, later = int(sequence[first]), int(sequence[second])
                if earlier != later:
                    weight = config.decay ** (second - first - 1)
                    counts[earlier][later] += weight
                    if config.backward:
                        counts[later][earlier] += weight * config.backward
    return {
        item: {other: value / sum(row.values()) ** config.normalise for other, value in row.items()}
        for item, row in counts.items()
    }


@given(
    log=logs,
    window=st.integers(1, 6),
    backward=st.sampled_from([0.0, 0.3, 1.0]),
    normalise=st.sampled_from([0.0, 0.5, 1.0]),
    top_m=st.integers(1, 6),
)
@settings(deadline=None)
def test_the_table_equals_counting_by_hand(
    log: list[npt.NDArray[np.int64]], window: int, backward: float, normalise: float, top_m: int
) -> None:
    """Whatever the log, every kept neighbour has the weight of the definition, and none heavier was dropped."""
    config = TransitionConfig(window=window, backward=backward, normalise=normalise, top_m=top_m)

    table = build_transitions(log, ITEMS, config)

    expected = _brute_force(log, config)
    assert table.neighbour_ids_NM.shape == (ITEMS + 1, top_m)
    for item in range(ITEMS + 1):
        row = expected.get(item, {})
        ids, weights = table.neighbour_ids_NM[item], table.neighbour_weights_NM[item]
        found = {int(other): float(value) for other, value in zip(ids, weights, strict=True) if other}
        assert len(found) == min(top_m, len(row)) == np.count_nonzero(ids) == np.count_nonzero(weights)
        assert found == pytest.approx({other: row[other] for other in found}, rel=1e-5)
        heaviest = sorted(row.values(), reverse=True)[:top_m]
        assert [float(value) for value in weights[: len(found)]] == pytest.approx(heaviest, rel=1e-5)


@given(log=logs, top_m=st.integers(1, 5))
@settings(deadline=None)
def test_a_truncated_table_is_the_table_built_short(log: list[npt.NDArray[np.int64]], top_m: int) -> None:
    """Cutting a wide table gives the same engine as building a narrow one."""
    wide = build_transitions(log, ITEMS, TransitionConfig(top_m=16)).truncated(top_m)
    narrow = build_transitions(log, ITEMS, TransitionConfig(top_m=top_m))

    np.testing.assert_array_equal(wide.neighbour_ids_NM, narrow.neighbour_ids_NM)
    np.testing.assert_array_equal(wide.neighbour_weights_NM, narrow.neighbour_weights_NM)


@given(log=logs, window=st.integers(1, 4))
@settings(deadline=None)
def test_count_scores_are_the_sum_over_the_newest_items(
    log: list[npt.NDArray[np.int64]], window: int
) -> None:
    """A history is scored by its newest items only, each step back worth half."""
    table = build_transitions(log, ITEMS, TransitionConfig(top_m=4))

    scores = transition_scores_BN(table, log, window=window, decay=0.5)

    expected = np.zeros((len(log), ITEMS + 1))
    for row, history in enumerate(log):
        for step, item in enumerate(history[::-1][:window]):
            pairs = zip(table.neighbour_ids_NM[item], table.neighbour_weights_NM[item], strict=True)
            for other, weight in pairs:
                expected[row, other] += 0.5**step * weight
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_old_events_count_less_when_times_are_known() -> None:
    """With a half-life, an event that old is worth half, in popularity and in transitions."""
    log, times = [np.array([1, 2]), np.array([1, 3])], [np.array([0.0, 0.0]), np.array([60.0, 60.0])]
    config = TransitionConfig(top_m=2, normalise=0.0, half_life_s=60.0)

    table = build_transitions(log, 3, config, timestamps=times)

    popularity = decayed_popularity(log, 3, timestamps=times, half_life_s=60.0)
    np.testing.assert_allclose(popularity, [0.0, 1.5, 0.5, 1.0])
    assert table.neighbour_ids_NM[1].tolist() == [3, 2]
    np.testing.assert_allclose(table.neighbour_weights_NM[1], [1.0, 0.5])
    with pytest.raises(ValueError, match="no timestamps"):
        build_transitions(log, 3, config)


def test_an_item_outside_the_catalogue_is_refused_with_its_user() -> None:
    """A log that does not fit its catalogue names the user and the item row."""
    with pytest.raises(ValueError, match=r"user 1: item row 4 is outside 1\.\.3"):
        build_transitions([np.array([1]), np.array([2, 4])], 3, TransitionConfig())


# --- mix ------------------------------------------------------------------------------------------------


def test_weight_zero_is_the_count_model() -> None:
    """With the neural weight at 0 the mix ranks exactly as the counts do, whatever the logits say."""
    log = walks_of(40, 30)
    table = build_transitions(log, 30, TransitionConfig(top_m=8))
    counts = MixConfig(neural_weight=0.0, gamma=1.0, kappa=1e-3)
    logits = np.random.default_rng(0).normal(size=(40, 31)).astype(np.float32) * 100

    mixed = mix_scores_BN(logits, table, log, counts)

    alone = transition_scores_BN(table, log, window=counts.window, decay=counts.decay)
    np.testing.assert_allclose(mixed[:, 1:], 1e-3 * alone[:, 1:], rtol=2e-3)
    unmixed = transition_scores_BN(fold(table, counts), log, window=counts.window, decay=counts.decay)
    np.testing.assert_array_equal(mixed[:, 1:], unmixed[:, 1:])


@given(seed=st.integers(0, 10_000), gamma=st.sampled_from([0.0, 0.5, 3.0]), window=st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_ranks_from_candidates_equal_ranking_the_whole_catalogue(
    seed: int, gamma: float, window: int
) -> None:
    """The shortcut that makes tuning cheap never changes a rank above the cut, ties included."""
    rng = np.random.default_rng(seed)
    log = [walk[:5] for walk in walks_of(25, 40, seed)]
    table = build_transitions(log, 40, TransitionConfig(top_m=6))
    query = rng.integers(-2, 3, size=(25, 3)).astype(np.float32)  # small integers: many ties
    items = rng.integers(-2, 3, size=(41, 3)).astype(np.float32)
    targets = rng.integers(1, 41, size=25)
    mix = MixConfig(gamma=gamma, window=window)

    ranks = Candidates(query, items, log, targets, table, window).ranks_U(mix)

    scores = mix_scores_BN(query @ items.T, table, log, mix).astype(np.float64)
    for user, history in enumerate(log):
        scores[user, history] = -np.inf
        own = scores[user, targets[user]]
        rank = int((scores[user] >= own - 1e-5).sum()) - 1
        assert min(ranks[user], 10) == (min(rank, 10) if np.isfinite(own) else 10)


def test_tuning_never_ends_below_the_count_model() -> None:
    """Logits that are pure noise are switched off: on validation the mix is at least its floor."""
    walks = walks_of(300, 60)
    train_part, heldout = held_out(walks)
    table = build_transitions(train_part, 60, TransitionConfig(top_m=16))
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(len(heldout.targets), 4)).astype(np.float32) * 10
    items = rng.normal(size=(61, 4)).astype(np.float32)

    tuned = tune_mix(
        noise, items, heldout.histories, heldout.targets, table, decayed_popularity(train_part, 60)
    )

    assert tuned.best == tuned.counts
    assert tuned.best.config.neural_weight == 0.0
    assert tuned.best.config.popularity_weight == TIE_BREAK
    assert tuned.best.ndcg_at_10 > tuned.neural.ndcg_at_10 + 0.1


def test_metrics_at_ten() -> None:
    """Rank 0 is worth 1, rank 1 is worth 1 / log2(3), and rank 10 is a miss."""
    recall, ndcg = recall_and_ndcg(np.array([0, 1, 10, Candidates.BEYOND]))

    assert recall == 0.5
    assert ndcg == pytest.approx((1 + 1 / math.log2(3)) / 4)


def test_only_the_grid_is_tried() -> None:
    """A grid of one point tunes to that point or to one of its two parts."""
    train_part, heldout = held_out(walks_of(100, 40))
    table = build_transitions(train_part, 40, TransitionConfig(top_m=8))
    grid = MixGrid(gammas=(2.0,), kappas=(4.0,), windows=(2,), decays=(0.9,))
    query = np.zeros((len(heldout.targets), 2), dtype=np.float32)

    tuned = tune_mix(
        query,
        np.zeros((41, 2), dtype=np.float32),
        heldout.histories,
        heldout.targets,
        table,
        decayed_popularity(train_part, 40),
        grid,
    )

    assert (tuned.best.config.window, tuned.best.config.decay, tuned.best.config.kappa) == (2, 0.9, 4.0)
