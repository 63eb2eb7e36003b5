"""``config.pbtxt`` of a published model, so that a Triton server loads the same folder that our server does.

Written beside ``CURRENT`` and with it: the version policy names the current version alone, so that a publish and a rollback are
taken up there as they are here. What is in it comes from the manifest: tensors, batch sizes as measured, how long a request may
wait, and the golden inputs as warm-up.

Fields and enumerations are those of Triton's ``model_config.proto``; the text form is written by hand, because the server's
runtime would load protobuf definitions for nothing else, and read back by them in the tests.

Units: microseconds where a field's name says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from server.artifacts.golden import Golden
from server.artifacts.manifest import Manifest, Target, TensorInfo

CONFIG_FILE = "config.pbtxt"
WARMUP_FOLDER = "warmup"
SELF_CONTAINED = {"unmasked": "triton_unmasked.onnx", "masked": "triton_masked.onnx"}
PLATFORM = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}
RECOMMENDATION, SENTENCES, TEXTS = "recommendation", "sentence_encoding", "text_generation"

# Of a version whose manifest has no largest batch: memory bounds it, and larger ones gain nothing on any engine we measured.
_MAX_BATCH = {SENTENCES: 64, TEXTS: 8}
# The longest deadline that our own server takes, by task. Triton lets a request shorten the default time-out and never lengthen it,
# so that what stands here has to be the longest that anybody may ask for.
_LONGEST_S = {RECOMMENDATION: 10.0, SENTENCES: 120.0, TEXTS: 600.0}
# What a request of ours is given that names no deadline: no more may wait than is answered within it.
_DEFAULT_S = {RECOMMENDATION: 0.1, SENTENCES: 30.0, TEXTS: 120.0}
_NEAR_BEST = 1.1  # a batch size whose cost a row is within this of the largest batch's is worth forming
_ENUMS = frozenset(("data_type", "kind", "timeout_action", "format"))
_TYPES = {
    "bool": "TYPE_BOOL",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "object": "TYPE_STRING",
    **{f"{sign}int{bits}": f"TYPE_{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}

Config = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a Triton server is to load of a version.

    Attributes:
        target: of the manifest.
        file: inside the version's folder.
        entry: "masked" has the candidate mask among its inputs.
    """

    target: Target
    file: str
    entry: str


def served_of(manifest: Manifest, entry: str = "unmasked") -> Served | None:
    """The best compiled form that a Triton server can open by itself; None where there is none.

    A recommender's forms take tables, which Triton does not bring: of those only the graph with tables of its own will do.
    """
    files = {file.path for file in manifest.files}
    if manifest.constants:
        name = SELF_CONTAINED.get(entry, "")
        target = manifest.target("onnxruntime", entry)
        return Served(target=target, file=name, entry=entry) if target and name in files else None
    for kind in ("tensorrt", "onnxruntime"):
        target = manifest.target(kind)
        if target is not None:
            return Served(target=target, file=target.file, entry="masked")
    return None


def config_of(
    manifest: Manifest,
    served: Served,
    *,
    name: str = "",
    golden: Golden | None = None,
    threads: int = 1,
    queue_policy: bool = False,
) -> Config:
    """The configuration, as nested fields.

    Args:
        manifest: of the version.
        served: what Triton loads.
        name: of the model there; empty: as here.
        golden: for the warm-up, whose files ``warmup_files`` gives; None: no warm-up.
        threads: of the CPU runtime.
        queue_policy: bound Triton's queue, too. Off, because tritonserver 2.51 stalls with one: under 64 requests in flight it
            answered 85 to 661 a second in 7 of 24 stretches, where it answers 2,500 to 4,000 else, and in none of 4 without.
            Our own server bounds what it sends, and cancels what is late.
    """
    gpu = served.target.kind.startswith("tensorrt")
    most = max_batch(manifest)
    inputs = inputs_of(manifest, served)
    config: Config = {
        "name": name or manifest.model,
        "platform": PLATFORM[served.target.kind],
        "default_model_filename": served.file,
        "max_batch_size": most,
        "version_policy": {"specific": {"versions": [int(manifest.version)]}},
        "input": [_tensor(one) for one in inputs],
        "output": [_tensor(one) for one in manifest.outputs],
        "dynamic_batching": _batching(manifest, served.target, most, queue_policy),
        "instance_group": [{"kind": "KIND_GPU" if gpu else "KIND_CPU", "count": 1}],
    }
    if not gpu:
        config["parameters"] = [
            {"key": "intra_op_thread_count", "value": {"string_value": str(threads)}},
            {"key": "inter_op_thread_count", "value": {"string_value": "1"}},
        ]
    if manifest.task == SENTENCES:
        # The same words give the same vector, and questions repeat. Histories hardly do, and a text is drawn anew.
        config["response_cache"] = {"enable": True}
    if golden is not None:
        config["model_warmup"] = _warmup(manifest, inputs, golden, most)
    return config


def inputs_of(manifest: Manifest, served: Served) -> list[TensorInfo]:
    """The inputs of what is loaded; only the masked entry has the candidate mask."""
    return [one for one in manifest.inputs if served.entry == "masked" or one.name != "candidate"]


def max_batch(manifest: Manifest) -> int:
    """Rows of the largest batch."""
    return manifest.limits.get("max_batch", _MAX_BATCH.get(manifest.task, 1))


def warmup_files(manifest: Manifest, served: Served, golden: Golden) -> dict[str, bytes]:
    """What ``model_warmup`` reads, by file name: one row of each golden input."""
    return {
        _warmup_file(manifest, name): np.ascontiguousarray(_row(golden, name)).tobytes()
        for name in (one.name for one in inputs_of(manifest, served))
    }


def text_format(config: Mapping[str, Any]) -> str:
    """The fields in protobuf's text format."""
    lines: list[str] = []
    _write(lines, config, 0)
    return "\n".join(lines) + "\n"


def preferred_sizes(target: Target, most: int) -> list[int]:
    """Measured batch sizes that are worth waiting for; empty where nothing was measured.

    A preferred size is also where Triton cuts a longer queue, so that a size which costs more a row than the largest batch
    must not be among them.
    """
    cost = target.cost
    if cost is None or cost.per_item_s <= 0.0:
        return []

    def a_row_s(size: int) -> float:
        return cost.base_s / size + cost.per_item_s

    sizes = {row.batch_size for row in cost.measured if 1 < row.batch_size <= most} | {most}
    return sorted(size for size in sizes if size > 1 and a_row_s(size) <= _NEAR_BEST * a_row_s(most))


def _batching(manifest: Manifest, target: Target, most: int, queue_policy: bool) -> Config:
    policy: Config = {
        "timeout_action": "REJECT",
        "default_timeout_microseconds": int(1e6 * _LONGEST_S.get(manifest.task, 10.0)),
        "allow_timeout_override": True,
    }
    cost = target.cost
    if cost is not None and cost.per_item_s > 0.0:
        wait_s = _DEFAULT_S.get(manifest.task, 1.0)
        batches = max(1, int(wait_s / (cost.base_s + cost.per_item_s * most)))
        policy["max_queue_size"] = batches * most
    batching: Config = {"max_queue_delay_microseconds": 0}
    if queue_policy:
        batching["default_queue_policy"] = policy
    sizes = preferred_sizes(target, most)
    return {"preferred_batch_size": sizes, **batching} if sizes else batching


def _tensor(one: TensorInfo) -> Config:
    dims = [size if isinstance(size, int) else -1 for size in one.shape[1:]]
    shown: Config = {"name": one.name, "data_type": _TYPES[one.dtype], "dims": dims or [1]}
    if not dims:  # a number a row: its wire form has a column
        shown["reshape"] = {"shape": []}
    return shown


def _warmup(manifest: Manifest, inputs: Sequence[TensorInfo], golden: Golden, most: int) -> list[Config]:
    rows = []
    for one in inputs:
        row = _row(golden, one.name)
        value = {
            "data_type": _TYPES[one.dtype],
            "dims": list(row.shape) or [1],
            "input_data_file": _warmup_file(manifest, one.name),
        }
        rows.append({"key": one.name, "value": value})
    sizes = sorted({1, most})
    return [{"name": f"golden, batch {size}", "batch_size": size, "inputs": rows} for size in sizes]


def _row(golden: Golden, name: str) -> npt.NDArray[Any]:
    row: npt.NDArray[Any] = golden.inputs[name][0]
    return row


def _warmup_file(manifest: Manifest, name: str) -> str:
    return f"{manifest.version}-{name}.bin"


def _write(lines: list[str], fields: Mapping[str, Any], depth: int) -> None:
    indent = "  " * depth
    for name, value in fields.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{name} {{")
            _write(lines, value, depth + 1)
            lines.append(f"{indent}}}")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for entry in value:
                _write(lines, {name: entry}, depth)
        elif isinstance(value, list):
            if value:
                lines.append(f"{indent}{name}: [{', '.join(_scalar(name, entry) for entry in value)}]")
        else:
            lines.append(f"{indent}{name}: {_scalar(name, value)}")


def _scalar(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and name not in _ENUMS:
        return json.dumps(value, ensure_ascii=False)  # its escapes are among protobuf's
    return str(value)
