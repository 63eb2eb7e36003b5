"""Fixtures that several rooms' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.tiny import Tiny, publish_tiny

# A busy machine makes inputs slowly and takes its time for each; that says nothing of the promise that is tested.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A published tiny FP32 model; read only."""
    return publish_tiny(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def own_repository(tmp_path: Path) -> Path:
    """A folder for a repository of the test's own."""
    return tmp_path / "model_repository"
