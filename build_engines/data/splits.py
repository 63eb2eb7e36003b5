"""Which events train, which choose, which judge, and which calibrate.

Protocol A (``leave_one_out``): per user, train on all but the last two events,
choose on the last but one, judge on the last with the validation item in its history.  Users with
fewer than three events train and are never tested.  ``time`` instead cuts the log at two moments: what a
shop that retrains every week would see.

Calibration must not touch what the gate judges.  Its *users* are set apart by a hash of their id, and only their
*training* events are used; ``gate`` is the test of everyone else.  ``test`` is everyone: the figure to publish.

Shapes: U users, C cases, N items.  Rows are ``1..N``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from build_engines.data.errors import DataError
from build_engines.data.interactions import Interactions
from build_engines.data.sequences import IntArray, Sequences, frozen_array

Protocol = Literal["leave_one_out", "time"]
Repeats = Literal["keep", "first"]
MIN_EVENTS = 3  # one to train on, one to choose on, one to judge on


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How a log is divided.

    Attributes:
        protocol: ``leave_one_out`` (protocol A) or ``time``.
        repeats: ``keep`` every event (protocol A as written: a target that the user has seen is masked, so it counts
            as a miss), or only the ``first`` of each item per user.
        calibration_share: share of the tested users set apart for calibration (0..0.5).
        max_calibration_users: no more than this many of them (>= 1).
        time_shares: for ``time``: the shares of events before the validation and before the test moment.
        salt: changes which users calibrate, nothing else.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    protocol: Protocol = "leave_one_out"
    repeats: Repeats = "keep"
    calibration_share: float = 0.05
    max_calibration_users: int = 2048
    time_shares: tuple[float, float] = (0.8, 0.9)
    salt: str = "vitrine"

    def __post_init__(self) -> None:
        if self.protocol not in ("leave_one_out", "time"):
            raise ValueError(f'protocol is {self.protocol!r}; use "leave_one_out" or "time"')
        if self.repeats not in ("keep", "first"):
            raise ValueError(f'repeats is {self.repeats!r}; use "keep" or "first"')
        if not 0.0 <= self.calibration_share <= 0.5:
            raise ValueError(f"calibration_share is {self.calibration_share}; use 0 to 0.5")
        if self.max_calibration_users < 1:
            raise ValueError(f"max_calibration_users is {self.max_calibration_users}; use 1 or more")
        if not 0.0 < self.time_shares[0] < self.time_shares[1] < 1.0:
            raise ValueError(f"time_shares are {self.time_shares}; use two rising shares between 0 and 1")


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """C questions with one right answer each: after this history, which item came next?

    Attributes:
        users_C: int32 [C], index of the user of each.
        histories: C histories; their items are also what the user has seen, and is masked.
        targets_C: int32 [C], the rows that came next.

    Raises:
        ValueError: the lengths differ, or a history is empty.
    """

    users_C: npt.NDArray[np.int32]
    histories: Sequences
    targets_C: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "users_C", frozen_array(self.users_C, np.int32))
        object.__setattr__(self, "targets_C", frozen_array(self.targets_C, np.int32))
        if not len(self.histories) == self.users_C.size == self.targets_C.size:
            raise ValueError(
                f"{self.users_C.size} users, {len(self.histories)} histories, {self.targets_C.size} targets"
            )
        if len(self) and self.histories.lengths_U.min() < 1:
            raise ValueError(f"history {int(self.histories.lengths_U.argmin())} is empty")

    def __len__(self) -> int:
        return self.users_C.size

    def take(self, indexes: IntArray) -> Cases:
        """The cases at ``indexes``, in that order."""
        return Cases(self.users_C[indexes], self.histories.take(indexes), self.targets_C[indexes])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Split:
    """A log divided.

    Attributes:
        num_items: N.
        train: U histories to learn from (some may be empty under ``time``).
        validation: cases to choose by: epochs, mix weights, thresholds.
        test: cases of every tested user: the figure to publish.
        gate: those of ``test`` whose users never calibrate: what the gate judges on.
        calibration: training histories of the calibration users.
        untested_users: users too short to test.
    """

    num_items: int
    train: Sequences
    validation: Cases
    test: Cases
    gate: Cases
    calibration: Sequences
    untested_users: int

    def train_counts_N1(self) -> npt.NDArray[np.int64]:
        """Training events per item row, int64 [N + 1]."""
        return self.train.counts_N1(self.num_items)


def split_interactions(interactions: Interactions, rule: SplitRule | None = None) -> Split:
    """Divide a log by the rules at the top of this module.

    Raises:
        DataError: nobody can be tested, or ``time`` is asked of a log without times.

    Source:
        Protocol A: Kang and McAuley, "Self-Attentive Sequential Recommendation", 2018, section IV-A.
    """
    rule = rule or SplitRule()
    sequences, times_E = interactions.sequences, interactions.timestamps_ms_E
    if rule.repeats == "first":
        kept = _first_of_each(sequences)
        sequences, times_E = _filtered(sequences, kept), None if times_E is None else times_E[kept]
    if rule.protocol == "time":
        train, validation, test = _by_time(sequences, times_E, rule.time_shares)
    else:
        train, validation, test = _leave_one_out(sequences)
    if not len(test) or not len(validation):
        raise DataError(
            None,
            f"none of {interactions.num_users} users can be tested",
            hint=f"give a log in which users have {MIN_EVENTS} events or more"
            if rule.protocol == "leave_one_out"
            else "give a longer log, or earlier time_shares",
        )
    calibrates = np.zeros(interactions.num_users, bool)
    calibrates[_calibration_users(interactions, test.users_C, rule)] = True
    return Split(
        num_items=interactions.num_items,
        train=train,
        validation=validation,
        test=test,
        gate=test.take(np.flatnonzero(~calibrates[test.users_C])),
        calibration=train.take(np.flatnonzero(calibrates & (train.lengths_U > 0))),
        untested_users=interactions.num_users - len(test),
    )


def _leave_one_out(sequences: Sequences) -> tuple[Sequences, Cases, Cases]:
    tested = sequences.lengths_U >= MIN_EVENTS
    users = np.flatnonzero(tested).astype(np.int32)
    ends = sequences.offsets_U1[1:][users]
    history = sequences.take(users)
    validation = Cases(users, history.without_last(2), sequences.item_rows_E[ends - 2])
    test = Cases(users, history.without_last(1), sequences.item_rows_E[ends - 1])
    held_out = np.zeros(sequences.item_rows_E.size, bool)
    held_out[ends - 1] = held_out[ends - 2] = True
    return _filtered(sequences, ~held_out), validation, test


def _by_time(
    sequences: Sequences, times_E: npt.NDArray[np.int64] | None, shares: tuple[float, float]
) -> tuple[Sequences, Cases, Cases]:
    if times_E is None:
        raise DataError(
            None, "the log has no times", hint='name its timestamp column, or use "leave_one_out"'
        )
    to_validation, to_test = np.quantile(times_E, shares, method="nearest")
    validation = _first_after(sequences, times_E, to_validation, to_test)
    return (
        _filtered(sequences, times_E < to_validation),
        validation,
        _first_after(sequences, times_E, to_test, None),
    )


def _first_after(sequences: Sequences, times_E: npt.NDArray[np.int64], start: int, stop: int | None) -> Cases:
    starts, owners = sequences.offsets_U1[:-1], sequences.owners_E()
    before = np.bincount(owners[times_E < start], minlength=len(sequences))
    inside = (before > 0) & (before < sequences.lengths_U)
    at = np.minimum(starts + before, max(times_E.size - 1, 0))
    if stop is not None:
        inside &= times_E[at] < stop
    users = np.flatnonzero(inside).astype(np.int32)
    histories = sequences.take(users)
    lengths, kept = histories.lengths_U, before[users]
    place = np.arange(histories.item_rows_E.size) - np.repeat(histories.offsets_U1[:-1], lengths)
    return Cases(
        users, _filtered(histories, place < np.repeat(kept, lengths)), sequences.item_rows_E[at[users]]
    )


def _filtered(sequences: Sequences, keep_E: npt.NDArray[np.bool_]) -> Sequences:
    lengths = np.bincount(sequences.owners_E()[keep_E], minlength=len(sequences))
    return Sequences(np.concatenate([[0], np.cumsum(lengths)]), sequences.item_rows_E[keep_E])


def _first_of_each(sequences: Sequences) -> npt.NDArray[np.bool_]:
    span = int(sequences.item_rows_E.max(initial=0)) + 1
    _, first = np.unique(sequences.owners_E() * span + sequences.item_rows_E, return_index=True)
    keep = np.zeros(sequences.item_rows_E.size, bool)
    keep[first] = True
    return keep


def _calibration_users(
    interactions: Interactions, tested_C: npt.NDArray[np.int32], rule: SplitRule
) -> npt.NDArray[np.int32]:
    count = min(round(rule.calibration_share * tested_C.size), rule.max_calibration_users)
    if rule.calibration_share > 0 and tested_C.size > 1:
        count = max(count, 1)
    hashes = [_hash(rule.salt, interactions.users[user]) for user in tested_C]
    return tested_C[np.argsort(np.array(hashes, np.uint64), kind="stable")[:count]]


def _hash(salt: str, user: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{salt}\0{user}".encode(), digest_size=8).digest(), "big")
