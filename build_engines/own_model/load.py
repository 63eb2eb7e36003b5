"""Stage 1 of somebody's own model: source and rows, checked, in the form that every later stage relies on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxruntime as ort

from build_engines.errors import BuildError
from build_engines.own_model.declared import BATCH
from build_engines.own_model.graph_facts import (
    operators_of,
    parameters_of,
    read_precision,
    tensors_of,
    write_graph,
)
from build_engines.own_model.recipe_parts import OwnLoadPart
from build_engines.own_model.records import OwnLoadRecord, SourceGraph
from build_engines.own_model.rows import Rows, count_rows, read_rows, refuse_leak, save_rows, take
from build_engines.own_model.states import CALIBRATION_FILE, GATE_FILE, GRAPH_FILE, REFERENCE_FILE
from build_engines.stage import Work
from build_engines.states import Start
from server.artifacts.manifest import TensorInfo
from server.artifacts.repository import file_sha256

LABEL_PREFIX = "label."  # of arrays in ``GATE_FILE`` that are no inputs


def sources(part: OwnLoadPart) -> Mapping[str, str]:
    """SHA-256 of everything that the part names; what is not there has none (loading says so better)."""
    files = {"gate": part.data.gate, "calibration": part.data.calibration, "model": part.source.onnx_file}
    found = {name: file_sha256(file) for name, file in files.items() if file is not None and file.is_file()}
    if part.source.onnx_file is None:
        from build_engines.own_model.python_source import source_digests

        return {**found, **source_digests(part.source)}
    if part.source.onnx_file.is_file():
        from build_engines.own_model.onnx_source import external_files

        try:
            found |= {file.name: file_sha256(file) for file in external_files(part.source.onnx_file)}
        except BuildError:
            return found  # the stage itself says what is wrong
    return found


def run(start: Start, part: OwnLoadPart, work: Work) -> OwnLoadRecord:
    """Read the model and its rows, and write down what the source itself answers.

    Raises:
        BuildError: the source cannot be used, a row does not fit, or a row is in both files; says what to do.
    """
    if part.source.onnx_file is not None:
        model, opset, notes = _onnx(part, work)
    else:
        model, opset, notes = _python(part, work)
    where = part.source.source
    inputs, outputs = tensors_of(where, model.graph.input), tensors_of(where, model.graph.output)
    _check_dims(inputs, part)
    gate, labels = _rows(part, inputs)
    save_rows(work.folder / GATE_FILE, {**gate, **{LABEL_PREFIX + name: one for name, one in labels.items()}})
    rows = {"gate": count_rows(gate, inputs)}
    if part.data.calibration is not None:
        calibration, _ = read_rows(part.data.calibration, inputs, dims=part.dims)
        refuse_leak(calibration, gate, inputs)
        save_rows(work.folder / CALIBRATION_FILE, calibration)
        rows["calibration"] = count_rows(calibration, inputs)
    write_graph(work.folder / GRAPH_FILE, model)
    _reference(part, inputs, outputs, gate, work)
    graph = SourceGraph(
        origin=where,
        precision=read_precision(model.graph),
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        parameters=parameters_of(model.graph),
        operators=operators_of(model.graph),
    )
    notes.append(f"{graph.parameters} parameters in {graph.precision}, {len(model.graph.node)} nodes")
    for note in notes:
        work.progress.say(f"  {note}")
    return OwnLoadRecord(graph=graph, rows=rows, sources=dict(sources(part)), notes=tuple(notes))


def _onnx(part: OwnLoadPart, work: Work) -> tuple[onnx.ModelProto, int, list[str]]:
    from build_engines.own_model.onnx_source import read_onnx

    file = part.source.onnx_file
    assert file is not None, "the caller asked"
    return read_onnx(file)


def _python(part: OwnLoadPart, work: Work) -> tuple[onnx.ModelProto, int, list[str]]:
    from build_engines.onnx_writer import OPSET
    from build_engines.own_model.python_source import build_declared, export_declared

    model = export_declared(part.source.source, build_declared(part.source))
    return model, OPSET, [f"traced and written at opset {OPSET}"]


def _rows(part: OwnLoadPart, inputs: tuple[TensorInfo, ...]) -> tuple[Rows, Rows]:
    extra = [name for name in (part.data.labels, part.data.groups) if name is not None]
    taken = {one.name for one in inputs}
    clash = next((name for name in extra if name in taken), None)
    if clash is not None:
        raise BuildError(f"data.labels: {clash!r} is an input of the model; name another array")
    return read_rows(part.data.gate, inputs, extra=extra, dims=part.dims)


def _check_dims(inputs: tuple[TensorInfo, ...], part: OwnLoadPart) -> None:
    symbols = {dim for one in inputs for dim in one.shape if isinstance(dim, str) and dim != BATCH}
    unknown = sorted(set(part.dims) - symbols)
    if unknown:
        raise BuildError(
            f"serve.dims has {unknown[0]!r}, no symbol of the inputs; there are {', '.join(sorted(symbols)) or 'none'}"
        )
    missing = sorted(symbols - set(part.dims))
    if missing:
        raise BuildError(
            f"input dimension {missing[0]} has no bound: write serve.dims.{missing[0]}, the largest that will be asked for"
        )


def _reference(
    part: OwnLoadPart,
    inputs: tuple[TensorInfo, ...],
    outputs: tuple[TensorInfo, ...],
    gate: Rows,
    work: Work,
) -> None:
    """What the source answers: the module in torch, or the ONNX file as it came, unchanged."""
    if part.source.onnx_file is None:
        from build_engines.own_model.python_source import build_declared, run_declared

        answers = run_declared(build_declared(part.source), gate, part.max_batch)
    else:
        answers = run_graph(part.source.onnx_file, inputs, outputs, gate, part.max_batch)
    save_rows(work.folder / REFERENCE_FILE, answers)


def run_graph(
    file: Path, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...], rows: Rows, batch: int
) -> Rows:
    """Answers of an ONNX file to rows, ``batch`` at a time.

    Raises:
        BuildError: the runtime refuses it or fails on a row.
    """
    import numpy as np

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    names = [one.name for one in outputs]
    batched = [one.shape[:1] == (BATCH,) for one in outputs]
    found: list[list[np.ndarray]] = []
    try:
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        for start in range(0, count_rows(rows, inputs), batch):
            found.append(session.run(names, take(rows, inputs, slice(start, start + batch))))
    except Exception as error:  # onnxruntime has no common base for its errors
        raise BuildError(
            f"{file}: ONNX Runtime {ort.__version__} fails: {str(error).splitlines()[0][:400]}"
        ) from error
    return {
        name: np.concatenate([one[at] for one in found]) if batched[at] else found[0][at]
        for at, name in enumerate(names)
    }
