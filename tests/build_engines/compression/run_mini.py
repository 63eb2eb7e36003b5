"""``python -m tests.build_engines.compression.run_mini RECIPE WORKSPACE ...``: a build that a test may kill."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

from build_engines import train
from build_engines.__main__ import main
from tests.build_engines.mini_shop import served_mix

if __name__ == "__main__":
    recipe, workspace, *more = sys.argv[1:]
    places = ["--workspace", workspace, "--repository", str(Path(workspace) / "repository")]
    with mock.patch.object(train, "tune_mix", served_mix):
        sys.exit(main(["run", recipe, "--plain", *places, *more]))
