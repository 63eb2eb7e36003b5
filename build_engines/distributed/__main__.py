"""``torchrun --nproc-per-node 2 -m build_engines.distributed FOLDER``: learn the lesson that the builder put into a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from build_engines.distributed.lesson_files import LESSON_FILE


def main(arguments: list[str]) -> int:
    """The exit code; says what is wrong with how it was started."""
    folder = Path(arguments[0]) if len(arguments) == 1 else None
    if folder is None or not (folder / LESSON_FILE).is_file():
        print(
            "usage: torchrun --nproc-per-node N -m build_engines.distributed FOLDER; FOLDER is named by a build whose step "
            'has launch = "torchrun"',
            file=sys.stderr,
        )
        return 2
    if "RANK" not in os.environ:
        print("RANK is not set: start this by torchrun, not by python", file=sys.stderr)
        return 2
    from build_engines.distributed.worker import work_in

    return work_in(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
