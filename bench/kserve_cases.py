"""The same requests for two servers of the open inference protocol, and where ours may answer otherwise, with the reason."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class HttpCase:
    """One request over HTTP.

    Attributes:
        what: in words.
        method, path: with MODEL for the model's name.
        body: of a good history's tensors.
        headers: beside the usual.
        fatal: it ends a tritonserver of the version we compare with.
    """

    what: str
    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class GrpcCase:
    """One call over gRPC: its name, and what makes its message of the generated messages and the model's name."""

    what: str
    call: str
    message: Callable[[Any, str], Any]
    fatal: bool = False


# What ours answers otherwise, by the case, and why. ``tests`` refuse a reason that is not needed any more.
DIFFERENCES: dict[str, str] = {
    "HTTP: server metadata": "name, version and extensions are each server's own",
    "HTTP: model metadata": "platform: theirs runs it by the python backend; ours also takes `candidate`, which is a model of its own there",
    "HTTP: metadata of a version": "as model metadata",
    "HTTP: configuration": "ours shows what serves here (platform, batching by deadline, optional inputs), theirs its file",
    "HTTP: body is not JSON": "400: it is the caller's fault, and 500 would be counted as ours",
    "HTTP: no inputs in the body": "400, as above",
    "HTTP: negative dimension": "400, as above",
    "HTTP: timeout in words": "400, as above",
    "HTTP: negative priority": "400, as above",
    "HTTP: fractions for integers": "400, as above",
    "HTTP: fewer elements than the shape": "400, as above",
    "HTTP: more elements than the shape": "400, as above",
    "HTTP: exclusions left out": "ours reads a missing `exclude_ids` as nothing excluded; the ONNX graph there needs it",
    "HTTP: an item that is not in the catalogue": "400 before the engine is asked; there the run fails with 500",
    "HTTP: statistics of an unknown model": "404, as every other path about an unknown model",
    "HTTP: load a model": "403: nobody may, and 503 would say try again",
    "HTTP: unload a model": "403, as above",
    "HTTP: shape of 40 GB": "ours refuses it and goes on; tritonserver 2.51 allocates for the claim and dies",
    "HTTP: index": "the entry with a candidate mask is a model of its own there",
    "HTTP: index of what is ready": "as above",
    "gRPC: index": "as over HTTP",
    "gRPC: more raw tensors than inputs": "a message that does not fit itself is refused, not half read",
    "gRPC: server metadata": "as over HTTP",
    "gRPC: model metadata": "as over HTTP",
    "gRPC: configuration": "as over HTTP",
    "gRPC: exclusions left out": "as over HTTP",
    "gRPC: an item that is not in the catalogue": "INVALID_ARGUMENT; there the run fails with INTERNAL",
    "gRPC: statistics of an unknown model": "NOT_FOUND, as every other call about an unknown model",
    "gRPC: load a model": "PERMISSION_DENIED: UNAVAILABLE would say try again",
    "gRPC: unload a model": "as above",
}


def http_cases(history: list[int]) -> list[HttpCase]:
    """Requests about one model whose inputs are ``item_ids`` and ``exclude_ids``."""
    infer, size = "/v2/models/MODEL/infer", len(history)
    ids: Json = {"name": "item_ids", "shape": [1, size], "datatype": "INT32", "data": history}
    out: Json = {"name": "exclude_ids", "shape": [1, size], "datatype": "INT32", "data": history}

    def ask(*inputs: Json, **more: Any) -> bytes:
        return json.dumps({"inputs": list(inputs), **more}).encode()

    def post(what: str, body: bytes, **headers: str) -> HttpCase:
        return HttpCase(what, "POST", infer, body, {name.replace("_", "-"): v for name, v in headers.items()})

    def changed(**changes: Any) -> bytes:
        return ask({**ids, **changes}, out)

    raw = np.array(history, "<i4").tobytes()
    binary = [
        {**{k: v for k, v in one.items() if k != "data"}, "parameters": {"binary_data_size": len(raw)}}
        for one in (ids, out)
    ]
    head = json.dumps({"inputs": binary, "parameters": {"binary_data_output": True}}).encode()
    lying = json.dumps(
        {"inputs": [{**binary[0], "parameters": {"binary_data_size": 2**31 - 1}}, binary[1]]}
    ).encode()
    good = ask(ids, out)
    get = [
        ("live", "/v2/health/live"),
        ("ready", "/v2/health/ready"),
        ("server metadata", "/v2"),
        ("model metadata", "/v2/models/MODEL"),
        ("metadata of a version", "/v2/models/MODEL/versions/1"),
        ("metadata of an unknown model", "/v2/models/nope"),
        ("metadata of an unknown version", "/v2/models/MODEL/versions/7"),
        ("model ready", "/v2/models/MODEL/ready"),
        ("version ready", "/v2/models/MODEL/versions/1/ready"),
        ("unknown model ready", "/v2/models/nope/ready"),
        ("unknown version ready", "/v2/models/MODEL/versions/7/ready"),
        ("configuration", "/v2/models/MODEL/config"),
        ("configuration of an unknown model", "/v2/models/nope/config"),
        ("statistics of an unknown model", "/v2/models/nope/stats"),
        ("unknown path", "/v2/nope"),
        ("infer by GET", infer),
    ]
    return [
        *(HttpCase(what, "GET", path) for what, path in get),
        HttpCase("health by POST", "POST", "/v2/health/live"),
        HttpCase("index", "POST", "/v2/repository/index"),
        HttpCase("index of what is ready", "POST", "/v2/repository/index", b'{"ready":true}'),
        HttpCase("load a model", "POST", "/v2/repository/models/MODEL/load"),
        HttpCase("unload a model", "POST", "/v2/repository/models/MODEL/unload"),
        HttpCase("unknown model", "POST", "/v2/models/nope/infer", good),
        HttpCase("unknown version", "POST", "/v2/models/MODEL/versions/9/infer", good),
        HttpCase("version that is no number", "POST", "/v2/models/MODEL/versions/abc/infer", good),
        HttpCase("infer by version", "POST", "/v2/models/MODEL/versions/1/infer", good),
        post("infer in JSON", good),
        post("infer with an id and one output", ask(ids, out, id="mine", outputs=[{"name": "scores"}])),
        post("infer in nested JSON", ask({**ids, "data": [history]}, out)),
        post("infer in raw bytes", head + raw + raw, Inference_Header_Content_Length=str(len(head))),
        post("infer packed by gzip", gzip.compress(good), Content_Encoding="gzip"),
        post(
            "best two of an output",
            ask(ids, out, outputs=[{"name": "scores", "parameters": {"classification": 2}}]),
        ),
        post("exclusions left out", ask(ids)),
        post("body is not JSON", b"{"),
        post("no inputs in the body", b"{}"),
        post("empty inputs", ask()),
        post("unknown input", ask(ids, out, {**ids, "name": "x"})),
        post("input twice", ask(ids, ids)),
        post("another datatype", changed(datatype="FP32")),
        post("unknown datatype", changed(datatype="INT7")),
        post("more elements than the shape", changed(shape=[1, size - 1])),
        post("fewer elements than the shape", changed(shape=[1, size + 1])),
        post("three dimensions", changed(shape=[1, 1, size])),
        post("negative dimension", changed(shape=[1, -size])),
        post("rows that differ", ask({**ids, "shape": [2, size], "data": history * 2}, out)),
        post(
            "more rows than a batch",
            ask(*({**one, "shape": [65, 1], "data": [1] * 65} for one in (ids, out))),
        ),
        post("fractions for integers", changed(data=[value + 0.5 for value in history])),
        post("an item that is not in the catalogue", changed(data=[10_000_000] * size)),
        post("unknown output", ask(ids, out, outputs=[{"name": "z"}])),
        post("timeout in words", ask(ids, out, parameters={"timeout": "soon"})),
        post("negative priority", ask(ids, out, parameters={"priority": -1})),
        post("neither data nor a size", ask({k: v for k, v in ids.items() if k != "data"}, out)),
        post("size of 2 GB", lying, Inference_Header_Content_Length=str(len(lying))),
        post("header beyond the body", good, Inference_Header_Content_Length="99999"),
        post("negative header", good, Inference_Header_Content_Length="-5"),
        post("bytes left over", head + raw + raw + b"xx", Inference_Header_Content_Length=str(len(head))),
        post(
            "shared memory that nobody registered",
            ask({k: v for k, v in ids.items() if k != "data"} | {"parameters": {"shared_memory_region": "a", "shared_memory_byte_size": 4 * size}}, out),
        ),
        HttpCase("shape of 40 GB", "POST", infer, changed(shape=[100_000_000, size]), fatal=True),
    ]  # fmt: skip


def grpc_cases(history: list[int]) -> list[GrpcCase]:
    """Calls about the same model."""
    raw = np.array(history, "<i4").tobytes()
    size = len(history)

    def infer(**changes: Any) -> Callable[[Any, str], Any]:
        def make(pb: Any, model: str) -> Any:
            request = pb.ModelInferRequest(
                model_name=changes.get("model", model), model_version=changes.get("version", ""), id="mine"
            )
            shape = changes.get("shape", [1, size])
            request.inputs.add(
                name=changes.get("name", "item_ids"), datatype=changes.get("datatype", "INT32"), shape=shape
            )
            request.raw_input_contents.append(changes.get("raw", raw))
            if not changes.get("alone"):
                request.inputs.add(name="exclude_ids", datatype="INT32", shape=[1, size])
                request.raw_input_contents.append(raw)
            if "output" in changes:
                request.outputs.add(name=changes["output"])
            if changes.get("typed"):
                request.inputs[0].contents.int_contents.extend(history)
            if changes.get("extra"):
                request.raw_input_contents.append(b"")
            return request

        return make

    def named(kind: str, **fields: Any) -> Callable[[Any, str], Any]:
        def make(pb: Any, model: str) -> Any:
            filled = {key: model if value == "MODEL" else value for key, value in fields.items()}
            return getattr(pb, f"{kind}Request")(**filled)

        return make

    return [
        GrpcCase("live", "ServerLive", named("ServerLive")),
        GrpcCase("ready", "ServerReady", named("ServerReady")),
        GrpcCase("model ready", "ModelReady", named("ModelReady", name="MODEL")),
        GrpcCase("unknown model ready", "ModelReady", named("ModelReady", name="nope")),
        GrpcCase("unknown version ready", "ModelReady", named("ModelReady", name="MODEL", version="7")),
        GrpcCase("server metadata", "ServerMetadata", named("ServerMetadata")),
        GrpcCase("model metadata", "ModelMetadata", named("ModelMetadata", name="MODEL")),
        GrpcCase("metadata of an unknown model", "ModelMetadata", named("ModelMetadata", name="nope")),
        GrpcCase("configuration", "ModelConfig", named("ModelConfig", name="MODEL")),
        GrpcCase("configuration of an unknown model", "ModelConfig", named("ModelConfig", name="nope")),
        GrpcCase("statistics of an unknown model", "ModelStatistics", named("ModelStatistics", name="nope")),
        GrpcCase("index", "RepositoryIndex", named("RepositoryIndex")),
        GrpcCase("load a model", "RepositoryModelLoad", named("RepositoryModelLoad", model_name="MODEL")),
        GrpcCase("unload a model", "RepositoryModelUnload", named("RepositoryModelUnload", model_name="MODEL")),
        GrpcCase("infer", "ModelInfer", infer()),
        GrpcCase("infer by version, one output", "ModelInfer", infer(version="1", output="scores")),
        GrpcCase("exclusions left out", "ModelInfer", infer(alone=True)),
        GrpcCase("unknown model", "ModelInfer", infer(model="nope")),
        GrpcCase("unknown version", "ModelInfer", infer(version="9")),
        GrpcCase("unknown input", "ModelInfer", infer(name="x")),
        GrpcCase("input twice", "ModelInfer", infer(name="exclude_ids")),
        GrpcCase("another datatype", "ModelInfer", infer(datatype="FP32")),
        GrpcCase("unknown datatype", "ModelInfer", infer(datatype="INT7")),
        GrpcCase("fewer bytes than the shape", "ModelInfer", infer(raw=raw[:-4])),
        GrpcCase("more bytes than the shape", "ModelInfer", infer(raw=raw + raw)),
        GrpcCase("three dimensions", "ModelInfer", infer(shape=[1, 1, size])),
        GrpcCase("negative dimension", "ModelInfer", infer(shape=[1, -size])),
        GrpcCase("raw and typed at once", "ModelInfer", infer(typed=True)),
        GrpcCase("more raw tensors than inputs", "ModelInfer", infer(extra=True)),
        GrpcCase("unknown output", "ModelInfer", infer(output="z")),
        GrpcCase("an item that is not in the catalogue", "ModelInfer", infer(raw=np.full(size, 10_000_000, "<i4").tobytes())),
        GrpcCase("shape of 40 GB", "ModelInfer", infer(shape=[100_000_000, size])),
    ]  # fmt: skip
