"""Triton's files of a model's folder, written when a version becomes current: after ``CURRENT``, which alone decides what serves here.

A reader of the folder finds the old configuration or the new one, each whole, and the warm-up files of both: they carry their
version in their names, and go when the next configuration stands.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from server.artifacts.disk import Disk, replace
from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, Golden, read_golden
from server.artifacts.repository import OpenedVersion
from server.artifacts.triton_config import (
    CONFIG_FILE,
    WARMUP_FOLDER,
    config_of,
    served_of,
    text_format,
    warmup_files,
)


def write_triton_config(disk: Disk, folder: Path, opened: OpenedVersion) -> bool:
    """Write ``config.pbtxt`` and what it warms up with; without a form that Triton can open, take the old ones away.

    Returns:
        Whether there is one now.

    Raises:
        OSError: as the system says; what was there before stands.
    """
    manifest = opened.manifest
    served = served_of(manifest)
    warmup = folder / WARMUP_FOLDER
    if served is None:
        disk.remove(folder / CONFIG_FILE)
        disk.remove(warmup)
        return False
    golden = _golden(opened)
    files = {} if golden is None else warmup_files(manifest, served, golden)
    if files and not warmup.is_dir():
        disk.make_folder(warmup)
    for name, data in files.items():
        replace(disk, warmup / name, data)
    config = config_of(manifest, served, golden=golden if files else None)
    replace(disk, folder / CONFIG_FILE, text_format(config).encode())
    with contextlib.suppress(OSError):
        for old in warmup.iterdir():
            if old.name not in files:
                disk.remove(old)
    return True


def _golden(opened: OpenedVersion) -> Golden | None:
    """The golden inputs, where they are inputs of the graph itself (of a text model they are texts)."""
    try:
        golden = read_golden(opened.path(GOLDEN_FILE))
    except ArtifactError:
        return None
    names = {one.name for one in opened.manifest.inputs}
    rows = {len(array) if array.ndim else 0 for array in golden.inputs.values()}
    return golden if names == set(golden.inputs) and len(rows) == 1 and 0 not in rows else None
