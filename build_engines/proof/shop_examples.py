"""A recommender's examples of the gate: as they are kept in a version, and as groups for fairness.

Suffixes: C cases, N items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from build_engines.data.sequences import Sequences
from build_engines.data.splits import Cases
from build_engines.proof.examples import Examples, with_ragged
from build_engines.proof.fairness import Groups, activity_groups, named_groups, popularity_groups
from build_engines.proof.fairness_part import FairnessPart

HISTORIES, TARGETS, COUNTS = "histories", "targets_C", "train_counts_N1"


def recommender_examples(
    cases: Cases, train_counts_N1: npt.NDArray[np.int64], masks: Mapping[str, npt.NDArray[np.bool_]]
) -> Examples:
    """Histories, what was chosen, and how popular items were; rows are the version's own."""
    return Examples(
        arrays={
            **with_ragged(HISTORIES, list(cases.histories)),
            TARGETS: cases.targets_C.astype(np.int32),
            COUNTS: train_counts_N1.astype(np.int32),
        },
        slices=masks,
    )


def cases_of(examples: Examples, row_of: Sequence[int] | None = None) -> tuple[Cases, npt.NDArray[np.int64]]:
    """The cases again, perhaps in another version's rows, and which of the examples they are.

    Args:
        examples: of ``recommender_examples``.
        row_of: of each row, the other version's row; 0: it does not know the item. None: rows stay.

    Returns:
        Cases whose target and at least one item of the history are known, and their places.
    """
    histories = examples.ragged(HISTORIES)
    targets_C = examples.arrays[TARGETS].astype(np.int64)
    if row_of is not None:
        map_N1 = np.asarray(row_of, np.int64)
        histories = [map_N1[rows][map_N1[rows] > 0] for rows in histories]
        targets_C = map_N1[targets_C]
    kept = [place for place, rows in enumerate(histories) if len(rows) and targets_C[place] > 0]
    chosen = [histories[place] for place in kept]
    offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in chosen])]).astype(np.int64)
    flat = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
    places = np.array(kept, np.int64)
    users = np.arange(len(kept), dtype=np.int32)
    return Cases(users, Sequences(offsets, flat.astype(np.int32)), targets_C[places].astype(np.int32)), places


def shop_groups(
    cases: Cases,
    train_counts_N1: npt.NDArray[np.int64],
    columns: Mapping[str, Sequence[str]],
    part: FairnessPart,
) -> Groups:
    """Who belongs where.

    Args:
        cases: users.
        train_counts_N1: training events of each item row.
        columns: values of each item, row 1 first, by column ("category", "brand"); a column that is not there has no groups.
        part: which groups are asked for.
    """
    items: dict[str, npt.NDArray[np.int64]] = {}
    users: dict[str, npt.NDArray[np.int64]] = {}
    names: dict[str, Sequence[str]] = {}
    for by in part.item_groups:
        if by == "popularity":
            items[by], names[by] = popularity_groups(train_counts_N1)
        elif by in columns:
            items[by], names[by] = named_groups([one or "" for one in columns[by]], least=part.min_group)
    for kind in part.user_groups:
        users[kind], names[kind] = activity_groups(cases.histories.lengths_U)
    return Groups(items_N1=items, users_C=users, names=names, targets_C=cases.targets_C)
