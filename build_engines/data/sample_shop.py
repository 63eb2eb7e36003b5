"""A shop to try everything on: a believable catalogue and clicks, the same for the same seed, in seconds.

A folder of plain files, as a shop would export them, described by ``shop.json``.  Each file is
written aside and renamed, ``shop.json`` last: a folder that has it is whole, and ``ensure_sample_shop``
makes it again only when something is missing or asked differently.  Other files (pages, copy) are other writers' to add.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from build_engines.data.sample_catalogue import SampleProducts, make_products
from build_engines.data.sample_clicks import Click, make_clicks

GENERATOR_VERSION = 1  # raise it when the same seed gives other files
ITEMS, CLICKS, DESCRIPTION = "items.jsonl", "clicks.csv", "shop.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleShopSize:
    """What to generate.

    Attributes:
        seed: the only source of chance (>= 0).
        num_products: products in the catalogue (>= 60: one of each kind).
        num_users: shoppers (>= 1).

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    seed: int = 7
    num_products: int = 3000
    num_users: int = 10_000

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("num_products", 60), ("num_users", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; use {least} or more")


@dataclass(frozen=True, slots=True)
class SampleShop:
    """Where a sample shop's files are.

    Attributes:
        items: the catalogue, JSONL.
        clicks: the log, CSV (``user_id,item_id,timestamp`` in seconds).
        description: ``shop.json``: sizes, seed and hashes.
    """

    items: Path
    clicks: Path
    description: Path


def ensure_sample_shop(folder: Path, size: SampleShopSize | None = None) -> SampleShop:
    """The sample shop in ``folder``: as it stands if it is whole and of this size and version, else written anew.

    Raises:
        OSError: the folder cannot be written.
    """
    folder, size = Path(folder), size or SampleShopSize()
    shop = _paths(folder)
    try:
        written = json.loads(shop.description.read_text(encoding="utf-8"))
        same = written["made_by"] == _made_by(size)
        whole = all(_sha256(folder / name) == digest for name, digest in written["sha256"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return write_sample_shop(folder, size)
    return shop if same and whole else write_sample_shop(folder, size)


def write_sample_shop(folder: Path, size: SampleShopSize | None = None) -> SampleShop:
    """Generate a shop and write it; a reader sees each file old or new, never half.

    Args:
        folder: made where missing.
        size: what to generate.

    Raises:
        OSError: the folder cannot be written.
    """
    folder, size = Path(folder), size or SampleShopSize()
    products, clicks = make_sample_shop(size)
    folder.mkdir(parents=True, exist_ok=True)
    shop = _paths(folder)
    shop.description.unlink(missing_ok=True)  # from here until it is back, the folder is not whole
    _write(shop.items, (json.dumps(record, ensure_ascii=False) for record in products.records))
    ids = [record["item_id"] for record in products.records]
    rows = (f"{user},{ids[product]},{time_s}" for user, product, time_s in clicks)
    _write(shop.clicks, ("user_id,item_id,timestamp", *rows))
    hashes = {path.name: _sha256(path) for path in (shop.items, shop.clicks)}
    about = {"made_by": _made_by(size), "events": len(clicks), "sha256": hashes}
    _write(shop.description, [json.dumps(about, indent=2)])
    return shop


def make_sample_shop(size: SampleShopSize) -> tuple[SampleProducts, list[Click]]:
    """A shop in memory: its products, and its clicks in order of time."""
    products = make_products(np.random.default_rng([size.seed, 1]), size.num_products)
    return products, make_clicks(size.seed, products, size.num_users)


def _paths(folder: Path) -> SampleShop:
    return SampleShop(folder / ITEMS, folder / CLICKS, folder / DESCRIPTION)


def _made_by(size: SampleShopSize) -> dict[str, int]:
    return {"generator_version": GENERATOR_VERSION, **asdict(size)}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, lines: Iterable[str]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(line + "\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
