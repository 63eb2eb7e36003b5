"""Write the committed stubs again from ``vitrine.proto``; the one use of grpcio-tools, never at run time.

The stubs are committed so that installing the server needs no protoc; ``tests/server/test_grpc_stubs.py`` proves that
they are what this module writes.

    python -m server.grpc_api.generate [folder]
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTO = "server/grpc_api/vitrine.proto"


def generate(out: Path) -> None:
    """Write ``server/grpc_api/vitrine_pb2{.py,.pyi,_grpc.py}`` under ``out``.

    Raises:
        RuntimeError: protoc refused the file; its own message is on stderr.
    """
    from grpc_tools import protoc  # a tool of the development machine, not of the runtime image

    folder = f"-I{ROOT}"
    code = protoc.main(
        [
            "protoc",
            folder,
            f"--python_out={out}",
            f"--pyi_out={out}",
            f"--grpc_python_out={out}",
            str(ROOT / PROTO),
        ]
    )
    if code != 0:
        raise RuntimeError(f"protoc ended with {code} on {PROTO}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
