"""Which of a repository's models writes texts."""

from __future__ import annotations

import logging
from pathlib import Path

from server.artifacts.errors import ArtifactError
from server.artifacts.repository import current_version, model_names, read_manifest
from server.text_domain import TEXT_TASK

log = logging.getLogger("vitrine.text")


def text_model_name(repository: Path, wanted: str = "") -> str | None:
    """The text model to serve: the one that is wanted, or else the first by name; None where there is none.

    Raises:
        ArtifactError: the wanted one is not there, or is of another kind; lists those there are.
    """
    if wanted in model_names(repository):
        task = read_manifest(repository / wanted / current_version(repository, wanted)).task
        if task == TEXT_TASK:
            return wanted
    names = text_model_names(repository)
    if not wanted:
        if len(names) > 1:
            log.info("several text models; the first serves", extra={"reason": ", ".join(names)})
        return names[0] if names else None
    known = ", ".join(names) or "none"
    raise ArtifactError(
        f"{repository}: no text model {wanted!r} (there are: {known}); choose with VITRINE_TEXT_MODEL, or publish it"
    )


def text_model_names(repository: Path) -> list[str]:
    """Models whose current version writes texts, by name; what cannot be read is left out and logged."""
    found = []
    for name in model_names(repository):
        try:
            manifest = read_manifest(repository / name / current_version(repository, name))
        except ArtifactError as error:
            log.warning("not looked at for texts", extra={"reason": str(error)})
            continue
        if manifest.task == TEXT_TASK:
            found.append(name)
    return found
