"""What stands in a repository, model by model: its kind, and what is wrong with the version that serves.

A model that cannot be opened is listed with its fault and never left out: to say that nothing is published, where
something is damaged, would send a person to build anew what a rollback would mend.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from server.artifacts.errors import ArtifactError
from server.artifacts.repository import (
    CURRENT_FILE,
    current_version,
    model_names,
    open_version,
    read_manifest,
    versions,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """One model of a repository.

    Attributes:
        name: its folder.
        task: of the current version, or, where that cannot be read, of the newest version that can; None: of none.
        fault: why the current version cannot be opened, the sentence that asking for it by name gives; empty: it can.
    """

    name: str
    task: str | None
    fault: str = ""


def published_models(repository: Path) -> list[PublishedModel]:
    """Every model by name; files are held against their sizes, not their hashes (loading does that)."""
    return [_look_at(repository, name) for name in _names(repository)]


def faults_told(repository: Path, kind: str, damaged: Iterable[PublishedModel]) -> str:
    """One fault as it stands; several under the repository's name, a line each."""
    faults = [f"{model.name}: {model.fault}" for model in damaged]
    if len(faults) == 1:
        return f"no {kind} can be opened: {faults[0]}"
    return f"{repository}: no {kind} can be opened:" + "".join(f"\n  - {fault}" for fault in faults)


def _names(repository: Path) -> list[str]:
    """Also the models whose every manifest is gone, as long as something was once current."""
    pointed = {path.parent.name for path in repository.glob(f"[!.]*/{CURRENT_FILE}")}
    return sorted(pointed | set(model_names(repository)))


def _look_at(repository: Path, name: str) -> PublishedModel:
    try:
        opened = open_version(repository / name / current_version(repository, name), verify=False)
    except ArtifactError as error:
        return PublishedModel(name=name, task=_task(repository, name), fault=str(error))
    return PublishedModel(name=name, task=opened.manifest.task)


def _task(repository: Path, name: str) -> str | None:
    try:
        wanted = [current_version(repository, name)]
    except ArtifactError:
        wanted = []
    for version in (*wanted, *reversed(versions(repository, name))):
        try:
            return read_manifest(repository / name / version).task
        except ArtifactError:
            continue
    return None
