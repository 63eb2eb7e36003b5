"""What the calls about models say, as plain objects: HTTP writes them as they are, gRPC puts the same into its messages.

Field names are those of the protocol and of Triton's ``model_config.proto``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.kserve.model import ModelMeta, Models, ServedModel, TensorMeta
from server.kserve.statistics import Duration

SERVER_NAME = "vitrine"
EXTENSIONS = (
    "classification",
    "model_repository",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)


def server_json(version: str) -> dict[str, Any]:
    """Server metadata."""
    return {"name": SERVER_NAME, "version": version, "extensions": list(EXTENSIONS)}


def metadata_json(model: ServedModel) -> dict[str, Any]:
    """Model metadata."""
    meta = model.meta()
    return {
        "name": meta.name,
        "versions": [meta.version],
        "platform": meta.platform,
        "inputs": [_tensor(one) for one in meta.inputs],
        "outputs": [_tensor(one) for one in meta.outputs],
    }


def config_json(model: ServedModel) -> dict[str, Any]:
    """The model's configuration, of what serves here: batches are formed by this server, by deadline."""
    meta = model.meta()
    return {
        "name": meta.name,
        "platform": meta.platform,
        "backend": "",
        "runtime": "",
        "version_policy": {"specific": {"versions": [int(meta.version)] if meta.version.isdecimal() else []}},
        "max_batch_size": meta.max_batch,
        "input": [
            {
                "name": one.name,
                "data_type": data_type(one.datatype),
                "format": "FORMAT_NONE",
                "dims": _dims(meta, one),
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": one.optional,
            }
            for one in meta.inputs
        ],
        "output": [
            {
                "name": one.name,
                "data_type": data_type(one.datatype),
                "dims": _dims(meta, one),
                "label_filename": "",
                "is_shape_tensor": False,
            }
            for one in meta.outputs
        ],
        "batch_input": [],
        "batch_output": [],
        "dynamic_batching": {
            "preferred_batch_size": [],
            "max_queue_delay_microseconds": 0,
            "preserve_ordering": False,
            "priority_levels": 0,
            "default_priority_level": 0,
            "priority_queue_policy": {},
        },
        "instance_group": [{"name": f"{meta.name}_0", "kind": "KIND_CPU", "count": 1, "gpus": []}],
        "default_model_filename": "",
        "parameters": {},
        "model_warmup": [],
    }


def statistics_json(models: Sequence[ServedModel]) -> dict[str, Any]:
    """Sums of what was asked by this protocol."""
    return {"model_stats": [_statistics(model) for model in models]}


def index_json(models: Models, *, ready_only: bool = False) -> list[dict[str, str]]:
    """The repository index."""
    rows: list[dict[str, str]] = []
    for model in models.all():
        state, reason = models.state(model)
        if ready_only and state != "READY":
            continue
        row = {"name": model.name, "version": model.meta().version, "state": state}
        rows.append({**row, "reason": reason} if reason else row)
    return rows


def data_type(datatype: str) -> str:
    """The configuration's word for a datatype."""
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def _tensor(one: TensorMeta) -> dict[str, Any]:
    return {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}


def _dims(meta: ModelMeta, one: TensorMeta) -> list[int]:
    return list(one.shape[1:] if meta.max_batch else one.shape)


def _statistics(model: ServedModel) -> dict[str, Any]:
    sums = model.statistics
    nothing = Duration()
    return {
        "name": model.name,
        "version": model.meta().version,
        "last_inference": sums.last_ms,
        "inference_count": sums.inferences,
        "execution_count": round(sums.executions),
        "inference_stats": {
            "success": _duration(sums.success),
            "fail": _duration(sums.fail),
            "queue": _duration(sums.queue),
            "compute_input": _duration(sums.compute_input),
            "compute_infer": _duration(sums.compute_infer),
            "compute_output": _duration(sums.compute_output),
            "cache_hit": _duration(nothing),
            "cache_miss": _duration(nothing),
        },
        "response_stats": {},
        "batch_stats": [],
        "memory_usage": [],
    }


def _duration(one: Duration) -> dict[str, int]:
    return {"count": one.count, "ns": one.ns}
