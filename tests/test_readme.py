"""What the README shows a stranger works as it is written."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.tiny import Tiny

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
SHELL = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def ports(tiny: Tiny) -> Iterator[dict[str, str]]:
    """A real server in its own process; the README's ports by what they are here."""
    command = [sys.executable, "-m", "server", "--repository", str(tiny.repository)]
    command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            told = ""
            assert process.stdout is not None
            for line in process.stdout:
                told += line
                if line.startswith("try:"):
                    break
            http = re.search(r"HTTP\s+http://127\.0\.0\.1:(\d+)", told)
            grpc = re.search(r"gRPC\s+127\.0\.0\.1:(\d+)", told)
            metrics = re.search(r"metrics\s+http://127\.0\.0\.1:(\d+)", told)
            assert http and grpc and metrics, told
            yield {":8000": f":{http[1]}", ":8001": f":{grpc[1]}", ":8002": f":{metrics[1]}"}
        finally:
            process.terminate()


def moved(text: str, ports: dict[str, str]) -> str:
    for readme, here in ports.items():
        text = text.replace(readme, here)
    return text


def test_the_curl_request_is_answered(ports: dict[str, str]) -> None:
    """The first command a stranger copies gives five items with a reason each."""
    line = next(line for line in SHELL if line.startswith("curl"))
    words = shlex.split(moved(line, ports))
    url, body = words[2], words[4]

    answer = httpx.post(url, content=body)

    assert answer.status_code == 200, answer.text
    assert len(answer.json()["items"]) == json.loads(body)["k"]
    assert all(item["reason"] for item in answer.json()["items"])


def test_the_product_copy_request_is_answered(ports: dict[str, str]) -> None:
    """Also where no text model is published: then by the template, and every claim has its place."""
    line = next(line for line in SHELL if "/v1/product-copy" in line)
    words = shlex.split(moved(line, ports))

    answer = httpx.post(words[2], content=words[4], timeout=20)

    assert answer.status_code == 200, answer.text
    variant = answer.json()["variants"][0]
    assert "Brimora" in variant["headline"] + variant["description"]
    assert variant["checks"]


@pytest.mark.parametrize("code", [text for kind, text in BLOCKS if kind == "python"], ids=["http", "grpc"])
def test_the_python_examples_run(
    code: str, ports: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Both clients print who answered and what."""
    exec(compile(moved(code, ports), "README.md", "exec"), {})

    assert re.match(r"(model|fallback) \['sku-", capsys.readouterr().out)


@pytest.mark.parametrize("line", [line for line in SHELL if line.startswith("python -m")])
def test_every_command_is_known_with_its_flags(line: str) -> None:
    """Each module, subcommand and flag of the README is in that command's help."""
    words = shlex.split(line, comments=True)
    module, rest = words[2], words[3:]
    sub = [rest[0]] if rest and not rest[0].startswith("-") else []

    told = subprocess.run(
        [sys.executable, "-m", module, *sub, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert told.returncode == 0, told.stderr
    for flag in (word for word in rest if word.startswith("--")):
        assert flag in told.stdout, f"{flag} is not a flag of {module} {' '.join(sub)}"


def test_every_make_target_is_there() -> None:
    """What the README tells to make, the Makefile makes."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    for target in set(re.findall(r"\bmake (\w+)\b", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_file_it_names_exists() -> None:
    """Paths in backticks lead somewhere."""
    for path in re.findall(r"`([\w./-]+\.(?:md|toml|py|proto)|Dockerfile)`", README):
        if path != "my_shop.toml":
            assert (ROOT / path).exists(), path
