"""``python -m build_engines package``, its flags and what it says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from build_engines.progress import Progress

_ABOUT = """\
Lay out a repository for a fleet of Triton servers: each model whole and by itself, with its configuration and its warm-up.
Start one there with
  tritonserver --model-repository FOLDER --model-control-mode poll --repository-poll-secs 5
and our servers in front of the fleet with
  VITRINE_ENGINE=triton VITRINE_TRITON_HOSTS=HOST1:8001,HOST2:8001 python -m server
(docs/fleet.md has the rest, with TensorRT-LLM for texts).
"""


def add_package(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = commands.add_parser(
        "package",
        parents=parents,
        help="lay published models out for a fleet of Triton servers",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--for", dest="fleet", choices=("triton",), required=True, help="what serves there")
    command.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where to")
    command.add_argument(
        "--model", action="append", default=[], metavar="NAME", help="a model; may be repeated (default: all)"
    )
    command.add_argument(
        "--version", default="", metavar="N", help="of the one model (default: the current one)"
    )
    command.add_argument(
        "--backend",
        choices=("onnxruntime", "python"),
        default="onnxruntime",
        help="what runs graphs there (default: %(default)s); texts are written by the python backend",
    )
    command.add_argument(
        "--threads", type=int, default=1, help="of the CPU runtime, a model (default: %(default)s)"
    )
    command.add_argument(
        "--queue-policy",
        action="store_true",
        help="bound Triton's own queue too; tritonserver 2.51 stalls at times with that (docs/fleet.md)",
    )
    command.set_defaults(run=_package)


def _package(arguments: argparse.Namespace, progress: Progress) -> int:
    from build_engines.triton.package import package

    laid = package(
        arguments.repository,
        arguments.to,
        models=arguments.model,
        version=arguments.version,
        backend=arguments.backend,
        threads=max(1, arguments.threads),
        queue_policy=arguments.queue_policy,
        say=progress.say,
    )
    print(f"{arguments.to}: {len(laid)} models for Triton")
    return 0
