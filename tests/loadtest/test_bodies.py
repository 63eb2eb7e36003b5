"""What is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import Answer, answer

from loadtest import bodies
from loadtest.client import Target

ITEMS = [f"sku-{number}" for number in range(100)]


@given(st.integers(1, 40), st.floats(1, 60), st.integers(1, 50), st.floats(0, 2), st.integers(0, 99))
def test_histories_are_of_the_shop_and_within_bounds(
    distinct: int, mean: float, longest: int, zipf: float, seed: int
) -> None:
    """Every history has 1 to the longest allowed items, all of them the shop's, and a seed gives the same ones again."""
    shape = bodies.HistoryShape(distinct=distinct, mean_length=mean, max_length=longest, zipf=zipf)

    histories = bodies.draw_histories(ITEMS, shape, np.random.default_rng(seed))

    assert len(histories) == distinct
    assert all(1 <= len(history) <= longest and set(history) <= set(ITEMS) for history in histories)
    assert histories == bodies.draw_histories(ITEMS, shape, np.random.default_rng(seed))


def test_history_lengths_have_the_mean_asked_for() -> None:
    """Most shoppers have seen a few items, some many."""
    shape = bodies.HistoryShape(distinct=5000, mean_length=8, max_length=1000)

    lengths = [len(history) for history in bodies.draw_histories(ITEMS, shape, np.random.default_rng(1))]

    assert np.mean(lengths) == pytest.approx(8, rel=0.05)


def test_some_items_are_asked_for_more_than_others() -> None:
    """Popularity is skewed, as in a shop."""
    shape = bodies.HistoryShape(distinct=5000, zipf=1.0)

    drawn = [
        item for history in bodies.draw_histories(ITEMS, shape, np.random.default_rng(1)) for item in history
    ]

    counts = sorted((drawn.count(item) for item in ITEMS), reverse=True)
    assert counts[0] > 5 * counts[50]


def test_a_body_is_a_request_for_recommendations() -> None:
    """The wire shape of DESIGN.md, with the deadline where one is given."""
    made = bodies.recommendation_bodies(
        ["日本"], bodies.HistoryShape(distinct=1, mean_length=1), np.random.default_rng(1), deadline_ms=40
    )

    assert json.loads(made[0]) == {"history": ["日本"], "k": 10, "deadline_ms": 40}


def test_item_ids_come_from_the_current_version(tmp_path: Path) -> None:
    """The repository's CURRENT file decides which version's items are asked for."""
    for version, ids in (("1", ["old"]), ("2", ["new", "newer"])):
        folder = tmp_path / "recommender" / version
        folder.mkdir(parents=True)
        (folder / "item_ids.json").write_text(json.dumps(ids))
    (tmp_path / "recommender" / "CURRENT").write_text("2\n")

    assert bodies.item_ids_from_repository(tmp_path, "recommender") == ["new", "newer"]


def test_a_repository_without_a_version_says_what_to_do(tmp_path: Path) -> None:
    """The sentence names the missing file."""
    with pytest.raises(ValueError, match="CURRENT is not there: publish"):
        bodies.item_ids_from_repository(tmp_path, "recommender")


@pytest.mark.parametrize("text", ["", "[1]", '{"k": 1}\nnot json'])
def test_a_bad_body_file_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    """A typo is found before the run and not as a thousand 422s."""
    path = tmp_path / "bodies.jsonl"
    path.write_text(text)

    with pytest.raises(ValueError, match=r"bodies\.jsonl"):
        bodies.bodies_from_file(path)


def test_a_running_server_can_be_asked_for_items(http_server: Callable[[Answer], Target]) -> None:
    """``GET /v1/models`` lists sample items; a model that it does not list is refused with what to give instead."""
    listing = {"data": [{"id": "other"}, {"id": "recommender", "sample_items": ["sku-1", "sku-2"]}]}
    target = http_server(lambda request: answer(json.dumps(listing).encode()))

    assert bodies.item_ids_from_server(target, "recommender") == ["sku-1", "sku-2"]
    with pytest.raises(ValueError, match="--repository"):
        bodies.item_ids_from_server(target, "other")
