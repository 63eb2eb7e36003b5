"""An ONNX file of somebody else's, read as if it meant harm: paths, size, operators, opset, and only then its weights.

Weights beside the file (external data) must lie in its folder or below: a location that is absolute, goes up, or leads out by a
link would let a model read any file of this machine into itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from onnx import version_converter

from build_engines.errors import BuildError
from build_engines.onnx_writer import IR_VERSION, OPSET
from build_engines.own_model.graph_facts import MOST_BYTES, check_form, name_batch, name_nodes, nodes_of

_DEFAULT_DOMAINS = ("", "ai.onnx")
LEAST_OPSET = 7  # what the version converter begins at


def read_onnx(path: Path) -> tuple[onnx.ModelProto, int, list[str]]:
    """Read, check and raise an ONNX file.

    Args:
        path: the file.

    Returns:
        The model in the form of ``graph_facts``, the opset that it came with, and notes.

    Raises:
        BuildError: it is no such model, a path leads out of its folder, an operator is not supported (named with its node), or
            its opset cannot be raised; says what to do.
    """
    model = _load(path)
    _load_weights(path, model)
    opset = _opset(path, model)
    _refuse_unknown(path, model)
    notes = []
    if opset != OPSET:
        model = _raised(path, model, opset)
        notes.append(f"{path.name}: opset raised from {opset} to {OPSET}")
    model.ir_version = IR_VERSION
    name_nodes(model.graph)
    _drop_initializer_inputs(model.graph)
    if not model.graph.input or not model.graph.output:
        raise BuildError(f"{path}: the graph has no inputs or no outputs; export it with both")
    name_batch(model.graph)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise BuildError(f"{path}: shapes do not go together: {str(error)[:400]}") from error
    check_form(str(path), inferred)
    return inferred, opset, notes


def external_files(path: Path) -> list[Path]:
    """Files beside an ONNX file that its weights lie in.

    Raises:
        BuildError: as ``read_onnx``.
    """
    model = _load(path)
    return sorted({_location(path, tensor) for tensor in _external(model)})


def _load(path: Path) -> onnx.ModelProto:
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise BuildError(f"{path}: {size} bytes, the limit is {MOST_BYTES}; keep its weights beside it")
        model = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be read ({error.strerror}); name an ONNX file, relative to the recipe"
        ) from error
    except BuildError:
        raise
    except Exception as error:  # protobuf's own errors
        raise BuildError(f"{path}: is no ONNX model ({type(error).__name__}); export it again") from error
    if not model.opset_import or not model.graph.node:
        raise BuildError(f"{path}: is no ONNX model: it has no opset or no nodes; export it again")
    return model


def _external(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    def graphs(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
        yield from graph.initializer
        for node in nodes_of(graph):
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("g"):
                    yield from attribute.g.initializer

    return (one for one in graphs(model.graph) if one.data_location == onnx.TensorProto.EXTERNAL)


def _location(path: Path, tensor: onnx.TensorProto) -> Path:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    pure = PurePosixPath(location.replace("\\", "/"))
    folder = path.parent.resolve()
    if not location or pure.is_absolute() or ".." in pure.parts or ":" in location:
        raise BuildError(
            f"{path}: weights of {tensor.name!r} are at {location!r}; they must lie in the model's own folder: export it again"
        )
    file = folder / Path(*pure.parts)
    resolved = file.resolve()
    if not resolved.is_relative_to(folder):
        raise BuildError(
            f"{path}: weights of {tensor.name!r} at {location!r} lead out of the model's folder; copy the file itself there"
        )
    if not resolved.is_file():
        raise BuildError(
            f"{path}: {location!r}, with weights of {tensor.name!r}, is missing; put it beside the model"
        )
    _check_span(path, tensor.name, entries, resolved)
    return resolved


def _check_span(path: Path, name: str, entries: dict[str, str], file: Path) -> None:
    size = file.stat().st_size
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "0"))
    except ValueError as error:
        raise BuildError(
            f"{path}: weights of {name!r}: offset or length is no number; export it again"
        ) from error
    if offset < 0 or length < 0 or offset + length > size:
        raise BuildError(
            f"{path}: weights of {name!r} are bytes {offset} to {offset + length} of {file.name}, which has {size}; it is cut "
            "short: copy it again"
        )


def _load_weights(path: Path, model: onnx.ModelProto) -> None:
    tensors = list(_external(model))
    for tensor in tensors:
        _location(path, tensor)
    total = sum(file.stat().st_size for file in {_location(path, one) for one in tensors})
    if total > MOST_BYTES:
        raise BuildError(f"{path}: {total / 1e9:.2f} GB of weights, the limit is {MOST_BYTES / 1e9:.1f} GB")
    if tensors:
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))


def _opset(path: Path, model: onnx.ModelProto) -> int:
    foreign = {one.domain for one in model.opset_import if one.domain not in _DEFAULT_DOMAINS}
    for node in nodes_of(model.graph):
        if node.domain not in _DEFAULT_DOMAINS:
            raise BuildError(
                f"{path}: operator {node.domain}.{node.op_type} of node {node.name or node.output[0]!r} is not of ai.onnx; "
                "export the model without it"
            )
    if model.functions:
        raise BuildError(f"{path}: has functions of its own ({model.functions[0].name}); export it inlined")
    own = [one.version for one in model.opset_import if one.domain in _DEFAULT_DOMAINS]
    if len(own) != 1:
        raise BuildError(f"{path}: opsets of ai.onnx {own}, must be one; export it again")
    if foreign:
        kept = [one for one in model.opset_import if one.domain in _DEFAULT_DOMAINS]
        del model.opset_import[:]
        model.opset_import.extend(kept)
    return int(own[0])


def _refuse_unknown(path: Path, model: onnx.ModelProto) -> None:
    version = next(one.version for one in model.opset_import)
    for node in nodes_of(model.graph):
        try:
            schema = onnx.defs.get_schema(node.op_type, version, "")
        except onnx.defs.SchemaError:
            raise BuildError(
                f"{path}: operator {node.op_type} of node {node.name or node.output[0]!r} is not in ai.onnx {version}; "
                "export the model without it"
            ) from None
        if schema.deprecated:
            raise BuildError(
                f"{path}: operator {node.op_type} of node {node.name or node.output[0]!r} is deprecated in ai.onnx {version}; "
                "export the model again"
            )


def _raised(path: Path, model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    if opset > OPSET:
        raise BuildError(
            f"{path}: opset {opset} is newer than {OPSET}, which every target here runs; export it with opset_version={OPSET}"
        )
    if opset < LEAST_OPSET:
        raise BuildError(
            f"{path}: opset {opset} is older than {LEAST_OPSET}; export it with opset_version={OPSET}"
        )
    try:
        return version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own ConvertError
        raise BuildError(
            f"{path}: opset {opset} cannot be raised to {OPSET} ({str(error).strip()[:300]}); export it with "
            f"opset_version={OPSET}"
        ) from error


def _drop_initializer_inputs(graph: onnx.GraphProto) -> None:
    # Before ir_version 4 weights had to be inputs as well; a caller must not be asked for them.
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(kept)
