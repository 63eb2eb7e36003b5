"""``python -m server.bulk copy`` as a shop runs it: a process, files, a signal, and sentences."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from server.bulk.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def catalogue(path: Path, count: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            record: dict[str, Any] = {
                "item_id": f"sku-{number}",
                "title": f"Brimora Kettle {number % 7 + 1} l",
                "brand": "Brimora",
                "category": "Kettles",
                "attributes": {"capacity": f"{number % 7 + 1} l", "colour": "black"},
                "in_stock": True,
            }
            file.write(json.dumps(record) + "\n")
        file.write('{"brand": "no title"}\n')


def test_a_catalogue_is_written_interrupted_and_gone_on_with_by_the_same_command(tmp_path: Path) -> None:
    """SIGTERM leaves whole lines and exit status 1; the same command ends with 0 and every line once."""
    source, out = tmp_path / "products.jsonl", tmp_path / "copy.jsonl"
    catalogue(source, 600)
    command = [
        sys.executable,
        "-m",
        "server.bulk",
        "copy",
        "--in",
        str(source),
        "--out",
        str(out),
        "--no-model",
    ]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, env={**os.environ})
    while running.poll() is None and not (out.exists() and out.stat().st_size > 10_000):
        pass
    running.send_signal(signal.SIGTERM)
    _, told = running.communicate(timeout=60)
    assert (running.returncode, b"the same command goes on" in told) == (1, True), told.decode()
    written = out.read_bytes()

    ended = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    assert "601/601 (100.0 %), 1 rejected" in ended.stderr.decode()
    assert out.read_bytes().startswith(written)
    entries = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [entry["id"] for entry in entries] == [f"sku-{number}" for number in range(600)]
    assert all(entry["copy"]["served_by"] == "fallback" for entry in entries)
    (reject,) = (tmp_path / "copy.jsonl.rejects").read_text().splitlines()
    assert json.loads(reject)["reason"]["field"] == "title"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--in", "{}/nothing.jsonl", "--out", "{}/out"], "there is no file"),
        (["--in", "{}/in", "--out", "{}/in"], "is both read and written"),
        (["--in", "{}/in", "--out", "{}/out", "--rejects", "{}/out"], "name two files"),
        (["--in", "{}/in", "--out", "{}/out", "--variants", "0"], "variants is 0; ask for 1 to 4"),
        (["--in", "{}/in", "--out", "{}/out", "--max-words", "3"], "max_words is 3"),
        (["--in", "{}/in", "--out", "{}/out", "--at-once", "0"], "--at-once is 0"),
        (["--in", "{}/in", "--out", "{}/no/folder/out"], "No such file"),
        (["--in", "{}/in", "--out", "{}/out", "--style", "{}/none.toml"], "none.toml"),
    ],
)
def test_what_cannot_begin_says_why(
    tmp_path: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 and one sentence."""
    (tmp_path / "in").write_text('{"title": "x"}\n')
    status = main(["copy", "--no-model", *(word.format(tmp_path) for word in words)], {})

    assert status == 2
    assert sentence in capsys.readouterr().err
