"""Protocol A as written, the split by time, and calibration that the gate never sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.data.errors import DataError
from build_engines.data.interactions import Interactions
from build_engines.data.sequences import Sequences
from build_engines.data.splits import SplitRule, split_interactions

logs = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=30)


def log_of(histories: list[list[int]], times: list[int] | None = None) -> Interactions:
    return Interactions(
        users=tuple(f"u{number}" for number in range(len(histories))),
        items=tuple("abcdefghi"),
        sequences=Sequences.of(histories),
        timestamps_ms_E=None if times is None else np.array(times),
    )


@given(logs)
def test_protocol_a_is_leave_one_out_as_the_paper_writes_it(histories: list[list[int]]) -> None:
    """Train: all but the last two. Validation: the last but one. Test: the last, with the validation item in its history."""
    if all(len(history) < 3 for history in histories):
        with pytest.raises(DataError, match="users have 3 events or more"):
            split_interactions(log_of(histories))
        return
    split = split_interactions(log_of(histories))

    tested = [user for user, history in enumerate(histories) if len(history) >= 3]
    assert [one.tolist() for one in split.train] == [one[:-2] if len(one) >= 3 else one for one in histories]
    assert split.test.users_C.tolist() == split.validation.users_C.tolist() == tested
    assert [one.tolist() for one in split.validation.histories] == [histories[user][:-2] for user in tested]
    assert split.validation.targets_C.tolist() == [histories[user][-2] for user in tested]
    assert [one.tolist() for one in split.test.histories] == [histories[user][:-1] for user in tested]
    assert split.test.targets_C.tolist() == [histories[user][-1] for user in tested]
    assert split.untested_users == len(histories) - len(tested)
    assert split.train_counts_N1().sum() == sum(len(one) for one in split.train)


def test_calibration_users_are_never_judged_and_only_their_training_events_are_used() -> None:
    """Gate and calibration share no user; together they are everyone who is tested."""
    histories = [[1 + user % 9, 2, 3, 4, 5] for user in range(200)]
    split = split_interactions(log_of(histories))
    again = split_interactions(log_of(histories))

    judged = set(split.gate.users_C.tolist())
    apart = set(range(200)) - judged
    assert len(apart) == len(split.calibration) == 10
    assert [one.tolist() for one in split.calibration] == [histories[user][:-2] for user in sorted(apart)]
    assert len(split.test) == 200
    assert judged == set(again.gate.users_C.tolist())
    other = split_interactions(log_of(histories), SplitRule(salt="another"))
    assert judged != set(other.gate.users_C.tolist())


def test_calibration_users_stay_when_other_users_leave() -> None:
    """Chosen by a hash of their id, so a longer log does not reshuffle them."""
    histories = [[1, 2, 3, 4]] * 400
    few = split_interactions(log_of(histories[:390]), SplitRule(calibration_share=0.1))
    many = split_interactions(log_of(histories), SplitRule(calibration_share=0.1))

    apart_few = set(range(390)) - set(few.gate.users_C.tolist())
    apart_many = set(range(400)) - set(many.gate.users_C.tolist())
    assert len(apart_few & apart_many) >= 35


def test_the_split_by_time_lets_nobody_see_the_future() -> None:
    """Each user's first event after the moment is asked, with everything before it as history."""
    histories = [[1, 2, 3, 4], [5, 6], [7, 8, 9]]
    times = [0, 10, 80, 95, 20, 92, 1, 2, 3]  # validation from 80, test from 92
    rule = SplitRule(protocol="time", time_shares=(0.75, 0.875))

    split = split_interactions(log_of(histories, times), rule)

    assert [one.tolist() for one in split.train] == [[1, 2], [5], [7, 8, 9]]
    assert [one.tolist() for one in split.validation.histories] == [[1, 2]]
    assert split.validation.targets_C.tolist() == [3]
    assert [one.tolist() for one in split.test.histories] == [[1, 2, 3], [5]]
    assert split.test.targets_C.tolist() == [4, 6]


def test_the_split_by_time_needs_times() -> None:
    """A log in order but without times is told what to do."""
    with pytest.raises(DataError, match="timestamp column"):
        split_interactions(log_of([[1, 2, 3]]), SplitRule(protocol="time"))


def test_repeats_may_be_reduced_to_the_first_of_each_item() -> None:
    """A shop whose logs repeat can ask what comes next that is new."""
    split = split_interactions(log_of([[1, 2, 1, 3, 1, 2]]), SplitRule(repeats="first"))

    assert [one.tolist() for one in split.train] == [[1]]
    assert (split.validation.targets_C.tolist(), split.test.targets_C.tolist()) == ([2], [3])


@pytest.mark.parametrize(
    "bad",
    [
        {"protocol": "random"},
        {"repeats": "last"},
        {"calibration_share": 0.9},
        {"calibration_share": float("nan")},
        {"max_calibration_users": 0},
        {"time_shares": (0.9, 0.8)},
    ],
)
def test_a_rule_out_of_range_names_its_key(bad: dict[str, object]) -> None:
    """Every key is checked on construction."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        SplitRule(**bad)  # type: ignore[arg-type]
