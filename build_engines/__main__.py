"""``python -m build_engines``: build, look, roll back, verify. Everything a person needs stands in ``--help``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from build_engines.data.errors import DataError
from build_engines.errors import BuildError
from build_engines.progress import Bars, PlainLines, Progress
from build_engines.proof_commands import add_proof_commands
from build_engines.triton.command import add_package
from server.artifacts.errors import ArtifactError

if TYPE_CHECKING:  # listing versions must not wait for them
    from build_engines.recipe_parts import PublishPart
    from build_engines.workspace import Workspace
    from server.artifacts.releases import Releases

DEMO_FOLDER = Path(__file__).parent / "demo_models" / "demo-copy"
EXIT_DATA, EXIT_ARTIFACT, EXIT_INTERRUPTED = 3, 5, 130

_DESCRIPTION = """\
Turn a shop's click log into a compressed, proven recommender engine that the server can serve, a checkpoint of a language
model (and a shop's own copy) into a text engine, or a sentence encoder (and a shop's own questions) into the encoder of
customer service.

  load -> train -> quantize -> export -> compile -> verify -> publish       a recommender
  text-load -> finetune -> package -> text-verify -> publish                a text model (kind = "text")
  encoder-load -> intents -> encoder-package -> encoder-verify -> publish   a sentence encoder (kind = "encoder")
  own-load -> own-quantize -> own-compile -> own-verify -> publish          a model of your own (kind = "own")
  load -> rerank-candidates -> rerank-train -> ... -> publish                 a re-ranker behind a recommender (kind = "rerank")

Each stage's result is kept in the workspace and reused as long as nothing that it depends on has changed; a
run that was stopped or killed goes on where it was. Nothing is published that does not pass the gate
(verify).
"""

_EPILOG = """\
a first build:
  python -m build_engines run sample_shop                 the shop that comes with the project
  python -m build_engines list

your own shop, a recipe of a few lines (my_shop.toml):
  [model]
  name = "my-shop"
  [data]
  log = "clicks.csv"          # columns user_id,item_id,timestamp; or Parquet; or a user a line
  items = "items.csv"         # item_id,title,brand,category,price,in_stock, anything else
  python -m build_engines run my_shop.toml
  python -m build_engines run my_shop.toml --set train.epochs=4 --set
  compile.targets='["onnxruntime","tensorrt_rtx:sm86"]'

a text model (my_copy.toml); without [finetune] the checkpoint is served as it is:
  kind = "text"
  [model]
  name = "my-copy"
  [checkpoint]
  folder = "Qwen3-0.6B"       # config.json, safetensors, tokenizer.json
  [data]
  pairs = "copy.jsonl"        # {"product": {...}, "channel": "email", "language": "en", "copy": {...}}
  [finetune]
  method = "lora"

a sentence encoder with the shop's intents (my_support.toml):
  kind = "encoder"
  [model]
  name = "my-support"
  [checkpoint]
  folder = "all-MiniLM-L6-v2" # config.json, safetensors, tokenizer.json; or package and sha256; or hub, revision and sha256
  [texts]
  file = "messages.txt"       # a text a line: what shoppers write
  [intents]
  examples = "intents.csv"    # columns text,intent

a model of your own (my_model.toml):
  kind = "own"
  source = "onnx:scorer.onnx" # or "python:package.module:factory"
  [model]
  name = "my-scorer"
  [data]
  calibration = "calibration.npz"
  gate = "gate.npz"
  [quantize]
  precision = "int8"

exit codes:
  0 done   1 could not be done   2 wrong recipe or command line   3 the data cannot be used
  4 the gate refused the candidate   5 workspace or repository (disk full, locked, damaged version)
  6 a compile target cannot be built here   7 compare: a regression   130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        with _progress(arguments.plain) as progress:
            return int(arguments.run(arguments, progress))
    except BuildError as error:
        return _fail(error, error.exit_code)
    except DataError as error:
        return _fail(error, EXIT_DATA)
    except ArtifactError as error:
        return _fail(error, EXIT_ARTIFACT)
    except KeyboardInterrupt:
        return _fail("interrupted; run this again to go on where it was", EXIT_INTERRUPTED)


def _fail(error: object, code: int) -> int:
    print(f"build_engines: {error}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _progress(plain: bool) -> Iterator[Progress]:
    if plain or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield PlainLines()
    else:
        with Bars() as bars:
            yield bars


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m build_engines",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--repository",
        type=Path,
        default=Path("model_repository"),
        help="where versions are published (default: %(default)s)",
    )
    shared.add_argument(
        "--plain", action="store_true", help="plain lines instead of bars, also on a terminal"
    )
    recipe = argparse.ArgumentParser(add_help=False)
    recipe.add_argument(
        "recipe", type=Path, help="a TOML file, or the name of a recipe that comes with the builder"
    )
    recipe.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one key of the recipe; the value is TOML, or else text; may be repeated",
    )
    recipe.add_argument(
        "--workspace",
        type=Path,
        default=Path(".workspace"),
        help="where results of stages are kept (default: %(default)s)",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    _add_run(commands, [recipe, shared])
    command = commands.add_parser(
        "status",
        parents=[recipe, shared],
        help="which stages of a recipe are done",
        description="Looks only.",
    )
    command.set_defaults(run=_status)
    command = commands.add_parser("list", parents=[shared], help="models, versions, and their key figures")
    command.set_defaults(run=_list)
    command = commands.add_parser(
        "rollback",
        parents=[shared],
        help="make another version current",
        description="A running server takes it up without dropping a request.",
    )
    command.add_argument("model", help="the model's name")
    command.add_argument("--to", metavar="N", help="the version (default: the newest below the current one)")
    command.set_defaults(run=_rollback)
    command = commands.add_parser(
        "verify",
        parents=[shared],
        help="hold a published version against its hashes and golden answers",
        description="Exits with 5 and a sentence when it does not hold.",
    )
    command.add_argument("model", help="the model's name")
    command.add_argument("--version", metavar="N", help="the version (default: the current one)")
    command.set_defaults(run=_verify)
    command = commands.add_parser(
        "train-demo",
        parents=[shared],
        help="train the demonstration model of product copy anew",
        description="Takes about half an hour of one core; stopped or killed, it goes on where it was.",
    )
    command.add_argument("--folder", type=Path, default=DEMO_FOLDER, help="where to (default: %(default)s)")
    command.add_argument(
        "--workspace",
        type=Path,
        default=Path(".workspace"),
        help="where checkpoints are kept (default: %(default)s)",
    )
    command.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    command.set_defaults(run=_train_demo)
    add_proof_commands(commands, shared, recipe)
    add_package(commands, [shared])
    return parser


def _add_run(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], parents: list[argparse.ArgumentParser]
) -> None:
    from build_engines.stage_names import ENCODER_STAGES, OWN_STAGES, RERANK_STAGES, STAGES, TEXT_STAGES

    stages = tuple(dict.fromkeys((*STAGES, *TEXT_STAGES, *ENCODER_STAGES, *OWN_STAGES, *RERANK_STAGES)))
    command = commands.add_parser(
        "run",
        parents=parents,
        help="build and publish",
        description="Build what a recipe says and publish it.",
    )
    command.add_argument(
        "--from",
        dest="first",
        choices=stages,
        metavar="STAGE",
        help=f"run this stage and all after it again: {', '.join(stages)}",
    )
    command.add_argument("--force", action="store_true", help="run every stage again")
    command.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, progress: Progress) -> int:
    from build_engines.lines import first_stage, run_line
    from build_engines.recipe_kind import recipe_kind

    kind = recipe_kind(arguments.recipe)
    first = first_stage(kind, arguments.first, force=arguments.force)
    places = functools.partial(_places, arguments, progress)
    run_line(kind, arguments.recipe, arguments.set, places, first)
    return 0


def _places(
    arguments: argparse.Namespace, progress: Progress, publish: PublishPart
) -> tuple[Workspace, Releases]:
    from build_engines.signing import releases_for
    from build_engines.workspace import Workspace

    workspace = Workspace(root=arguments.workspace, progress=progress)
    return workspace, releases_for(arguments.repository, keep=publish.keep, signing_key=publish.signing_key)


def _train_demo(arguments: argparse.Namespace, progress: Progress) -> int:
    import torch

    from build_engines.text.demo import DemoPlan, train_demo

    torch.set_num_threads(max(1, arguments.threads))
    scratch = arguments.workspace / "train-demo"
    scratch.mkdir(parents=True, exist_ok=True)
    result = train_demo(DemoPlan(), arguments.folder, progress, scratch=scratch)
    progress.say(
        f"{arguments.folder}: held-out loss {result.best.heldout_loss:.4f} after {result.tokens} tokens"
    )
    return 0


def _status(arguments: argparse.Namespace, progress: Progress) -> int:
    from build_engines.lines import line_status
    from build_engines.recipe_kind import recipe_kind
    from build_engines.workspace import Workspace

    workspace = Workspace(root=arguments.workspace, progress=progress)
    kind = recipe_kind(arguments.recipe)
    for stage, state in line_status(kind, arguments.recipe, arguments.set, workspace, arguments.repository):
        print(f"{stage:<17} {state}")
    return 0


def _list(arguments: argparse.Namespace, progress: Progress) -> int:
    from build_engines.listing import listing

    print(listing(arguments.repository))
    return 0


def _rollback(arguments: argparse.Namespace, progress: Progress) -> int:
    from server.artifacts.releases import Releases

    version = Releases(repository=arguments.repository).rollback(arguments.model, to=arguments.to)
    print(f"{arguments.model}: version {version} is current")
    return 0


def _verify(arguments: argparse.Namespace, progress: Progress) -> int:
    from build_engines.lines import replay_version
    from server.artifacts.repository import current_version, open_version

    version = arguments.version or current_version(arguments.repository, arguments.model)
    opened = open_version(arguments.repository / arguments.model / version)
    replay_version(opened)
    files = opened.manifest.files
    size_mb = sum(entry.size_bytes for entry in files) / 1e6
    print(
        f"{arguments.model} version {version}: {len(files)} files, {size_mb:.1f} MB as published, golden answers reproduced"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
