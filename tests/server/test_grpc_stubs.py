"""The committed stubs are what the proto file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.grpc_api.generate import ROOT, generate


def test_the_committed_stubs_are_up_to_date(tmp_path: Path) -> None:
    """Whoever changes vitrine.proto also runs ``python -m server.grpc_api.generate``."""
    pytest.importorskip("grpc_tools")

    generate(tmp_path)

    for name in ("vitrine_pb2.py", "vitrine_pb2.pyi", "vitrine_pb2_grpc.py"):
        made = (tmp_path / "server" / "grpc_api" / name).read_text()
        assert made == (ROOT / "server" / "grpc_api" / name).read_text(), name
