"""Stage 1: a log and an item file (or the sample shop) in one row space, everything odd counted and said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from build_engines.data.catalogue_match import CatalogueMatch, bare_catalogue, match_catalogue
from build_engines.data.errors import DataError
from build_engines.data.interactions import Interactions, load_interactions
from build_engines.data.items import Catalogue, load_catalogue
from build_engines.data.log_report import LogReport
from build_engines.data.sample_shop import GENERATOR_VERSION, ensure_sample_shop
from build_engines.data.splits import SplitRule
from build_engines.errors import RecipeError
from build_engines.recipe_parts import DataPart
from build_engines.records import LoadRecord
from build_engines.shop_files import Shop, save_shop
from build_engines.stage import Work
from build_engines.states import Start
from server.artifacts.repository import file_sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPart:
    """What this stage gets: where the data is, and how it will be divided."""

    data: DataPart
    split: SplitRule


def sources(part: LoadPart) -> Mapping[str, str]:
    """SHA-256 of the data files; a file that is not there has none (loading says so better)."""
    if part.data.sample_shop is not None:
        return {"generator": str(GENERATOR_VERSION)}
    paths = [path for path in (part.data.log, part.data.items) if path is not None]
    return {path.name: file_sha256(path) for path in paths if path.is_file()}


def run(start: Start, part: LoadPart, work: Work) -> LoadRecord:
    """Load, match and check that somebody can be tested.

    Raises:
        DataError: the data cannot be used; names file, line and what to do.
        RecipeError: a setting does not fit the files.
    """
    log_path, items_path = part.data.log, part.data.items
    if part.data.sample_shop is not None:
        work.progress.say(f"  generating {part.data.sample_shop.num_products} products and their clicks")
        shop = ensure_sample_shop(work.folder / "shop", part.data.sample_shop)
        log_path, items_path = shop.clicks, shop.items
    assert log_path is not None, "DataPart has one source"
    try:
        interactions, report = load_interactions(log_path, part.data.format, part.data.rows)
        interactions, catalogue, notes = _catalogue(part.data, interactions, items_path)
    except DataError:
        raise
    except ValueError as error:  # a setting that does not fit the files
        raise RecipeError(f"data: {error}") from error
    whole = Shop(interactions=interactions, catalogue=catalogue)
    split = whole.split(part.split)
    save_shop(work.folder, whole)
    notes = [*_log_notes(report), *notes]
    for note in notes:
        work.progress.say(f"  {note}")
    return LoadRecord(
        users=interactions.num_users,
        items=interactions.num_items,
        events=interactions.num_events,
        tested_users=len(split.test),
        gate_users=len(split.gate),
        calibration_users=len(split.calibration),
        sources={path.name: file_sha256(path) for path in (log_path, items_path) if path is not None},
        split=part.split,
        notes=tuple(notes),
    )


def _catalogue(
    part: DataPart, interactions: Interactions, items_path: Path | None
) -> tuple[Interactions, Catalogue, list[str]]:
    if items_path is None:
        return interactions, bare_catalogue(interactions), ["no item file: items have ids only"]
    catalogue, found = load_catalogue(items_path, columns=part.item_columns, policy=part.rows)
    interactions, catalogue, match = match_catalogue(
        interactions, catalogue, on_unlisted=part.on_unlisted, max_unlisted_share=part.max_unlisted_share
    )
    notes = [f"{items_path.name}: {found.items} items, {found.without_price} without a price"]
    if found.rows_bad:
        notes.append(
            f"{items_path.name}: {found.rows_bad} of {found.rows} records left out: they cannot be used"
        )
    return interactions, catalogue, notes + _match_notes(match)


def _match_notes(match: CatalogueMatch) -> list[str]:
    notes = []
    if match.cold_items:
        notes.append(f"{match.cold_items} of {match.items} items were never clicked")
    if match.unlisted_items:
        notes.append(
            f"{match.unlisted_items} clicked items ({match.unlisted_events} of {match.events} events) have no record: "
            "kept in histories, never recommended"
        )
    return notes


def _log_notes(report: LogReport) -> list[str]:
    name = Path(report.path).name
    notes = [f"{name}: {report.events} events of {report.users} users on {report.items} items"]
    if report.rows_bad:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in report.reasons.items())
        notes.append(f"{name}: {report.rows_bad} of {report.rows} rows left out ({reasons})")
    if report.rows_out_of_order:
        notes.append(
            f"{name}: {report.rows_out_of_order} rows were out of order; sorted by time within their user"
        )
    if report.rows_duplicate:
        notes.append(f"{name}: {report.rows_duplicate} rows were there twice; one of each stays")
    if report.users_single_event:
        notes.append(f"{name}: {report.users_single_event} users with one event: counted, never tested")
    return notes
