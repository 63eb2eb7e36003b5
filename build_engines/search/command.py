"""``python -m build_engines search``: from a recipe to a page, a table, and, where it is asked for, a published version."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import msgspec

from build_engines.errors import BuildError
from build_engines.fingerprint import digest_of
from build_engines.hardware import code_version, describe_hardware
from build_engines.progress import Progress
from build_engines.recipe_kind import recipe_kind
from build_engines.search.choose import chosen, explained
from build_engines.search.measured_line import MeasuredLine, family_of
from build_engines.search.outcome import Outcome
from build_engines.search.page import build_line, noise_text, search_html
from build_engines.search.part import SearchPart, load_search
from build_engines.search.study import run_study
from build_engines.workspace import Workspace

EXIT_NONE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quiet:
    """Progress of the search alone: of thirty builds nobody reads the lines."""

    shown: Progress

    def say(self, text: str) -> None:
        """Only what the search itself has to say."""
        if text.startswith("search:"):
            self.shown.say(text)

    def step(self, what: str, done: float, total: float, note: str = "") -> None:
        """Only the search's own bar."""
        if what.startswith("search"):
            self.shown.step(what, done, total, note)


def run_search(arguments: argparse.Namespace, progress: Progress) -> int:
    """Search, write the page, say what is taken.

    Raises:
        BuildError: the recipe, the study or the data cannot be used; says what to do.
    """
    part, file = load_search(arguments.recipe)
    if arguments.trials is not None:
        try:
            part = msgspec.structs.replace(part, trials=arguments.trials)
        except ValueError as error:
            raise BuildError(f"--trials: {error}") from error
    kind = recipe_kind(file)
    quiet = _Quiet(shown=progress)
    workspace = Workspace(root=arguments.workspace, progress=quiet)
    study = arguments.study or arguments.workspace / "search" / f"{file.stem}.sqlite"
    with workspace.scratch(f"search-{file.stem}") as scratch:
        line = MeasuredLine(file, arguments.set, kind, part, workspace, scratch)
        recipe = family_of(kind).load(file, arguments.set)
        found = run_study(part, line, study, identity=_identity(recipe.text, part), progress=quiet)
    _write(arguments.out, search_html(recipe.model.name, part, found, describe_hardware(), recipe.text))
    taken = chosen(found.rungs[-1], part.objective)
    print(explained(found.rungs[-1], found.reference[0], part.objective))
    print(noise_text(part, found))
    progress.say(f"page: {arguments.out}; study: {study}")
    if taken is None:
        return EXIT_NONE
    print(f"python -m build_engines run {arguments.recipe} {build_line(taken)}")
    if arguments.publish:
        _publish(arguments, progress, taken)
    return 0


def _identity(text: str, part: SearchPart) -> str:
    # What figures depend on: the recipe with its settings, this code; not how many candidates, nor what is taken of them.
    same = msgspec.structs.replace(part, trials=1, startup_trials=1, seed=part.seed)
    space = msgspec.to_builtins(msgspec.structs.replace(same, objective=_measured_of(part)))
    return digest_of([_without_search(text), space, code_version()])


def _measured_of(part: SearchPart) -> object:
    objective = part.objective
    return type(objective)(at_requests_per_s=objective.at_requests_per_s, batch_sizes=objective.batch_sizes)


def _without_search(text: str) -> list[str]:
    # The section itself is in the identity by its meaning; more trials in the file must not make old ones strange.
    kept, inside = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            inside = line.lstrip().lstrip("[").split("]")[0].split(".")[0].strip() == "search"
        if not inside or line.startswith("# --set"):
            kept.append(line)
    return kept


def _publish(arguments: argparse.Namespace, progress: Progress, taken: Outcome) -> None:
    from build_engines.__main__ import main

    progress.say("search: building what is taken, through the recipe's own gate")
    typed = [
        "run",
        str(arguments.recipe),
        "--workspace",
        str(arguments.workspace),
        "--repository",
        str(arguments.repository),
    ]
    for setting in (*arguments.set, *taken.sets):
        typed += ["--set", setting]
    if arguments.plain:
        typed.append("--plain")
    code = main(typed)
    if code != 0:
        raise BuildError(
            f"search: what is taken was not published (exit {code}); the recipe's gate has its own limits"
        )


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BuildError(
            f"{path}: cannot be written ({error.strerror}); name another file with --out"
        ) from error
