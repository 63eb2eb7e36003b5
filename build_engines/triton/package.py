"""A repository for a fleet of Triton servers: ``python -m build_engines package --for triton``.

    FOLDER/MODEL/config.pbtxt, warmup/, VERSION/...          as published; of a recommender the graph without a mask
    FOLDER/MODEL_masked/...                                  of a recommender: the same with ``candidate`` among its inputs

The version that is current is laid out (or the one that is named), whole and by itself: the folder can be copied to any machine
or bucket. A folder for a model is written aside and renamed, so that a server which polls never sees half of one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from build_engines.errors import BuildError
from build_engines.triton.graph import packed_tables, self_contained
from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, read_golden
from server.artifacts.manifest import Manifest, Target
from server.artifacts.repository import OpenedVersion, current_version, model_names, open_version
from server.artifacts.triton_config import (
    CONFIG_FILE,
    RECOMMENDATION,
    SELF_CONTAINED,
    SENTENCES,
    TEXTS,
    WARMUP_FOLDER,
    Config,
    Served,
    config_of,
    text_format,
    warmup_files,
)

BACKENDS = ("onnxruntime", "python")
MASKED = "_masked"
_EOS_FILES = ("generation_config.json", "config.json")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Laid:
    """A model that was laid out.

    Attributes:
        name: in the fleet's repository.
        version: of it.
        backend: what runs it there.
        folder: where it is.
    """

    name: str
    version: str
    backend: str
    folder: Path


def package(
    repository: Path,
    folder: Path,
    *,
    models: Sequence[str] = (),
    version: str = "",
    backend: str = "onnxruntime",
    threads: int = 1,
    queue_policy: bool = False,
    say: Say = lambda text: None,
) -> list[Laid]:
    """Lay a repository out.

    Args:
        repository: where versions are published.
        folder: where to; made if it is not there. Models that are there and not named stay.
        models: to lay out; empty: all.
        version: of the one model that is named; empty: the current one.
        backend: of ``BACKENDS``, for graphs; texts are always written by the python backend.
        threads: of the CPU runtime, a model.
        queue_policy: bound Triton's own queue, see ``config_of``.
        say: told about each.

    Raises:
        ArtifactError: a model is not there, or does not verify.
        BuildError: a version has no form that this backend opens.
    """
    if backend not in BACKENDS:
        raise BuildError(f"--backend {backend!r} is not known; there are {', '.join(BACKENDS)}")
    names = list(models) or model_names(repository)
    if version and len(names) != 1:
        raise BuildError(
            f"--version {version} goes with one --model, and there are {', '.join(names) or 'none'}"
        )
    if not names:
        raise ArtifactError(f"{repository}: no model is published there; build one first")
    laid: list[Laid] = []
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        opened = open_version(repository / name / (version or current_version(repository, name)))
        for one in _layouts(opened, _How(backend, threads, queue_policy)):
            _place(folder / one.name, one, opened)
            laid.append(Laid(one.name, opened.manifest.version, one.backend, folder / one.name))
            say(f"{one.name} version {opened.manifest.version}: {one.backend} backend")
    return laid


@dataclass(frozen=True, slots=True)
class _How:
    backend: str
    threads: int
    queue_policy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    name: str
    backend: str
    config: Config
    files: dict[str, Path | bytes]
    warmup: dict[str, bytes]


def _layouts(opened: OpenedVersion, how: _How) -> list[_Layout]:
    task = opened.manifest.task
    if task == RECOMMENDATION:
        return [_recommender(opened, entry, how) for entry in ("unmasked", "masked")]
    if task == SENTENCES:
        return [_encoder(opened, how)]
    if task == TEXTS:
        return [_decoder(opened, how.threads)]
    raise BuildError(f"{opened.folder}: task {task!r} has no form that a Triton server opens")


def _recommender(opened: OpenedVersion, entry: str, how: _How) -> _Layout:
    manifest = opened.manifest
    target = _target(manifest, "onnxruntime", entry)
    packed = packed_tables(manifest.constants)
    if packed:
        raise BuildError(
            f"{opened.folder}: tables {', '.join(packed)} are stored packed, which Triton does not unpack; build the version "
            'with quantize.table = "int8" and quantize.neighbours = 0 for a fleet'
        )
    file = SELF_CONTAINED[entry]
    graph = self_contained(opened.folder, manifest.constants, target).SerializeToString()
    files: dict[str, Path | bytes] = {file: graph}
    # Popularity is the fallback tier's alone; a table more would only be copied.
    used = {item.file for item in manifest.constants if item.file.encode() in graph}
    files |= {name: opened.path(name) for name in sorted(used)}
    name = manifest.model + (MASKED if entry == "masked" else "")
    served = Served(target=target, file=file, entry=entry)
    return _layout(opened, name, served, files, how, pad_left="item_ids")


def _encoder(opened: OpenedVersion, how: _How) -> _Layout:
    manifest = opened.manifest
    target = _target(manifest, "onnxruntime", None)
    files: dict[str, Path | bytes] = {target.file: opened.path(target.file)}
    files |= _weights(opened)
    served = Served(target=target, file=target.file, entry="masked")
    return _layout(opened, manifest.model, served, files, how, flat="lengths")


def _layout(
    opened: OpenedVersion,
    name: str,
    served: Served,
    files: dict[str, Path | bytes],
    how: _How,
    **hints: str,
) -> _Layout:
    manifest = opened.manifest
    golden = read_golden(opened.path(GOLDEN_FILE))
    warmup = warmup_files(manifest, served, golden)
    config = config_of(
        manifest, served, name=name, golden=golden, threads=how.threads, queue_policy=how.queue_policy
    )
    if how.backend == "python":
        config.pop("platform")
        config.pop("default_model_filename")
        config["backend"] = "python"
        config["parameters"] = _parameters(graph=served.file, threads=str(how.threads), **hints)
        files = {**files, "model.py": _resource("python_model.py")}
    return _Layout(name=name, backend=how.backend, config=config, files=files, warmup=warmup)


def _decoder(opened: OpenedVersion, threads: int) -> _Layout:
    manifest = opened.manifest
    target = _target(manifest, "onnxruntime", None)
    files: dict[str, Path | bytes] = {target.file: opened.path(target.file), **_weights(opened)}
    files["tokenizer.json"] = opened.path("tokenizer.json")
    files["model.py"] = _resource("python_decoder.py")
    text = {"data_type": "TYPE_STRING", "dims": [1]}
    config: Config = {
        "name": manifest.model,
        "backend": "python",
        "max_batch_size": 0,
        "version_policy": {"specific": {"versions": [int(manifest.version)]}},
        "model_transaction_policy": {"decoupled": True},
        "input": [
            {"name": "text_input", **text},
            {"name": "stream", "data_type": "TYPE_BOOL", "dims": [1], "optional": True},
            {"name": "sampling_parameters", **text, "optional": True},
        ],
        "output": [{"name": "text_output", "data_type": "TYPE_STRING", "dims": [-1]}],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": _parameters(
            graph=target.file,
            threads=str(threads),
            eos_ids=",".join(map(str, _eos_ids(opened))),
            max_context=str(manifest.limits["max_context"]),
            max_chunk=str(manifest.limits["max_chunk"]),
        ),
    }
    return _Layout(name=manifest.model, backend="python", config=config, files=files, warmup={})


def _place(folder: Path, layout: _Layout, opened: OpenedVersion) -> None:
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        version = aside / opened.manifest.version
        version.mkdir(parents=True)
        for name, source in layout.files.items():
            target = version / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, bytes):
                target.write_bytes(source)
            else:
                shutil.copyfile(source, target)
        if layout.warmup:
            (aside / WARMUP_FOLDER).mkdir()
            for name, data in layout.warmup.items():
                (aside / WARMUP_FOLDER / name).write_bytes(data)
        (aside / CONFIG_FILE).write_text(text_format(layout.config), encoding="utf-8")
        if folder.exists():
            before = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
            folder.rename(before)
            aside.rename(folder)
            shutil.rmtree(before, ignore_errors=True)
        else:
            aside.rename(folder)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            if aside.exists():
                shutil.rmtree(aside)


def _target(manifest: Manifest, kind: str, entry: str | None) -> Target:
    target = manifest.target(kind, entry)
    if target is None:
        there = ", ".join(sorted({f"{one.kind} ({one.entry})" for one in manifest.targets}))
        raise BuildError(
            f"{manifest.model} version {manifest.version} has no {kind} graph{f' ({entry})' if entry else ''}, it has {there}; "
            "build it with target onnxruntime"
        )
    return target


def _weights(opened: OpenedVersion) -> dict[str, Path | bytes]:
    return {
        entry.path: opened.path(entry.path)
        for entry in opened.manifest.files
        if entry.path.endswith(".weights") and os.sep not in entry.path
    }


def _eos_ids(opened: OpenedVersion) -> list[int]:
    listed = {entry.path for entry in opened.manifest.files}
    for name in _EOS_FILES:
        if name not in listed:
            continue
        found: Any = msgspec.json.decode(opened.path(name).read_bytes()).get("eos_token_id")
        if found is not None:
            return [int(token) for token in (found if isinstance(found, list) else [found])]
    raise BuildError(f"{opened.folder}: neither {' nor '.join(_EOS_FILES)} says which token ends a text")


def _parameters(**values: str) -> list[Config]:
    return [{"key": name, "value": {"string_value": value}} for name, value in values.items() if value]


def _resource(name: str) -> bytes:
    return (resources.files("build_engines.triton") / name).read_bytes()
