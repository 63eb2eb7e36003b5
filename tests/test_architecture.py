"""The layers of the house hold, and the server's image needs none of the builder's libraries."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BESIDE = "shared/"  # a folder that some checkouts have beside them, and that no file may need
ROOMS = ("server", "build_engines", "loadtest", "bench", "tests")
SOURCES = [path for room in ROOMS for path in sorted(ROOT.glob(f"{room}/**/*.py"))]


def test_arrows_go_down_only() -> None:
    """Every import contract of pyproject.toml is kept, and every module of the server has a layer."""
    ran = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout


def test_the_server_starts_without_the_builders_libraries() -> None:
    """Importing the whole server loads neither torch nor onnx, polars or rich."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnx_ir', 'polars', 'rich', 'tensorrt', 'tensorrt_rtx'): sys.modules[name] = None\n"
        "import server.app, server.__main__, server.http_api.routes, server.pipelines.live_model\n"
    )

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_and_says_what_it_is_for(path: Path) -> None:
    """Nobody has to read more than 400 lines to change one thing, and every file opens with its purpose."""
    if path.name.startswith("vitrine_pb2"):
        return
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 400
    assert text.startswith('"""')
    assert path.stem not in {"utils", "helpers", "common", "manager"}


def test_nothing_reaches_outside_this_machine() -> None:
    """No file of the project names a host on the internet, or the folder beside the checkout."""
    # What is allowed: addresses of this machine, and the names that XML and JSON schemas go by.
    allowed = re.compile(
        r"https?://(127\\?\.0\\?\.0\\?\.1|[\"')]|localhost|0\.0\.0\.0|\[::1\]|HOST|www\.w3\.org|www\.apache\.org|cyclonedx\.org/schema|x\b|[{$%])"
    )
    told = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    offenders = []
    for name in told.stdout.splitlines():
        path = ROOT / name
        if (
            path.suffix not in {".py", ".toml", ".md", ".txt", ".yml", ".yaml", ".proto", ""}
            or name == "LICENSE"
            or not path.exists()
        ):
            continue
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="ignore").splitlines(), start=1
        ):
            for found in re.finditer(r"https?://\S+", line):
                if not allowed.match(found.group()) and name != "tests/test_architecture.py":
                    offenders.append(f"{name}:{number}: {found.group()}")
            if BESIDE in line and name != "tests/test_architecture.py":
                offenders.append(f"{name}:{number}: {BESIDE}")
    assert not offenders


def test_every_dependency_is_pinned_and_has_a_reason() -> None:
    """What pyproject.toml asks for stands in the constraints, and ARCHITECTURE.md says why it is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["builder"], *extras["tensorrt-rtx"], *extras["test"]]
    names = {re.split(r"[\[<>=;~! ]", text, maxsplit=1)[0].lower().replace("_", "-") for text in wanted}
    names.discard(project["name"])  # an extra that asks for another of its own
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    why = (ROOT / "ARCHITECTURE.md").read_text().lower()

    assert not names - pinned
    assert not {name for name in names if f"`{name}`" not in why}
