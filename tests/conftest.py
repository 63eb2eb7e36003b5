"""Fixtures that several rooms' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import Tiny, publish_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A published tiny FP32 model; read only."""
    return publish_tiny(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def own_repository(tmp_path: Path) -> Path:
    """A folder for a repository of the test's own."""
    return tmp_path / "model_repository"
