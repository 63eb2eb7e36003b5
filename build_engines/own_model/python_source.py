"""A module of somebody else's: its factory called, traced by ``torch.export``, written at our opset, and held against its word.

The factory's code runs in this process, as whoever wrote the recipe means it to: a recipe is trusted as a program is. A model
that is not, comes as an ONNX file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from build_engines.errors import BuildError
from build_engines.onnx_writer import IR_VERSION, OPSET
from build_engines.own_model.declared import BATCH, DeclaredModel, DeclaredTensor
from build_engines.own_model.graph_facts import check_form, name_nodes, tensors_of
from build_engines.own_model.recipe_parts import SourcePart
from server.artifacts.manifest import TensorInfo

MOST_ROWS = 1 << 20  # largest symbol for the tracer; what is served is bounded by the recipe


def build_declared(part: SourcePart) -> DeclaredModel:
    """Call the factory.

    Raises:
        BuildError: the module or factory is not there, fails, or returns something else; says which and why.
    """
    _, module_name, factory_name = part.source.split(":")
    with _importing_from(part.folder):
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # whatever a module of somebody else's raises while it is imported
            raise BuildError(
                f"source {part.source}: module {module_name} cannot be imported ({type(error).__name__}: {error}); it is "
                f"looked for in {part.folder.resolve()} and among the installed packages"
            ) from error
        factory = getattr(module, factory_name, None)
        if not callable(factory):
            raise BuildError(f"source {part.source}: {module_name} has no function {factory_name}")
        return _called(part, factory)


def source_digests(part: SourcePart) -> dict[str, str]:
    """SHA-256 of the module's code and of each file that it is given; what is not there has none (building says so better)."""
    _, module_name, _ = part.source.split(":")
    found = {
        name: _file_digest(part.path(file)) for name, file in part.files.items() if part.path(file).is_file()
    }
    with _importing_from(part.folder):
        try:
            spec = importlib.util.find_spec(module_name)
        except (ImportError, AttributeError, ValueError):
            return found
    if spec is not None and spec.origin is not None and Path(spec.origin).is_file():
        origin = Path(spec.origin)
        package = origin.parent if "." in module_name or origin.name == "__init__.py" else None
        files = sorted(package.rglob("*.py")) if package is not None else [origin]
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
        found[module_name] = digest.hexdigest()
    return found


def export_declared(where: str, declared: DeclaredModel) -> onnx.ModelProto:
    """The model as a graph in the form of ``graph_facts``, held against what it declared.

    Raises:
        BuildError: it cannot be traced or written, or the graph is not what was declared; names the tensor.

    Source:
        PyTorch, documentation of ``torch.onnx.export(dynamo=True)``.
    """
    dims = {name: torch.export.Dim(name, min=1, max=MOST_ROWS) for name in declared.symbols}
    shapes = {
        one.name: {at: dims[dim] for at, dim in enumerate(one.shape) if isinstance(dim, str)}
        for one in declared.inputs
    }
    module = declared.module.eval()
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                args=(),
                kwargs=dict(declared.sample),
                dynamic_shapes=shapes,
                input_names=[one.name for one in declared.inputs],
                output_names=[one.name for one in declared.outputs],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
                optimize=True,
            )
    except Exception as error:  # the exporter has many
        cause = str(error).strip().splitlines()
        raise BuildError(
            f"{where}: cannot be exported at opset {OPSET}: {cause[0][:400] if cause else type(error).__name__}"
        ) from error
    assert program is not None, "dynamo=True returns a program"
    model = program.model_proto
    _plain(model)
    _write_symbols(model.graph, declared)
    name_nodes(model.graph)
    check_form(where, model)
    _hold_against(where, declared.inputs, tensors_of(where, model.graph.input), "input")
    _hold_against(where, declared.outputs, tensors_of(where, model.graph.output), "output")
    return model


@torch.no_grad()
def run_declared(
    declared: DeclaredModel, rows: Mapping[str, npt.NDArray[Any]], batch: int
) -> dict[str, npt.NDArray[Any]]:
    """The module's own answers, ``batch`` rows at a time; the reference that every engine is held against.

    Raises:
        BuildError: the module fails, or returns another number of outputs than it declares.
    """
    declared.module.eval()
    inputs = [one for one in declared.inputs if one.batched()]
    count = len(rows[inputs[0].name]) if inputs else 1
    found: list[tuple[npt.NDArray[Any], ...]] = []
    for start in range(0, count, batch):
        feed = {
            one.name: torch.from_numpy(
                np.ascontiguousarray(
                    rows[one.name][start : start + batch] if one.batched() else rows[one.name]
                )
            )
            for one in declared.inputs
        }
        try:
            answer = declared.module(**feed)
        except Exception as error:  # of somebody else's code
            raise BuildError(f"the module fails on row {start}: {type(error).__name__}: {error}") from error
        outputs = answer if isinstance(answer, tuple | list) else (answer,)
        if len(outputs) != len(declared.outputs):
            raise BuildError(
                f"the module returns {len(outputs)} outputs, declared are {len(declared.outputs)}"
            )
        found.append(tuple(one.detach().cpu().numpy() for one in outputs))
    return {
        one.name: np.concatenate([answer[at] for answer in found]) if one.batched() else found[0][at]
        for at, one in enumerate(declared.outputs)
    }


@contextmanager
def _quiet() -> Iterator[None]:
    # The exporter tells of libraries that are not here and of names it merges; neither is a person's to mend.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    place = str(folder.resolve())
    sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(place)


def _called(part: SourcePart, factory: Callable[..., Any]) -> DeclaredModel:
    files = {name: part.path(file) for name, file in part.files.items()}
    for name, file in files.items():
        if not file.is_file():
            raise BuildError(f"files.{name}: {file} is not there; name it relative to the recipe")
    twice = sorted(files.keys() & part.options.keys())
    if twice:
        raise BuildError(f"{twice[0]} is in [files] and in [options]; leave one out")
    try:
        declared = factory(**files, **part.options)
    except Exception as error:  # of somebody else's code
        raise BuildError(
            f"source {part.source}: the factory fails: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(declared, DeclaredModel):
        raise BuildError(
            f"source {part.source}: the factory returns {type(declared).__name__}, must return "
            "build_engines.own_model.declared.DeclaredModel"
        )
    return declared


def _plain(model: onnx.ModelProto) -> None:
    # The exporter imports domains that it may not have used, and keeps metadata that names this machine's folders.
    if not any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
        kept = [one for one in model.opset_import if one.domain in ("", "ai.onnx")]
        del model.opset_import[:]
        model.opset_import.extend(kept)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "vitrine", "", ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]


def _write_symbols(graph: onnx.GraphProto, declared: DeclaredModel) -> None:
    # The exporter makes names of its own where an output's size follows from others; the declaration names them.
    for value, one in zip(graph.output, declared.outputs, strict=True):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == len(one.shape):
            for dim, wanted in zip(dims, one.shape, strict=True):
                if isinstance(wanted, str) and not dim.HasField("dim_value"):
                    dim.dim_param = wanted


def _hold_against(
    where: str, declared: tuple[DeclaredTensor, ...], found: tuple[TensorInfo, ...], what: str
) -> None:
    have = {one.name: one for one in found}
    for one in declared:
        tensor = have.get(one.name)
        if tensor is None:
            raise BuildError(f"{where}: {what} {one.name} is declared, the graph has {sorted(have)}")
        if (tensor.dtype, tensor.shape) != (one.dtype, one.shape):
            hint = f"; {BATCH} may have become a constant" if one.batched() else ""
            raise BuildError(
                f"{where}: {what} {one.name} is {tensor.dtype} {tensor.shape}, declared is {one.dtype} {one.shape}{hint}"
            )


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
