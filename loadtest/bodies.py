"""What is asked: request bodies from a file, or histories drawn from the shop's own items.

Histories repeat nothing that a cache could live on: many distinct ones are prepared before the run, their
lengths are geometric (most shoppers have seen a few items, some many) and their items follow a Zipf law over
a seeded shuffle of the catalogue, since its order says nothing about what sells.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtest.client import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryShape:
    """How histories are drawn.

    Attributes:
        distinct: how many different bodies are prepared (>= 1).
        mean_length: mean history length before it is cut, in items (>= 1).
        max_length: longest history (>= 1).
        zipf: exponent of the items' popularity; 0 draws all alike (>= 0).
        k: how many items are asked for.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    distinct: int = 20_000
    mean_length: float = 8.0
    max_length: int = 50
    zipf: float = 0.9
    k: int = 10

    def __post_init__(self) -> None:
        for name, least in (("distinct", 1), ("mean_length", 1), ("max_length", 1), ("zipf", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be {least} or more")


def draw_histories(items: Sequence[str], shape: HistoryShape, rng: np.random.Generator) -> list[list[str]]:
    """Draw ``shape.distinct`` histories of 1..``shape.max_length`` items.

    Raises:
        ValueError: there are no items.
    """
    if not items:
        raise ValueError("no item ids to draw histories from")
    lengths = np.minimum(rng.geometric(1 / shape.mean_length, size=shape.distinct), shape.max_length)
    weights = np.arange(1, len(items) + 1, dtype=np.float64) ** -shape.zipf
    cumulative = np.cumsum(weights / weights.sum())
    ranks = np.minimum(np.searchsorted(cumulative, rng.random(int(lengths.sum()))), len(items) - 1)
    rows = rng.permutation(len(items))[ranks].tolist()
    ends = np.cumsum(lengths).tolist()
    return [
        [items[row] for row in rows[end - length : end]]
        for end, length in zip(ends, lengths.tolist(), strict=True)
    ]


def recommendation_bodies(
    items: Sequence[str], shape: HistoryShape, rng: np.random.Generator, *, deadline_ms: float | None = None
) -> list[bytes]:
    """JSON bodies of ``POST /v1/recommendations`` with drawn histories."""
    extra = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
    return [
        json.dumps(
            {"history": history, "k": shape.k, **extra}, separators=(",", ":"), ensure_ascii=False
        ).encode()
        for history in draw_histories(items, shape, rng)
    ]


def bodies_from_file(path: Path) -> list[bytes]:
    """Read a file of one JSON body a line; empty lines are passed over.

    Raises:
        ValueError: a line is not a JSON object, or there is none; names file and line.
    """
    bodies = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text:
                continue
            try:
                if not isinstance(json.loads(text), dict):
                    raise ValueError("not an object")
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {text[:60]!r} is not a JSON object: {error}") from error
            bodies.append(text)
    if not bodies:
        raise ValueError(f"{path}: no bodies in it")
    return bodies


def item_ids_from_repository(repository: Path, model: str) -> list[str]:
    """The item ids of a model's current version: ``<model>/CURRENT`` names it, ``item_ids.json`` lists them.

    Raises:
        ValueError: a file is missing or not of that form; says which and what to do.
    """
    folder = repository / model
    try:
        version = (folder / "CURRENT").read_text(encoding="utf-8").strip()
        path = folder / version / "item_ids.json"
        ids = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{error.filename} is not there: publish {model!r} into {repository} first"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    return _checked(ids, str(path))


def item_ids_from_server(target: Target, model: str, *, timeout_s: float = 5.0) -> list[str]:
    """The ``sample_items`` that an HTTP server lists for a model under ``GET /v1/models``.

    Raises:
        ValueError: it cannot be asked or lists none; says what to give instead.
    """
    where = f"http://{target.host}:{target.port}/v1/models"
    instead = "give --repository, --bodies or --synthetic-items"
    connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_s)
    try:
        connection.request("GET", "/v1/models")
        response = connection.getresponse()
        payload = response.read()
        if response.status != 200:
            raise ValueError(f"{where} answers {response.status}; {instead}")
        found = json.loads(payload)["data"]
        for entry in found:
            if entry["id"] == model and entry.get("sample_items"):
                return _checked(entry["sample_items"], where)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: {error}; {instead}") from error
    finally:
        connection.close()
    raise ValueError(f"{where} lists no sample_items for {model!r}; {instead}")


def _checked(ids: object, name: str) -> list[str]:
    if not isinstance(ids, list) or not ids or not all(isinstance(item, str) for item in ids):
        raise ValueError(f"{name}: a list of item ids (strings, at least one) was expected")
    return ids
