"""Which of a repository's models writes texts."""

from __future__ import annotations

import logging
from pathlib import Path

from server.pipelines.named_models import ModelKind, name_of_kind, whole
from server.pipelines.published_models import published_models
from server.text_domain import TEXT_TASK

TEXT = ModelKind(
    task=TEXT_TASK,
    words="text model",
    setting="VITRINE_TEXT_MODEL",
    log=logging.getLogger("vitrine.text"),
)


def text_model_name(repository: Path, wanted: str = "") -> str | None:
    """The text model to serve; see ``name_of_kind``."""
    return name_of_kind(repository, TEXT, wanted)


def text_model_names(repository: Path) -> list[str]:
    """Models whose current version writes texts, by name; what cannot be opened is left out and logged."""
    return whole(published_models(repository), TEXT)
