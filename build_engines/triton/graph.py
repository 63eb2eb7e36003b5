"""A recommender's graph that needs nothing from outside: its tables are the version's own ``.npy`` files.

Our server binds a version's tables when it opens the engine; a Triton server opens a file and nothing else. So the packaged
graph is written once more, with each table as external data that points into ``tables/*.npy`` beside it (an ``.npy`` is a
header and then the numbers as they are), and the catalogue transposed by a node that the runtime folds away when it loads.
The copy costs the graph without its tables: a megabyte or less.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from server.artifacts.manifest import Constant, Target
from server.artifacts.triton_config import SELF_CONTAINED
from server.encoding import tables

_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "int8": onnx.TensorProto.INT8,
    "int32": onnx.TensorProto.INT32,
    "bool": onnx.TensorProto.BOOL,
}


def write_self_contained(folder: Path, constants: Sequence[Constant], targets: Sequence[Target]) -> list[str]:
    """Write ``triton_ENTRY.onnx`` beside the version's tables, for each entry that ONNX Runtime has.

    Args:
        folder: of the version; its tables are there.
        constants: the tables, as its manifest lists them.
        targets: its compiled forms.

    Returns:
        The files written; none where tables are stored packed, which our server unpacks when it loads a version.

    Raises:
        ValueError: a table is not stored as the manifest says.
    """
    written: list[str] = []
    if packed_tables(constants):
        return written
    for target in targets:
        if target.kind == "onnxruntime" and target.entry in SELF_CONTAINED:
            name = SELF_CONTAINED[target.entry]
            (folder / name).write_bytes(self_contained(folder, constants, target).SerializeToString())
            written.append(name)
    return written


def packed_tables(constants: Sequence[Constant]) -> list[str]:
    """Tables in a form that no graph reads."""
    return [item.tensor for item in constants if item.dtype not in _TYPES]


def self_contained(folder: Path, constants: Sequence[Constant], target: Target) -> onnx.ModelProto:
    """The packaged graph of one entry, with its tables; paths are relative to ``folder``."""
    model = onnx.load(str(folder / target.file), load_external_data=False)
    graph = model.graph
    stored = {item.tensor: item for item in constants}
    packed = {
        tensor.name for tensor in graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    fed = {value.name for value in graph.input if value.name in stored}
    for name in sorted(packed | fed):
        if name == tables.SCORE_EMB:
            continue
        _drop(graph, name)
        graph.initializer.append(_pointing(folder, stored[name]))
    if tables.SCORE_EMB in packed:
        _drop(graph, tables.SCORE_EMB)
        if tables.ITEM_EMB not in packed | fed:
            graph.initializer.append(_pointing(folder, stored[tables.ITEM_EMB]))
        transpose = onnx.helper.make_node(
            "Transpose", [tables.ITEM_EMB], [tables.SCORE_EMB], name="catalogue by columns", perm=[1, 0]
        )
        graph.node.insert(0, transpose)
    return model


def load_tables_into(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The same graph with the tables inside the file, for a compiler that reads one file."""
    onnx.external_data_helper.load_external_data_for_model(model, str(folder))
    return model


def _drop(graph: onnx.GraphProto, name: str) -> None:
    for listed in (graph.input, graph.initializer):
        found: list[Any] = [entry for entry in listed if entry.name == name]
        for entry in found:
            listed.remove(entry)


def _pointing(folder: Path, item: Constant) -> onnx.TensorProto:
    table: npt.NDArray[Any] = np.load(folder / item.file, mmap_mode="r", allow_pickle=False)
    if table.dtype.name != item.dtype or table.shape != item.shape or not table.flags.c_contiguous:
        raise ValueError(
            f"{item.file}: is {table.dtype} {table.shape}, the manifest says {item.dtype} {item.shape}"
        )
    tensor = onnx.TensorProto(
        name=item.tensor,
        data_type=_TYPES[item.dtype],
        dims=item.shape,
        data_location=onnx.TensorProto.EXTERNAL,
    )
    offset = (folder / item.file).stat().st_size - table.nbytes
    for key, value in (("location", item.file), ("offset", str(offset)), ("length", str(table.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return tensor
