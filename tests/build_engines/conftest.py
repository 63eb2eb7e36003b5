"""A workspace that the tests of the builder's line share: stages that one test made, the next one reuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.build_engines.mini_shop import served_mix


@pytest.fixture(scope="session")
def shared_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder; results are keyed by what they depend on, so the order of tests does not matter."""
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture
def mini_workspace(shared_workspace: Path) -> Iterator[Path]:
    """The shared workspace, for recipes of the mini shop."""
    from build_engines import train

    with mock.patch.object(train, "tune_mix", served_mix):
        yield shared_workspace
