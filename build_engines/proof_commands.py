"""Commands that prove rather than build: ``compare``, ``search``, ``keys``, ``sign``, ``sbom``.

Each imports what it needs when it runs, so that ``list`` waits for none of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from build_engines.errors import BuildError

if TYPE_CHECKING:
    from build_engines.progress import Progress

EXIT_REGRESSION = 7
Commands = Any  # argparse keeps the type of its sub-parsers to itself


def add_proof_commands(
    commands: Commands, shared: argparse.ArgumentParser, recipe: argparse.ArgumentParser
) -> None:
    """Add them to the parser of ``python -m build_engines``."""
    _add_compare(commands, shared)
    _add_search(commands, shared, recipe)
    command = commands.add_parser(
        "keys",
        help="make a pair of keys to sign versions with",
        description="Writes FILE (keep it) and FILE.pub.",
    )
    command.add_argument("action", choices=("new",), help="what to do")
    command.add_argument("file", type=Path, help="of the private key; never overwritten")
    command.add_argument("--comment", default="", help="behind the public key, for people")
    command.set_defaults(run=_keys, plain=True)
    command = commands.add_parser(
        "sign",
        parents=[shared],
        help="sign a published version",
        description="For versions that were built where the key is not. Publishing signs by itself with publish.signing_key.",
    )
    command.add_argument("model", help="the model's name")
    command.add_argument("--version", metavar="N", help="the version (default: the current one)")
    command.add_argument("--key", type=Path, required=True, help="private key, as `keys new` made it")
    command.set_defaults(run=_sign)
    command = commands.add_parser(
        "sbom",
        help="bill of materials (CycloneDX JSON) of the server's runtime",
        description="Of what is installed here, without the builder and the tests.",
    )
    command.add_argument("--out", type=Path, help="file (default: standard output)")
    command.add_argument(
        "--extra", action="append", default=[], help="an extra of vitrine that serves, too; repeatable"
    )
    command.set_defaults(run=_sbom, plain=True)


def _add_compare(commands: Commands, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "compare",
        parents=[shared],
        help="is B as good as A, on the gate's examples",
        description="A and B: MODEL, MODEL:VERSION or a version's folder, of one task. Writes one page and exits with "
        f"{EXIT_REGRESSION} where B is decidedly worse.",
    )
    command.add_argument("a", metavar="A", help="what was")
    command.add_argument("b", metavar="B", help="what is to be")
    command.add_argument(
        "--out", type=Path, default=Path("compare.html"), help="the page (default: %(default)s)"
    )
    command.add_argument("--json", type=Path, help="the same figures for a machine")
    command.add_argument("--metric", default="ndcg@10", help="of recommenders (default: %(default)s)")
    command.add_argument(
        "--max-loss", type=float, default=0.01, help="relative, of NDCG or perplexity (default: %(default)s)"
    )
    command.add_argument(
        "--max-points", type=float, default=1.0, help="of R@1 and intents, in points (default: %(default)s)"
    )
    command.add_argument(
        "--max-slice-loss", type=float, default=0.05, help="on a slice (default: %(default)s)"
    )
    command.add_argument(
        "--min-speedup",
        type=float,
        default=0.95,
        help="slower than this is a regression (default: %(default)s)",
    )
    command.add_argument(
        "--batch-sizes", default="1,8,32", help="at which both are timed (default: %(default)s)"
    )
    command.add_argument("--rounds", type=int, default=40, help="of timing; 0: none (default: %(default)s)")
    command.add_argument("--examples", type=int, default=0, help="at most so many; 0: all")
    command.add_argument("--rate", type=float, help="also p99 of requests that arrive at this rate, a second")
    command.add_argument("--seed", type=int, default=0, help="of resampling (default: %(default)s)")
    command.add_argument("--strict", action="store_true", help="what is not decided is a regression, too")
    command.set_defaults(run=_compare)


def _add_search(commands: Commands, shared: argparse.ArgumentParser, recipe: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "search",
        parents=[recipe, shared],
        help="find the recipe that serves best within limits",
        description="Varies a recipe as its [search] says, measures each through the line, and explains the point that it "
        "chooses. Stopped or killed, it goes on where it was. Nothing is published unless --publish is given.",
    )
    command.add_argument(
        "--study", type=Path, help="SQLite file (default: in the workspace, by the recipe's name)"
    )
    command.add_argument(
        "--out", type=Path, default=Path("search.html"), help="the page (default: %(default)s)"
    )
    command.add_argument("--trials", type=int, help="instead of search.trials")
    command.add_argument(
        "--publish",
        action="store_true",
        help="build the chosen point with the recipe's own gate and publish it",
    )
    command.set_defaults(run=_search)


def _compare(arguments: argparse.Namespace, progress: Progress) -> int:
    import msgspec

    from build_engines.compare.compare import compare_versions
    from build_engines.compare.limits import CompareLimits
    from build_engines.compare.page import comparison_html
    from build_engines.compare.versions import find_version

    try:
        sizes = tuple(int(one) for one in arguments.batch_sizes.split(",") if one.strip())
        limits = CompareLimits(
            metric=arguments.metric,
            max_loss=arguments.max_loss,
            max_points=arguments.max_points,
            max_slice_loss=arguments.max_slice_loss,
            min_speedup=arguments.min_speedup,
            batch_sizes=sizes,
            rounds=arguments.rounds,
            examples=arguments.examples,
            rate_per_s=arguments.rate,
            seed=arguments.seed,
        )
    except ValueError as error:
        raise BuildError(f"compare: {error}") from error
    a, b = (find_version(one, arguments.repository) for one in (arguments.a, arguments.b))
    found = compare_versions(a, b, limits, progress)
    _write(arguments.out, comparison_html(found).encode())
    if arguments.json is not None:
        _write(arguments.json, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    print(f"{found.b.name} against {found.a.name}: {found.verdict}")
    for reason in found.reasons:
        print(f"  - {reason}")
    progress.say(f"page: {arguments.out}")
    worse = found.verdict == "regression" or (arguments.strict and found.verdict == "undecided")
    return EXIT_REGRESSION if worse else 0


def _search(arguments: argparse.Namespace, progress: Progress) -> int:
    from build_engines.search.command import run_search

    return run_search(arguments, progress)


def _keys(arguments: argparse.Namespace, progress: Progress) -> int:
    from build_engines.signing import new_keys

    public, name = new_keys(arguments.file, comment=arguments.comment)
    print(f"private key: {arguments.file} (recipes: publish.signing_key); public key {name}: {public}")
    print(f"servers that are to believe nobody else: VITRINE_TRUSTED_KEYS={public}")
    return 0


def _sign(arguments: argparse.Namespace, progress: Progress) -> int:
    from build_engines.signing import releases_for
    from server.artifacts.repository import current_version

    version = arguments.version or current_version(arguments.repository, arguments.model)
    releases = releases_for(arguments.repository, keep=1, signing_key=arguments.key)
    releases.resign(arguments.model, version)
    print(f"{arguments.model} version {version}: signed")
    return 0


def _sbom(arguments: argparse.Namespace, progress: Progress) -> int:
    from build_engines.sbom import runtime_sbom

    data = runtime_sbom(extras=arguments.extra)
    if arguments.out is None:
        print(data.decode(), end="")
    else:
        _write(arguments.out, data)
    return 0


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise BuildError(f"{path}: cannot be written ({error.strerror}); name another file") from error
