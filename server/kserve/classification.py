"""The classification extension: the best columns of an output as text, "value:index" and ":label" where there is one.

Source: Triton's "Classification Extension".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from server.errors import InvalidRequest
from server.kserve.tensors import bytes_array, datatype_of


def classify(
    name: str, array: npt.NDArray[Any], classes: int, labels: Sequence[str] = (), *, batched: bool = True
) -> npt.NDArray[Any]:
    """The best ``classes`` values of each row, best first; equal values in the order of their columns.

    Args:
        name: of the output, for messages.
        array: numbers, a row an element of the batch.
        classes: how many (>= 1); more than there are columns: all.
        labels: of the columns.
        batched: whether the first dimension is the batch.

    Returns:
        A BYTES tensor [rows, classes], or [classes] without a batch.

    Raises:
        InvalidRequest: the output holds text.
    """
    if array.dtype == object or array.dtype == np.bool_:
        raise InvalidRequest(
            f"output '{name}' is {datatype_of(array.dtype)}, which has no best values; ask for it without classification",
            field=f"outputs.{name}.parameters.classification",
            limit="numbers",
        )
    flat_RC = array.reshape(len(array) if batched else 1, -1)
    count = min(classes, flat_RC.shape[1])
    whole = np.issubdtype(array.dtype, np.integer)
    entries: list[bytes] = []
    for row_C in flat_RC:
        order = np.argsort(-row_C.astype(np.float64), kind="stable")[:count]
        for column in order.tolist():
            value = row_C[column]
            text = f"{int(value)}:{column}" if whole else f"{float(value):f}:{column}"
            if column < len(labels):
                text = f"{text}:{labels[column]}"
            entries.append(text.encode())
    return bytes_array(entries, (len(flat_RC), count) if batched else (count,))
