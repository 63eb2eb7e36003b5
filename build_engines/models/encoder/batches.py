"""Token ids of several texts as one array, padded on the right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


def padded(texts: Sequence[Ids]) -> tuple[Ids, Ids]:
    """``ids_BT`` with zeros behind each text, and ``lengths_B``; what stands behind a text is never read."""
    lengths_B = np.array([len(ids) for ids in texts], np.int64)
    ids_BT = np.zeros((len(texts), int(lengths_B.max())), np.int64)
    for row, ids in enumerate(texts):
        ids_BT[row, : len(ids)] = ids
    return ids_BT, lengths_B
