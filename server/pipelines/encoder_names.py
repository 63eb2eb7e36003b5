"""Which of a repository's models encodes sentences."""

from __future__ import annotations

import logging
from pathlib import Path

from server.encoder_domain import ENCODER_TASK
from server.pipelines.named_models import ModelKind, name_of_kind

ENCODER = ModelKind(
    task=ENCODER_TASK,
    words="sentence encoder",
    setting="VITRINE_ENCODER_MODEL",
    log=logging.getLogger("vitrine.encoder"),
)


def encoder_name(repository: Path, wanted: str = "") -> str | None:
    """The encoder to serve; see ``name_of_kind``."""
    return name_of_kind(repository, ENCODER, wanted)
