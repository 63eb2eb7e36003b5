"""Stage 2 of somebody's own model: the graph in the precision that serves, and what ranges were measured on."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx

from build_engines.errors import BuildError
from build_engines.own_model.graph_facts import check_form, write_graph
from build_engines.own_model.observe import activation_scales
from build_engines.own_model.quantize import (
    Found,
    find,
    prepare,
    rewrite_dynamic,
    rewrite_static,
    rewrite_tables,
)
from build_engines.own_model.recipe_parts import OwnQuantizePart
from build_engines.own_model.records import OwnQuantizeRecord
from build_engines.own_model.rows import count_rows, load_rows, refuse_leak, row_hashes, take
from build_engines.own_model.states import CALIBRATION_FILE, CANDIDATE_FILE, GATE_FILE, GRAPH_FILE, GraphState
from build_engines.stage import Work
from server.artifacts.manifest import Calibration


def run(source: GraphState, part: OwnQuantizePart, work: Work) -> OwnQuantizeRecord:
    """Rewrite the graph.

    Raises:
        BuildError: it is quantized already, nothing of it can be, there are no calibration rows, or the gate judges them.
    """
    if part.precision == "fp32":
        return OwnQuantizeRecord(precision="fp32", notes=("not compressed: served as it came",))
    if source.graph.precision != "fp32":
        raise BuildError(
            f'quantize.precision is "{part.precision}", and {source.graph.origin} is {source.graph.precision} already; write '
            '"fp32" to serve it as it came'
        )
    model = onnx.load(str(source.output.folder / GRAPH_FILE))
    prepare(model)
    found = find(model, least_weights=part.least_weights, tables=part.tables, exclude=part.exclude or ())
    if not found.products and not found.tables:
        raise BuildError(
            f"quantize: nothing of the graph can be INT8 ({'; '.join(found.left) or 'no product with a constant matrix'}); write "
            'precision = "fp32"'
        )
    calibration = None
    if part.precision == "int8" and found.products:
        calibration = _static(source, model, found, part, work)
    elif found.products:
        rewrite_dynamic(model, found)
    if found.tables:
        rewrite_tables(model, found)
    check_form(f"{source.graph.origin} in {part.precision}", model)
    write_graph(work.folder / CANDIDATE_FILE, model)
    notes = (
        f"{len(found.products)} products and {len(found.tables)} lookup tables in INT8",
        *found.left,
    )
    for note in notes:
        work.progress.say(f"  {note}")
    return OwnQuantizeRecord(
        precision=part.precision,
        calibration=calibration,
        products=tuple(found.products),
        tables=found.tables,
        notes=notes,
    )


def _static(
    source: GraphState, model: onnx.ModelProto, found: Found, part: OwnQuantizePart, work: Work
) -> Calibration:
    folder, inputs = source.output.folder, source.graph.inputs
    if not (folder / CALIBRATION_FILE).is_file():
        raise BuildError('quantize: "int8" needs calibration rows, there are none; give data.calibration')
    rows = load_rows(folder / CALIBRATION_FILE)
    gate = load_rows(folder / GATE_FILE)
    refuse_leak(rows, {one.name: gate[one.name] for one in inputs}, inputs)
    count = count_rows(rows, inputs)
    chosen = np.sort(np.random.default_rng(part.seed).choice(count, min(part.max_rows, count), replace=False))
    rows = take(rows, inputs, chosen)
    names = sorted({node.input[0] for node in model.graph.node if node.name in found.products})
    scales = activation_scales(model, names, rows, inputs, part)
    rewrite_static(model, found, scales)
    digest = hashlib.sha256(b"".join(row_hashes(rows, inputs))).hexdigest()
    used = count_rows(rows, inputs)
    work.progress.say(f"  ranges of {len(names)} values measured on {used} rows")
    method = (
        "largest absolute value"
        if part.method == "minmax"
        else f"percentile {part.percentile:g} of absolute values"
    )
    return Calibration(method=method, samples=used, seed=part.seed, data_sha256=digest)
