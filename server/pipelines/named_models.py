"""Which of a repository's models of one kind serves: the one that is wanted, or else the first by name."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from server.artifacts.errors import ArtifactError
from server.artifacts.repository import current_version, model_names, read_manifest
from server.pipelines.published_models import PublishedModel, faults_told, published_models


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """A kind of models.

    Attributes:
        task: of their manifests.
        words: what people call one ("text model").
        setting: that names the wanted one.
        log: where it is told.
    """

    task: str
    words: str
    setting: str
    log: logging.Logger


def name_of_kind(repository: Path, kind: ModelKind, wanted: str = "") -> str | None:
    """The model to serve: the one that is wanted, or else the first by name; None where there is none.

    Raises:
        ArtifactError: the wanted one is not there, or is of another kind; lists those there are. Or none is wanted, and
            models of the kind are there of which none can be opened; says what is wrong with each.
    """
    if wanted in model_names(repository):
        task = read_manifest(repository / wanted / current_version(repository, wanted)).task
        if task == kind.task:
            return wanted
    models = published_models(repository)
    names = whole(models, kind)
    if not wanted:
        damaged = [model for model in models if model.task == kind.task and model.fault]
        if damaged and not names:
            raise ArtifactError(faults_told(repository, kind.words, damaged))
        if len(names) > 1:
            kind.log.info(f"several {kind.words}s; the first serves", extra={"reason": ", ".join(names)})
        return names[0] if names else None
    known = ", ".join(names) or "none"
    raise ArtifactError(
        f"{repository}: no {kind.words} {wanted!r} (there are: {known}); choose with {kind.setting}, or publish it"
    )


def whole(models: list[PublishedModel], kind: ModelKind) -> list[str]:
    """Names of those of the kind that can be opened; the others are logged."""
    for model in models:
        if model.fault and model.task in (kind.task, None):
            kind.log.warning(
                f"cannot be opened, so it is not the {kind.words}",
                extra={"model": model.name, "reason": model.fault},
            )
    return [model.name for model in models if model.task == kind.task and not model.fault]
