"""The search itself: ask, measure cheaply, tell; then let the better ones climb, rung by rung, to the full measurement.

Everything that was measured is in the study's SQLite file the moment it is known, keyed by what was measured. So a search
that was stopped or killed goes on where it was, what two candidates share is measured once, and the file is all of the
result. The sampler learns from the cheapest rung alone: figures of two rungs are not of one kind.

Optuna proposes (multi-objective TPE with constraints); what is taken is decided in ``choose``.

Source:
    Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", 2019.
    Ozaki et al., "Multiobjective Tree-structured Parzen Estimator", 2022.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from build_engines.errors import BuildError, WorkspaceError
from build_engines.progress import Progress
from build_engines.search.choose import WORST, going_on, violations
from build_engines.search.outcome import Outcome
from build_engines.search.part import Rung, SearchPart
from build_engines.search.space import suggested_sets
from server.artifacts.errors import RepositoryBusy
from server.artifacts.lock import exclusive

if TYPE_CHECKING:
    import optuna

STUDY = "search"
_IDENTITY = "identity"


class Measures(Protocol):
    """What can measure a candidate: the line, or a test's own."""

    def reference(self, number: int) -> Outcome:
        """The recipe as it stands, uncompressed; the ``number``-th time."""
        ...

    def measure(self, sets: Sequence[str], rung: Rung, place: int) -> Outcome:
        """A candidate on a rung. What cannot be built is told in ``Outcome.refused`` and not raised."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What was found.

    Attributes:
        reference: each time that it was measured.
        rungs: outcomes of each rung, the last in full.
        trials: candidates that were looked at.
        resumed: of those, how many the file knew already.
    """

    reference: tuple[Outcome, ...]
    rungs: tuple[tuple[Outcome, ...], ...]
    trials: int
    resumed: int


def run_study(part: SearchPart, line: Measures, path: Path, *, identity: str, progress: Progress) -> Searched:
    """Search, or go on searching.

    Args:
        part: what the recipe says.
        line: measures.
        path: SQLite file; made when missing.
        identity: of everything that figures depend on; a file of another one is refused.
        progress: what the person sees.

    Raises:
        BuildError: optuna is missing, another search is at this file, or the file is of another recipe.
        WorkspaceError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(path.with_name(f".{path.name}.lock"), wait_s=0.0):
            return _Driver(part, line, _opened(path, part, identity), progress).run()
    except RepositoryBusy as error:
        raise BuildError(
            f"{path}: another search is at work on it ({error.holder}); let it finish, or name another --study"
        ) from error
    except OSError as error:
        raise WorkspaceError(
            f"{path}: {error.strerror or error}; free some space or check its permissions, and run this again, what was "
            "measured before is kept"
        ) from error


def _opened(path: Path, part: SearchPart, identity: str) -> optuna.Study:
    try:
        import optuna
        from sqlalchemy.exc import DatabaseError
    except ModuleNotFoundError as error:
        raise BuildError("search needs optuna; install vitrine[search]") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path}", study_name=STUDY, load_if_exists=True, directions=["minimize"] * 4
        )
    except DatabaseError as error:
        raise WorkspaceError(
            f"{path}: is no study, or cannot be written ({error.orig}); name another --study"
        ) from error
    known = study.user_attrs.get(_IDENTITY)
    if known not in (None, identity):
        raise BuildError(
            f"{path}: holds a search of another recipe, of other data or of another version of this code; its figures cannot "
            "be compared with new ones; name another --study, or remove the file"
        )
    # A sampler's state is not in the file: each time it begins with another seed, or it would draw what it drew.
    study.sampler = optuna.samplers.TPESampler(
        seed=(part.seed + 7919 * len(study.trials)) % 2**32,
        n_startup_trials=part.startup_trials,
        multivariate=True,
        group=True,
    )
    if known is None:
        study.set_user_attr(_IDENTITY, identity)
    return study


class _Driver:
    def __init__(self, part: SearchPart, line: Measures, study: optuna.Study, progress: Progress) -> None:
        self._part, self._line, self._study, self._progress = part, line, study, progress
        self._kept: dict[str, str] = dict(study.user_attrs)
        self._rungs = part.all_rungs()
        self._resumed = 0

    def run(self) -> Searched:
        """Everything, in order; what is in the file is not done again."""
        reference = tuple(
            self._once(f"reference.{number}", lambda number=number: self._line.reference(number))  # type: ignore[misc]
            for number in range(self._part.reference_runs)
        )
        if not reference[0].measured:
            raise BuildError(
                f"search: the recipe as it stands cannot be measured: {reference[0].refused}; run it alone first"
            )
        first = self._first_rung()
        rungs = [first]
        for place, rung in enumerate(self._rungs[1:], 1):
            better = going_on(rungs[-1], self._part.objective, self._rungs[place - 1].keep)
            climbed = []
            for done, one in enumerate(better):
                self._progress.step(
                    f"search, look {place + 1} of {len(self._rungs)}, candidate", done, len(better)
                )
                climbed.append(self._measured(one.sets, rung, place))
            self._progress.step(
                f"search, look {place + 1} of {len(self._rungs)}, candidate", len(better), len(better)
            )
            rungs.append(climbed)
        return Searched(
            reference=reference,
            rungs=tuple(tuple(one) for one in rungs),
            trials=self._complete(),
            resumed=self._resumed,
        )

    def _first_rung(self) -> list[Outcome]:
        import optuna

        self._enqueue_interrupted()
        self._resumed = done = self._complete()
        what = f"search, look 1 of {len(self._rungs)}, candidate"
        while done < self._part.trials:
            self._progress.step(what, done, self._part.trials, self._note())
            trial = self._study.ask()
            found = self._measured(suggested_sets(trial, self._part), self._rungs[0], 0)
            for name, missed in violations(found, self._part.objective, full=len(self._rungs) == 1).items():
                trial.set_constraint(name, missed)
            trial.set_user_attr("sets", list(found.sets))
            self._study.tell(trial, [min(value, WORST) for value in found.objectives])
            done += 1
        self._progress.step(what, done, self._part.trials, self._note())
        complete = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        sets = dict.fromkeys(tuple(trial.user_attrs["sets"]) for trial in complete)
        return [self._measured(one, self._rungs[0], 0) for one in sets]

    def _complete(self) -> int:
        import optuna

        return len(self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)))

    def _enqueue_interrupted(self) -> None:
        # Whoever asked for these was killed: nobody else is at this file. They are asked again, with the same values.
        import optuna

        for trial in self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                self._study.enqueue_trial(trial.params)

    def _measured(self, sets: Sequence[str], rung: Rung, place: int) -> Outcome:
        name = hashlib.sha256(msgspec.json.encode([list(sets), msgspec.to_builtins(rung)])).hexdigest()[:24]
        return self._once(f"outcome.{place}.{name}", lambda: self._line.measure(sets, rung, place))

    def _once(self, key: str, make: Callable[[], Outcome]) -> Outcome:
        kept = self._kept.get(key)
        if kept is not None:
            return msgspec.json.decode(kept, type=Outcome)
        found = make()
        text = msgspec.json.encode(found).decode()
        try:
            self._study.set_user_attr(key, text)
        except Exception as error:  # of SQLAlchemy and sqlite3: each wraps the other's
            if _is_database(error):
                raise WorkspaceError(
                    f"the study cannot be written ({str(error).splitlines()[0]}); free some space and run this again, what was measured before "
                    "is kept"
                ) from error
            raise
        self._kept[key] = text
        return found

    def _note(self) -> str:
        return self._part.objective.take.replace("_", " ")


def _is_database(error: Any) -> bool:
    import sqlite3

    from sqlalchemy.exc import SQLAlchemyError

    cause = error
    while cause is not None:
        if isinstance(cause, SQLAlchemyError | sqlite3.Error):
            return True
        cause = cause.__cause__
    return False
