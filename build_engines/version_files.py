"""A version's folder before it is a version: files where the server looks, a manifest to open it.

The gate lays out candidate and parent like this and opens them as the server would, so that what is measured
is what serves; ``publish`` takes the candidate's folder as it is. Files that other stages made are linked,
not copied.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from build_engines.data.items import Catalogue
from build_engines.records import GraphRecord
from build_engines.states import Compiled
from server.artifacts.golden import GOLDEN_FILE, Golden, write_golden
from server.artifacts.manifest import SCHEMA_VERSION, Manifest, Provenance, Target, Tolerance
from server.artifacts.repository import OpenedVersion, describe_folder
from server.encoding import tables
from server.encoding.catalogue import ITEM_COLUMNS_FILE, ITEM_IDS_FILE, write_catalogue
from server.encoding.items import pad_left, pad_right
from server.pipelines.loading import TASK, open_engine

MAX_ATTRIBUTES = (
    64  # columns beyond ours; a shop with more has structure in them that a response does not need
)
GOLDEN_PLAIN, GOLDEN_FILTERED = 6, 2


def lay_out(folder: Path, compiled: Compiled, which: str, catalogue: Catalogue) -> None:
    """Put every file of a version into ``folder``, the manifest and the golden answers apart.

    Args:
        folder: made here.
        compiled: from where graphs and engines come.
        which: "candidate" or "parent".
        catalogue: the items.
    """
    for source in (compiled.exported.output.folder / which, compiled.output.folder / which):
        link_folder(source, folder)
    write_catalogue(
        folder / ITEM_IDS_FILE, folder / ITEM_COLUMNS_FILE, catalogue.item_ids, item_columns(catalogue)
    )


def link_folder(source: Path, folder: Path) -> None:
    """Every file below ``source`` below ``folder`` too, without its bytes where the file system can."""
    folder.mkdir(exist_ok=True)
    for path in sorted(source.rglob("*")):
        target = folder / path.relative_to(source)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            _link(path, target)


def item_columns(catalogue: Catalogue) -> dict[str, list[Any]]:
    """What the server can filter on and return: our columns, and the most common attributes of one value."""
    frame = catalogue.frame
    names = [name for name in frame.columns if name not in ("item_id", "listed")]
    columns: dict[str, list[Any]] = {name: frame[name].to_list() for name in names}
    counts: dict[str, int] = {}
    for item in catalogue.attributes:
        for name, value in item.items():
            if isinstance(value, str | int | float | bool) and name not in columns:
                counts[name] = counts.get(name, 0) + 1
    common = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_ATTRIBUTES]
    for name in common:
        values = [item.get(name) for item in catalogue.attributes]
        columns[name] = [value if isinstance(value, str | int | float | bool) else None for value in values]
    return columns


def draft_manifest(
    model: str,
    folder: Path,
    graph: GraphRecord,
    targets: tuple[Target, ...],
    tolerance: Tolerance,
    figures: Mapping[str, float],
) -> Manifest:
    """A manifest without evidence: good for opening, refused by ``publish``."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        model=model,
        version="0",
        task=TASK,
        created_unix_s=0.0,
        graph=graph.file,
        files=describe_folder(folder),
        inputs=graph.inputs,
        outputs=graph.outputs,
        constants=graph.tables,
        limits=graph.limits,
        parameters=graph.parameters,
        targets=targets,
        parity=tolerance,
        evidence=(),
        figures=dict(figures),
        provenance=Provenance(recipe="", recipe_sha256=""),
    )


def write_golden_answers(
    opened: OpenedVersion, histories: list[npt.NDArray[np.int32]], listed_N: npt.NDArray[np.bool_]
) -> Golden:
    """Ask ONNX Runtime a few real histories and write the answers down.

    Args:
        opened: a draft with its files in place.
        histories: at least one, item rows, oldest first.
        listed_N: rows that may be recommended at all, N of the engine's tables.
    """
    manifest = opened.manifest
    asked = [rows.tolist() for rows in histories[: GOLDEN_PLAIN + GOLDEN_FILTERED]]
    candidate = np.tile(listed_N, (len(asked), 1))
    half = np.random.default_rng(0).random(listed_N.size) < 0.5
    candidate[GOLDEN_PLAIN:] &= half
    inputs: dict[str, npt.NDArray[Any]] = {
        "item_ids": pad_left(asked, length=manifest.limits["max_history"]),
        "exclude_ids": pad_right([rows[-manifest.limits["max_exclude"] :] for rows in asked]),
        "candidate": candidate,
    }
    target = next(item for item in manifest.targets if item.kind == "onnxruntime" and item.entry == "masked")
    engine = open_engine(opened, target, tables.engine_tables(opened.constants()))
    golden = Golden(inputs=inputs, outputs=engine.run(inputs))
    engine.close()
    write_golden(opened.folder / GOLDEN_FILE, golden)
    return golden


def with_files(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with the files that are there now."""
    return msgspec.structs.replace(manifest, files=describe_folder(folder))


def _link(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError):  # another file system
        os.link(source, target)
        return
    shutil.copyfile(source, target)
