"""Promises of training: it learns, resumes to the same bits, stops at what is no number, and says why it cannot begin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from build_engines.models.mix import recall_and_ndcg
from build_engines.models.sasrec import SasRecConfig, encode_UD, pad_attributes
from build_engines.models.training import (
    EpochReport,
    Heldout,
    TrainingConfig,
    TrainingDiverged,
    future_targets,
    rank_targets,
    train,
)
from tests.build_engines.walking_shop import held_out, walks_of

TINY = TrainingConfig(epochs=4, batch_size=64, learning_rate=5e-3, warmup_steps=5, bfloat16=False)


def test_a_tiny_shop_trains_in_seconds_and_learns() -> None:
    """300 items and 500 users are enough to beat chance clearly, and progress tells how it goes."""
    train_part, heldout = held_out(walks_of())
    reports: list[EpochReport] = []

    result = train(
        SasRecConfig(num_items=300, dim=32, dropout=0.1),
        TrainingConfig(epochs=15, batch_size=32, learning_rate=1e-2, warmup_steps=10, patience=15),
        train_part,
        heldout,
        progress=reports.append,
    )

    best = reports[result.best_epoch].ndcg_at_10
    recall, ndcg = recall_and_ndcg(rank_targets(result.model, heldout))
    assert best == ndcg == max(report.ndcg_at_10 or 0.0 for report in reports)
    assert recall > 0.2  # chance is 10 / 300
    assert tuple(reports) == result.history
    assert reports[-1].eta_s == 0.0


def test_a_killed_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """Killed after the second epoch and started again, it ends with the very same bits."""
    train_part, heldout = held_out(walks_of(120, 50))
    config, file = SasRecConfig(num_items=50, dim=16), tmp_path / "run" / "checkpoint.pt"
    attributes = pad_attributes([[], *[[item % 5] for item in range(1, 51)]], 50)

    def killed(report: EpochReport) -> None:
        if report.epoch == 1:
            raise KeyboardInterrupt

    whole = train(config, TINY, train_part, heldout, attributes_NK=attributes)
    with pytest.raises(KeyboardInterrupt):
        train(config, TINY, train_part, heldout, attributes_NK=attributes, checkpoint=file, progress=killed)
    resumed = train(config, TINY, train_part, heldout, attributes_NK=attributes, checkpoint=file)

    assert [report.loss for report in resumed.history] == [report.loss for report in whole.history]
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], array, err_msg=name)
    assert [path.name for path in file.parent.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    """A checkpoint is never continued with another configuration or another log."""
    train_part, _ = held_out(walks_of(60, 30))
    file = tmp_path / "checkpoint.pt"
    train(SasRecConfig(num_items=30, dim=8), TINY, train_part, None, checkpoint=file)

    with pytest.raises(ValueError, match="another configuration or log"):
        train(SasRecConfig(num_items=30, dim=8, tau=0.1), TINY, train_part, None, checkpoint=file)
    with pytest.raises(ValueError, match="another configuration or log"):
        train(SasRecConfig(num_items=30, dim=8), TINY, train_part[1:], None, checkpoint=file)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    """A diverged run is an error with its epoch and step, never a published model."""
    train_part, _ = held_out(walks_of(60, 30))
    wild = TrainingConfig(epochs=3, learning_rate=1e30, warmup_steps=0, bfloat16=False)

    with pytest.raises(TrainingDiverged, match=r"epoch \d+, step \d+: loss is (nan|inf)"):
        train(SasRecConfig(num_items=30, dim=8), wild, train_part, None)


def test_the_smallest_shops_train_or_say_why_not() -> None:
    """One item, users with one event or none: either it trains, or the error names the reason."""
    one_item = train(SasRecConfig(num_items=1, dim=4), TINY, [np.array([1, 1]), np.array([1])], None)
    empty = Heldout(histories=[np.zeros(0, dtype=np.int64)], targets=np.array([2]))
    cold = train(SasRecConfig(num_items=3, dim=4), TINY, [np.array([1, 2]), np.array([3])], empty)

    assert np.isfinite(one_item.weights["item_emb_ND"]).all()
    assert not encode_UD(cold.model, empty.histories).any()
    with pytest.raises(ValueError, match="nothing to predict"):
        train(SasRecConfig(num_items=3, dim=4), TINY, [np.array([1]), np.array([], dtype=np.int64)], None)


def test_every_position_predicts_the_next_items_nearer_ones_more() -> None:
    """Three items ahead at half the weight each step, shared out again where the sequence ends."""
    ahead = TrainingConfig(future=3, future_decay=0.5)
    batch = [np.array([7, 8]), np.array([1, 2, 3, 4])]

    targets, weights = future_targets(batch, 3, ahead)

    assert targets.tolist() == [[8, 0, 0], [2, 3, 4], [3, 4, 0], [4, 0, 0]]
    np.testing.assert_allclose(weights[1], np.array([4, 2, 1]) / 7, rtol=1e-6)
    np.testing.assert_allclose(weights[2], np.array([2, 1, 0]) / 3, rtol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-6)
