"""``python -m bench.kserve_conformance``: the same requests to a real tritonserver and to ours, side by side.

Both serve one model of a published repository: ours by itself, theirs what ``build_engines package --backend python`` lays out.
Statuses must agree, and so must answers (ids exactly, scores to four digits) and the fields of metadata; what does not is listed
with its reason in ``kserve_cases.DIFFERENCES`` or is a fault. Writes the table into ``docs/kserve.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
from google.protobuf import json_format

from bench.kserve_cases import DIFFERENCES, GrpcCase, HttpCase, grpc_cases, http_cases
from bench.real_triton import RealTriton
from build_engines.triton.package import package
from server.app import Application
from server.artifacts.repository import open_current
from server.settings import Settings

DOCUMENT = Path("docs/kserve.md")
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"
_PREFIX = re.compile(r"^\[request id: [^]]*\] ")
_ALL = -1


@dataclass(frozen=True, slots=True)
class Row:
    """One request, and what each server made of it.

    Attributes:
        what: "HTTP: ..." or "gRPC: ...".
        theirs, ours: status, and what is behind it.
        agree: whether they do.
        same_words: of errors, whether the sentence is the same too.
    """

    what: str
    theirs: str
    ours: str
    agree: bool
    same_words: bool

    @property
    def reason(self) -> str:
        """Why they may differ; empty where nobody has said."""
        return DIFFERENCES.get(self.what, "")


async def compare(repository: Path, model: str, scratch: Path) -> list[Row]:
    """Ask both everything."""
    opened = open_current(repository, model, verify=False)
    limits = opened.manifest.limits
    history = [1 + 3 * n for n in range(min(10, limits["max_history"]))]
    package(repository, scratch / "fleet", models=[model], backend="python")
    triton = RealTriton(scratch / "fleet", log=scratch / "triton.log")
    rows: list[Row] = []
    async with _ours(repository, model) as app:
        await asyncio.to_thread(triton.start)
        try:
            ours, theirs = f"127.0.0.1:{app.http_port}", triton.http
            async with httpx.AsyncClient(timeout=20.0) as client:
                for case in http_cases(history):
                    answers = [await _http(client, host, model, case) for host in (theirs, ours)]
                    rows.append(_row(f"HTTP: {case.what}", *answers))
                    if case.fatal and answers[0][0] == "no answer":
                        await asyncio.to_thread(triton.kill)
                        await asyncio.to_thread(triton.start)
            async with (
                grpc.aio.insecure_channel(triton.grpc) as there,
                grpc.aio.insecure_channel(f"127.0.0.1:{app.grpc_port}") as here,
            ):
                for call in grpc_cases(history):
                    answers = [await _grpc(channel, model, call) for channel in (there, here)]
                    rows.append(_row(f"gRPC: {call.what}", *answers))
        finally:
            await asyncio.to_thread(triton.kill)
    return rows


def faults(rows: Sequence[Row]) -> list[str]:
    """What differs without a reason, and what has a reason and does not differ."""
    told = [
        f"{row.what}: Triton {row.theirs}; ours {row.ours}"
        for row in rows
        if not row.agree and not row.reason
    ]
    seen = {row.what: row for row in rows}
    for what in DIFFERENCES:
        if what not in seen:
            told.append(f"{what}: a reason, and no such request")
        elif seen[what].agree:
            told.append(f"{what}: has a reason to differ, and does not")
    return told


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| request | tritonserver 2.51 | ours | |", "|---|---|---|---|"]
    for row in rows:
        verdict = (
            "agree" if row.agree and row.same_words else "agree; other words" if row.agree else row.reason
        )
        lines.append(f"| {row.what} | {_short(row.theirs)} | {_short(row.ours)} | {verdict} |")
    same = sum(row.agree for row in rows)
    return (
        f"{len(rows)} requests: {same} agree, {len(rows) - same} differ for a reason.\n\n"
        + "\n".join(lines)
        + "\n"
    )


Answer = tuple[str, Any]


def _row(what: str, theirs: Answer, ours: Answer) -> Row:
    agree = theirs[0] == ours[0] and _same(theirs[1], ours[1])
    words = [
        _PREFIX.sub("", answer[1]) if isinstance(answer[1], str) else answer[1] for answer in (theirs, ours)
    ]
    same = agree and (not isinstance(words[0], str) or words[0] == words[1])
    return Row(what, _told(theirs), _told(ours), agree, same)


def _same(theirs: Any, ours: Any) -> bool:
    """Errors are held by status alone; answers by all that they say."""
    if isinstance(theirs, str) and isinstance(ours, str):
        return True
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return theirs.keys() == ours.keys() and all(_same_value(theirs[key], ours[key]) for key in theirs)
    return bool(theirs == ours)


def _same_value(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if one.dtype.kind == "f":
            return bool(np.allclose(one, other, rtol=1e-4, atol=1e-4))
        return bool((one == other).all())
    return bool(one == other)


async def _http(client: httpx.AsyncClient, host: str, model: str, case: HttpCase) -> Answer:
    path = case.path.replace("MODEL", model)
    try:
        answer = await client.request(
            case.method, f"http://{host}{path}", content=case.body, headers=case.headers
        )
    except httpx.HTTPError:
        return "no answer", ""
    status = str(answer.status_code)
    size = answer.headers.get("inference-header-content-length")
    if not answer.content:
        return status, {}
    body = json.loads(answer.content[: int(size)] if size else answer.content)
    if answer.status_code != 200:
        return status, str(body.get("error", "")) if set(body) == {"error"} else f"not in its form: {body}"
    if "outputs" in body and "model_version" in body:
        return status, _outputs(body, answer.content[int(size) :] if size else b"")
    return status, _settled(body)


def _outputs(body: dict[str, Any], raw: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"id": body.get("id", ""), "version": body["model_version"]}
    at = 0
    for one in body["outputs"]:
        kind = {"INT32": np.int32, "FP32": np.float32}.get(one["datatype"])
        if "data" in one:
            values = one["data"]
            array = np.array(values, dtype=kind or object).reshape(one["shape"])
        else:
            size = one["parameters"]["binary_data_size"]
            array = np.frombuffer(raw[at : at + size], kind or np.uint8).reshape(one["shape"])
            at += size
        found[one["name"]] = array
        if one["datatype"] == "BYTES":  # "1.234567:3": the last digits are the machine's
            found[one["name"]] = [[text.split(":")[1:] for text in row] for row in array.tolist()]
    return found


def _settled(body: Any) -> Any:
    return {"rows": body} if isinstance(body, list) else body


async def _grpc(channel: grpc.aio.Channel, model: str, case: GrpcCase) -> Answer:
    from tritonclient.grpc import service_pb2 as pb
    from tritonclient.grpc import service_pb2_grpc

    call = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), case.call)
    try:
        reply = await call(case.message(pb, model), timeout=20.0)
    except grpc.aio.AioRpcError as error:
        return error.code().name, str(error.details())
    if case.call == "ModelInfer":
        kinds = {"INT32": np.int32, "FP32": np.float32}
        found: dict[str, Any] = {"id": reply.id, "version": reply.model_version}
        for one, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
            found[one.name] = np.frombuffer(raw, kinds[one.datatype]).reshape(tuple(one.shape))
        return "OK", found
    return "OK", json_format.MessageToDict(reply, preserving_proto_field_name=True)


def _told(answer: Answer) -> str:
    status, behind = answer
    if isinstance(behind, str):
        return f"{status}: {behind}" if behind else status
    if not behind:
        return status
    named = [name for name, value in behind.items() if isinstance(value, np.ndarray | list)]
    if "version" in behind and named:
        return f"{status}: {', '.join(named)}"
    return f"{status}: {json.dumps(behind, default=str)}"


def _short(text: str, most: int = 150) -> str:
    text = text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
    return text if len(text) <= most else text[: most - 3] + "..."


@contextlib.asynccontextmanager
async def _ours(repository: Path, model: str) -> AsyncIterator[Application]:
    fixed = {"http_port": 0, "grpc_port": 0, "metrics_port": 0, "default_deadline_ms": 5_000.0}
    quiet = {"text_engine": "off", "encoder": False, "copy": False, "support": False}
    app = Application(Settings.from_env({}, **fixed, **quiet, repository=repository, model=model))
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


def write_document(rows: Sequence[Row], document: Path = DOCUMENT) -> None:
    """Put the table between the marks of the document."""
    text = document.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    document.write_text(f"{before}{BEGIN}\n{table(rows)}{END}{after}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write, and say what differs without a reason."""
    parser = argparse.ArgumentParser(prog="python -m bench.kserve_conformance", description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--model", required=True, help="a published recommender")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        rows = asyncio.run(compare(arguments.repository, arguments.model, Path(scratch)))
    write_document(rows, arguments.document)
    told = faults(rows)
    print("\n".join(told) or f"{len(rows)} requests; every difference has its reason")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
