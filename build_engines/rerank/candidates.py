"""Stage 2 of a re-ranker: ask the published first stage, as the server would, what it recommends in every case.

Cases to learn from are the split's validation (what came after the events that the first stage was trained on), cases to judge by
are the gate's, which come later still for every shopper, or for everybody where the split is by time. A first stage that was built
from another log or divided it otherwise has seen what it would be judged by, and is refused.

Suffixes: C cases, R candidates of one case.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from build_engines.data.splits import Cases
from build_engines.errors import BuildError
from build_engines.own_model.rows import load_rows, save_rows
from build_engines.ranker import ServedRanker
from build_engines.rerank.recipe_parts import CandidatesPart
from build_engines.rerank.records import CandidatesRecord
from build_engines.shop_files import read_shop
from build_engines.stage import Work
from build_engines.states import Loaded
from server.artifacts.manifest import Manifest
from server.artifacts.repository import open_version

TRAIN, GATE = "train", "gate"
CHUNK = 512  # cases between two reports of progress


def lists_file(what: str) -> str:
    """Where the lists of one kind lie: ``rows_CR`` (0: none), ``scores_CR``, ``users_C``, ``targets_C``."""
    return f"{what}.npz"


def run(loaded: Loaded, part: CandidatesPart, work: Work) -> CandidatesRecord:
    """Ask for every case.

    Raises:
        BuildError: the first stage is no recommender, gives too few items, or was built from other events.
        ArtifactError: it cannot be opened.
    """
    opened = open_version(part.repository / part.first.model / part.version)
    _refuse_other(opened.manifest, loaded, part)
    shop = read_shop(loaded.output.folder)
    split = shop.split(loaded.record.split)
    ranker = ServedRanker(opened)
    if ranker.loaded.runner.catalogue.index.ids[1:] != shop.catalogue.item_ids:
        raise BuildError(
            f"first_stage: {part.first.model} has other items than this log; build it from this log"
        )
    cases = {TRAIN: split.validation, GATE: split.gate}
    found: dict[str, int] = {}
    for what, some in cases.items():
        found[what] = _ask(ranker, some, what, part.first.candidates, work)
    notes = tuple(
        f"{what}: the right item is among {part.first.candidates} candidates in {found[what]} of {len(some)} cases"
        for what, some in cases.items()
    )
    for note in notes:
        work.progress.say(f"  {note}")
    if not all(found.values()):
        raise BuildError(
            "first_stage: the right item is never among its candidates; raise first_stage.candidates"
        )
    return CandidatesRecord(
        first_model=part.first.model,
        first_version=part.version,
        candidates=part.first.candidates,
        cases={what: len(some) for what, some in cases.items()},
        found=found,
        notes=notes,
    )


def read_lists(folder: Path, what: str) -> dict[str, npt.NDArray[Any]]:
    """Lists that ``run`` wrote; see ``lists_file``."""
    return load_rows(folder / lists_file(what))


def _ask(ranker: ServedRanker, cases: Cases, what: str, candidates: int, work: Work) -> int:
    rows, scores = [], []
    for start in range(0, len(cases), CHUNK):
        work.progress.step(f"asking the first stage, {what}", start, len(cases))
        some = cases.histories.slice(start, start + CHUNK)
        rows_CR, scores_CR = ranker.top_k(some, candidates)
        rows.append(rows_CR)
        scores.append(scores_CR)
    work.progress.step(f"asking the first stage, {what}", len(cases), len(cases))
    rows_CR = np.concatenate(rows)
    save_rows(
        work.folder / lists_file(what),
        {
            "rows_CR": rows_CR,
            "scores_CR": np.where(rows_CR > 0, np.concatenate(scores), 0).astype(np.float32),
            "users_C": cases.users_C,
            "targets_C": cases.targets_C,
        },
    )
    return int((rows_CR == cases.targets_C[:, None]).any(axis=1).sum())


def _refuse_other(manifest: Manifest, loaded: Loaded, part: CandidatesPart) -> None:
    where = f"first_stage: {part.first.model} version {part.version}"
    if manifest.task != "recommendation":
        raise BuildError(f"{where} is of task {manifest.task!r}; name a recommender")
    most = manifest.limits["max_k"]
    if part.first.candidates > most:
        raise BuildError(
            f"{where} gives {most} items at most, first_stage.candidates is {part.first.candidates}; lower it, or build the "
            f"recommender with export.max_k = {part.first.candidates}"
        )
    other = sorted(
        name for name, digest in loaded.record.sources.items() if manifest.provenance.data.get(name) != digest
    )
    if other:
        raise BuildError(
            f"{where} was built from another {other[0]}; give [data] the log that it was built from"
        )
    theirs = part.split
    if theirs is not None and theirs != msgspec.to_builtins(asdict(loaded.record.split)):
        raise BuildError(
            f"{where} divided the log otherwise ({theirs}): it may have been trained on what the re-ranker is judged by; give "
            "[split] the first stage's own"
        )
