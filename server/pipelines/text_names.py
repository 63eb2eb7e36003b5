"""Which of a repository's models writes texts."""

from __future__ import annotations

import logging
from pathlib import Path

from server.artifacts.errors import ArtifactError
from server.artifacts.repository import current_version, model_names, read_manifest
from server.pipelines.published_models import PublishedModel, faults_told, published_models
from server.text_domain import TEXT_TASK

log = logging.getLogger("vitrine.text")


def text_model_name(repository: Path, wanted: str = "") -> str | None:
    """The text model to serve: the one that is wanted, or else the first by name; None where there is none.

    Raises:
        ArtifactError: the wanted one is not there, or is of another kind; lists those there are. Or none is wanted, and
            text models are there of which none can be opened; says what is wrong with each.
    """
    if wanted in model_names(repository):
        task = read_manifest(repository / wanted / current_version(repository, wanted)).task
        if task == TEXT_TASK:
            return wanted
    models = published_models(repository)
    names = _whole(models)
    if not wanted:
        damaged = [model for model in models if model.task == TEXT_TASK and model.fault]
        if damaged and not names:
            raise ArtifactError(faults_told(repository, "text model", damaged))
        if len(names) > 1:
            log.info("several text models; the first serves", extra={"reason": ", ".join(names)})
        return names[0] if names else None
    known = ", ".join(names) or "none"
    raise ArtifactError(
        f"{repository}: no text model {wanted!r} (there are: {known}); choose with VITRINE_TEXT_MODEL, or publish it"
    )


def text_model_names(repository: Path) -> list[str]:
    """Models whose current version writes texts, by name; what cannot be opened is left out and logged."""
    return _whole(published_models(repository))


def _whole(models: list[PublishedModel]) -> list[str]:
    for model in models:
        if model.fault and model.task in (TEXT_TASK, None):
            log.warning("not looked at for texts", extra={"model": model.name, "reason": model.fault})
    return [model.name for model in models if model.task == TEXT_TASK and not model.fault]
