"""Quality as the gate measured it on the finished engine, read from the report that every version carries.

Figures are protocol A: the last item of each user is the test, the whole catalogue is ranked, seen items are masked, ties
count against the model.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from server.artifacts.repository import current_version

RECIPES = Path("build_engines/recipes")


def measure(repository: Path, beauty: Path | None) -> dict[str, Any]:
    """Build what is not built, and read the reports.

    Args:
        repository: of published models.
        beauty: folder with the public log, or None.

    Returns:
        ``report.json`` by model name.
    """
    wanted: dict[str, list[str]] = {"sample-shop": [str(RECIPES / "sample_shop.toml")]}
    if beauty is not None:
        log, items = beauty / "Beauty.txt", beauty / "Beauty_item2attributes.json"
        wanted["beauty"] = [
            str(RECIPES / "beauty.toml"),
            "--set",
            f"data.log={log}",
            "--set",
            f"data.items={items}",
        ]
    reports = {}
    for model, words in wanted.items():
        command = [sys.executable, "-m", "build_engines", "run", *words, "--repository", str(repository)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        report = repository / model / current_version(repository, model) / "report.json"
        reports[model] = json.loads(report.read_text(encoding="utf-8"))
    return reports
