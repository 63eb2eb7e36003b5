"""The sample shop: believable, the same every time, and worth learning from."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from build_engines.data import sample_text_en as en
from build_engines.data import sample_text_zh as zh
from build_engines.data.catalogue_match import match_catalogue
from build_engines.data.interactions import load_interactions
from build_engines.data.items import Catalogue, load_catalogue
from build_engines.data.log_report import LogReport
from build_engines.data.sample_shop import SampleShopSize, ensure_sample_shop, write_sample_shop
from build_engines.data.sample_taxonomy import (
    BRANDS,
    CATEGORIES,
    COLOURS,
    FEATURES_PER_CATEGORY,
    KINDS,
    MISSIONS,
)
from build_engines.data.sequences import Sequences
from build_engines.data.splits import Split, split_interactions
from build_engines.evaluation.evaluate import Evaluation, compare, evaluate_scores

SMALL = SampleShopSize(seed=3, num_products=240, num_users=60)
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shop:
    report: LogReport
    catalogue: Catalogue
    split: Split


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    paths = write_sample_shop(tmp_path_factory.mktemp("shop"))
    interactions, report = load_interactions(paths.clicks)
    interactions, catalogue, _ = match_catalogue(interactions, load_catalogue(paths.items)[0])
    return Shop(report, catalogue, split_interactions(interactions))


@pytest.fixture(scope="module")
def transitions(shop: Shop) -> Floats:
    """How often each item followed each other one directly, in training."""
    counts = np.zeros((shop.split.num_items + 1,) * 2, np.float32)
    for history in shop.split.train:
        np.add.at(counts, (history[:-1], history[1:]), 1.0)
    return counts


@pytest.fixture(scope="module")
def first_order(shop: Shop, transitions: Floats) -> Evaluation:
    prior = shop.split.train_counts_N1() * 1e-6
    return evaluated(shop, "first order", lambda last, _: transitions[last] + prior)


def evaluated(shop: Shop, name: str, score: object) -> Evaluation:
    def scores(histories: Sequences) -> Floats:
        return np.stack([score(history[-1], history) for history in histories]).astype(np.float32)  # type: ignore[operator]

    return evaluate_scores(name, scores, shop.split.test, shop.split.train_counts_N1())


def test_the_shop_is_of_a_believable_size(shop: Shop) -> None:
    """Thousands of products and shoppers, about ten events each, a long tail, and items that nobody has clicked."""
    counts = np.sort(shop.split.train_counts_N1()[1:])[::-1]

    assert len(shop.catalogue) == 3000
    assert shop.report.users == 10_000
    assert 9.0 <= shop.report.events / shop.report.users <= 12.0
    assert (shop.report.rows_bad, shop.report.rows_duplicate, shop.report.rows_out_of_order) == (0, 0, 0)
    assert 0.5 < counts[:600].sum() / counts.sum() < 0.9
    assert 30 < (counts == 0).sum() < 600
    assert 0.9 < shop.catalogue.frame["in_stock"].mean() < 0.99  # type: ignore[operator]


def test_transitions_beat_popularity_by_a_wide_margin(shop: Shop, first_order: Evaluation) -> None:
    """The last click says much: counting what followed it more than doubles popularity's NDCG."""
    popularity = evaluated(shop, "popularity", lambda *_: shop.split.train_counts_N1())

    assert first_order.metrics["ndcg@10"] > 2 * popularity.metrics["ndcg@10"]
    assert compare(popularity, first_order, limit=0.0)["all"].passed


def test_a_shoppers_taste_says_more_than_their_last_click(
    shop: Shop, transitions: Floats, first_order: Evaluation
) -> None:
    """Weighting transitions by the brands and colours of the whole history helps, and surely so: there is more to learn."""
    brands = codes(shop.catalogue.frame["brand"].to_list())
    colours = codes([str(one["colour"]) for one in shop.catalogue.attributes])
    prior = shop.split.train_counts_N1() * 1e-6

    def score(last: int, history: npt.NDArray[np.int32]) -> Floats:
        value = transitions[last] + prior
        for code in (brands, colours):
            share = np.bincount(code[history], minlength=code.max() + 1) + 1.0
            value = value * (share / share.sum())[code] ** 0.5
        return np.asarray(value, np.float32)

    taste = evaluated(shop, "taste", score)

    assert taste.metrics["ndcg@10"] > 1.08 * first_order.metrics["ndcg@10"]
    assert compare(first_order, taste, limit=0.0)["all"].passed


def codes(values: list[str]) -> npt.NDArray[np.int64]:
    known = {value: code for code, value in enumerate(dict.fromkeys(["", *values]))}
    return np.array([0, *(known[value] for value in values)])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_shop(tmp_path: Path) -> None:
    """A figure measured on the sample shop can be measured again anywhere."""
    one = write_sample_shop(tmp_path / "one", SMALL)
    two = write_sample_shop(tmp_path / "two", SMALL)
    other = write_sample_shop(tmp_path / "other", SampleShopSize(seed=4, num_products=240, num_users=60))

    assert one.items.read_bytes() == two.items.read_bytes()
    assert one.clicks.read_bytes() == two.clicks.read_bytes()
    assert one.clicks.read_bytes() != other.clicks.read_bytes()
    assert one.items.read_bytes() != other.items.read_bytes()


def test_a_whole_shop_is_left_alone_and_a_damaged_one_made_again(tmp_path: Path) -> None:
    """The second start is instant; a truncated or stale folder is repaired; other people's files stay."""
    shop = ensure_sample_shop(tmp_path, SMALL)
    (tmp_path / "pages.jsonl").write_text("mine")
    good, stamp = shop.clicks.read_bytes(), shop.clicks.stat().st_mtime_ns

    ensure_sample_shop(tmp_path, SMALL)
    untouched = shop.clicks.stat().st_mtime_ns
    shop.clicks.write_bytes(good[:100])
    ensure_sample_shop(tmp_path, SMALL)
    repaired = shop.clicks.read_bytes()
    shop.description.write_text("[]")
    ensure_sample_shop(tmp_path, SMALL)

    assert untouched == stamp
    assert repaired == good
    assert json.loads(shop.description.read_text())["made_by"]["seed"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clicks.csv",
        "items.jsonl",
        "pages.jsonl",
        "shop.json",
    ]


def test_a_shop_that_is_half_written_is_not_called_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills between the two files leaves no shop.json, and the next call starts over."""
    ensure_sample_shop(tmp_path, SMALL)
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("build_engines.data.sample_shop.os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_sample_shop(tmp_path, SMALL)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["clicks.csv", "items.jsonl"]
    assert ensure_sample_shop(tmp_path, SMALL).description.is_file()


def test_both_languages_have_a_word_for_everything() -> None:
    """A kind, material, colour or measure without a word in one language cannot be added."""
    materials = {material for kind in KINDS.values() for material in kind.materials}
    for words in (en, zh):
        assert set(words.CATEGORY) == set(words.FEATURES) == set(CATEGORIES)
        assert set(words.KIND) == set(KINDS)
        assert set(words.MATERIAL) == materials
        assert set(words.COLOUR) == set(COLOURS)
        assert set(words.MEASURE) == {kind.measure for kind in KINDS.values()}
        assert {len(features) for features in words.FEATURES.values()} == {FEATURES_PER_CATEGORY}
    assert {kind for mission in MISSIONS for kind in mission} == set(KINDS)
    assert max(Counter(BRANDS).values()) == 1


def test_every_product_is_described_in_both_languages_from_its_own_record(shop: Shop) -> None:
    """Titles are distinct; every number in a text stands in the record; Chinese texts are Chinese."""
    frame = shop.catalogue.frame
    titles = frame["title"].to_list()

    assert len(set(titles)) == len(titles)
    assert all(item.startswith("sku-") for item in shop.catalogue.item_ids)
    for title, description, one in zip(titles, frame["description"], shop.catalogue.attributes, strict=True):
        facts = f"{title} {one['warranty_months']}"
        numbers = r"\d+(?:\.\d+)?"
        assert set(re.findall(numbers, description)) <= set(re.findall(numbers, facts))
        assert set(re.findall(numbers, one["description_zh"])) <= set(re.findall(numbers, facts))
        assert all(feature in description for feature in one["features"])
        assert re.search(r"[\u4e00-\u9fff]{2}", one["title_zh"])
        assert re.search(r"[\u4e00-\u9fff]{4}", one["description_zh"])


@pytest.mark.parametrize("bad", [{"seed": -1}, {"num_products": 59}, {"num_users": 0}])
def test_a_size_out_of_range_names_its_key(bad: dict[str, int]) -> None:
    """Every key is checked on construction."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        SampleShopSize(**bad)
