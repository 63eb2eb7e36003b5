"""Logs of clicks: every way in, every way to be wrong, and nothing lost without a count."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.data.bad_rows import BadRowPolicy
from build_engines.data.errors import DataError
from build_engines.data.interactions import Interactions, load_interactions
from build_engines.data.log_report import LogReport
from build_engines.data.log_rows import LogFormat
from build_engines.data.sequences import Sequences
from build_engines.data.timestamps import to_milliseconds

HEADER = "user_id,item_id,timestamp\n"
DROP = BadRowPolicy(on_bad_row="drop", max_bad_share=0.9)


def load(
    folder: Path, text: str | bytes, name: str = "log.csv", **how: object
) -> tuple[Interactions, LogReport]:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_interactions(path, **how)  # type: ignore[arg-type]


def histories(log: Interactions) -> dict[str, list[str]]:
    return {user: log.ids_of(rows) for user, rows in zip(log.users, log.sequences, strict=True)}


def test_a_csv_log_becomes_histories_in_time_order(tmp_path: Path) -> None:
    """Rows in any order come out oldest first per user, and the report says how many were not in order."""
    log, report = load(tmp_path, HEADER + "ann,x,30\nbob,y,5\nann,y,10\nann,z,20\n")

    assert histories(log) == {"ann": ["y", "z", "x"], "bob": ["y"]}
    assert log.timestamps_ms_E is not None
    assert log.timestamps_ms_E.tolist() == [10_000, 20_000, 30_000, 5_000]
    assert (report.rows_out_of_order, report.users_single_event, report.events) == (1, 1, 4)


def test_equal_times_keep_the_order_of_the_file(tmp_path: Path) -> None:
    """A log with one time per day still says what came first, by its rows."""
    log, _ = load(tmp_path, HEADER + "ann,z,1\nann,x,1\nann,y,1\n")

    assert histories(log) == {"ann": ["z", "x", "y"]}


def test_a_row_sent_twice_is_one_event(tmp_path: Path) -> None:
    """Rows equal in user, item and time are counted and kept once; a later click on the same item is another event."""
    log, report = load(tmp_path, HEADER + "ann,x,1\nann,y,2\nann,x,1\nann,x,3\n")

    assert histories(log) == {"ann": ["x", "y", "x"]}
    assert report.rows_duplicate == 1


def test_columns_may_have_other_names_and_company(tmp_path: Path) -> None:
    """A shop names its columns as it likes, in any order, with others beside them, quoted or not."""
    form = LogFormat(user_column="customer", item_column="sku", timestamp_column="at")
    text = '\ufeffat,page,sku,"customer"\r\n1,"a,b",s1,c1\r\n\r\n2,,"s""2",c1\r\n'
    log, _ = load(tmp_path, text, form=form)

    assert histories(log) == {"c1": ["s1", 's"2']}


def test_parquet_with_integer_ids_and_dates_reads_the_same(tmp_path: Path) -> None:
    """Integer ids are ids by their digits, ordered by value; dates are times."""
    day = datetime.datetime(2024, 1, 2)
    frame = pl.DataFrame({"user_id": [10, 9], "item_id": [100, 20], "timestamp": [day, day]})
    frame.write_parquet(tmp_path / "log.parquet")

    log, report = load_interactions(tmp_path / "log.parquet")

    assert (log.users, log.items) == (("9", "10"), ("20", "100"))
    assert report.first_ms == 1_704_153_600_000


def test_parquet_ids_that_are_no_ids_are_refused(tmp_path: Path) -> None:
    """A column of floats is a broken export: 7.0 and 7 would be two users."""
    pl.DataFrame({"user_id": [1.0], "item_id": [1], "timestamp": [1]}).write_parquet(tmp_path / "log.parquet")

    with pytest.raises(DataError, match=r"user_id.*Float64"):
        load_interactions(tmp_path / "log.parquet")


def test_a_user_a_line_is_a_log_without_times(tmp_path: Path) -> None:
    """The form of the public sets: order in the line is order in time, repeats stay."""
    log, report = load(tmp_path, "1 5 3 5\n2 3\n", name="log.txt")

    assert histories(log) == {"1": ["5", "3", "5"], "2": ["3"]}
    assert (log.timestamps_ms_E, report.timestamp_unit, report.events) == (None, "order", 4)


@pytest.mark.parametrize("text", ["", "\n\n", HEADER, HEADER + "\n"])
def test_an_empty_log_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    """No events: says so, and what to give instead."""
    with pytest.raises(DataError, match="the log is empty"):
        load(tmp_path, text)


def test_a_log_with_one_item_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """With one item there is nothing to rank."""
    with pytest.raises(DataError, match="knows 1 item in 2 usable rows"):
        load(tmp_path, HEADER + "ann,x,1\nbob,x,2\n")


BAD_LINES: dict[str, tuple[str | bytes, str]] = {
    "too few fields": ("ann,x", "2 fields"),
    "too many fields": ("ann,x,1,2", "4 fields"),
    "no user": (",x,1", "user id is empty"),
    "no item": ("ann,  ,1", "item id is empty"),
    "no time": ("ann,x,", "timestamp"),
    "time is a word": ("ann,x,soon", '"soon"'),
    "time is NaN": ("ann,x,nan", '"nan"'),
    "time is infinite": ("ann,x,inf", '"inf"'),
    "time before 1970": ("ann,x,-5", '"-5"'),
    "time in another unit": ("ann,x,1700000000000", "in s"),
    "a quote never closed": ('ann,"x,1', "quote is not closed"),
    "an endless id": (f"ann,{'x' * 300},1", "longer than 256"),
    "a NUL in an id": ("ann,x\0,1", "control characters"),
    "not UTF-8": (b"ann,x\xff,1", "not UTF-8"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_row_that_cannot_be_used_is_refused_with_file_and_line(tmp_path: Path, name: str) -> None:
    """The message opens with file:line of the very row, blank lines counted, and says what to do."""
    line, says = BAD_LINES[name]
    raw = line if isinstance(line, bytes) else line.encode()
    text = HEADER.encode() + b"ann,x,1700000000\n\nann,y,1700000001\n" + raw + b"\nbob,y,1700000002\n"

    with pytest.raises(DataError, match=says) as caught:
        load(tmp_path, text)

    assert caught.value.line == 5
    assert str(caught.value).startswith(f"{tmp_path / 'log.csv'}:5: ")
    assert 'on_bad_row = "drop"' in str(caught.value)


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_row_that_is_dropped_costs_only_itself_and_is_counted(tmp_path: Path, name: str) -> None:
    """With ``drop``, every other row stays, even after a quote that is never closed."""
    line, _ = BAD_LINES[name]
    raw = line if isinstance(line, bytes) else line.encode()
    text = HEADER.encode() + b"ann,x,1700000000\nann,y,1700000001\n" + raw + b"\nbob,y,1700000002\n"

    log, report = load(tmp_path, text, policy=DROP)

    assert histories(log) == {"ann": ["x", "y"], "bob": ["y"]}
    assert (report.rows, report.rows_bad, report.examples[0].line) == (4, 1, 4)
    assert sum(report.reasons.values()) == 1


def test_dropping_has_a_ceiling(tmp_path: Path) -> None:
    """A file of which a third is unreadable is a broken export, whatever the policy."""
    policy = BadRowPolicy(on_bad_row="drop", max_bad_share=0.1)

    with pytest.raises(DataError, match="1 of 3 rows cannot be used"):
        load(tmp_path, HEADER + "ann,x,1\nann,,2\nann,y,3\n", policy=policy)


def test_a_line_without_items_and_a_second_line_of_a_user_are_bad(tmp_path: Path) -> None:
    """In the user-a-line form, both are refused with their line, or dropped and counted."""
    with pytest.raises(DataError, match="without items") as caught:
        load(tmp_path, "1 5 3\n2\n1 4\n", name="log.txt")
    _, report = load(tmp_path, "1 5 3\n2\n1 4\n", name="log.txt", policy=DROP)

    assert caught.value.line == 2
    assert report.rows_bad == 2


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    """The message lists what the header has, so the typo is found at once."""
    with pytest.raises(DataError, match="no column 'item_id'; the file has 'user_id', 'itemid'"):
        load(tmp_path, "user_id,itemid,timestamp\na,b,1\n")


@pytest.mark.parametrize(
    ("name", "says"), [("log.parquet", "Parquet"), ("log.xls", "suffix"), ("log.txt", "empty")]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, says: str) -> None:
    """Not Parquet, an unknown suffix, nothing inside: each its own sentence."""
    with pytest.raises(DataError, match=says):
        load(tmp_path, "", name=name)


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.txt", "log.parquet"])
@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_are_refused_in_our_words(tmp_path: Path, name: str, seed: int) -> None:
    """Whatever bytes: file, line where there is one, what to do; never the reading library's advice."""
    (tmp_path / name).write_bytes(np.random.default_rng(seed).bytes(20_000))

    with pytest.raises(DataError, match=name.replace(".", r"\.")) as told:
        load_interactions(tmp_path / name)
    assert not re.search("schema|extra_columns|PAR1|specification|newline=", str(told.value))
    assert len(str(told.value)) < 1500


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"user_id\x01,item_id,timestamp\n", r"log\.csv:1: the line holds a control character \(byte 0x01\)"),
        (
            b"user_id,item\r_id,timestamp\n1,2,3\n",
            r"log\.csv:1: the first line is not a header of column names",
        ),
        (
            b"\n" + b"x" * 200_000 + b"\n1,2,3\n",
            r"log\.csv:2: the first line is not a header of column names",
        ),
    ],
)
def test_what_is_no_text_is_told_with_its_line(tmp_path: Path, data: bytes, says: str) -> None:
    """A control character, a carriage return inside the header, and a header that never ends."""
    (tmp_path / "log.csv").write_bytes(data)

    with pytest.raises(DataError, match=says):
        load_interactions(tmp_path / "log.csv")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """The path is in the message."""
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        load_interactions(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("written", "milliseconds", "unit"),
    [
        (["1700000000", "1700000001.5"], [1_700_000_000_000, 1_700_000_001_500], "s"),
        (["1700000000123"], [1_700_000_000_123], "ms"),
        (["1700000000123456"], [1_700_000_000_123], "us"),
        (["2024-01-02"], [1_704_153_600_000], "text"),
        (["2024-01-02T03:04:05Z", "2024-01-02 11:04:05+08:00"], [1_704_164_645_000] * 2, "text"),
        (["2024-01-02T03:04:05.250"], [1_704_164_645_250], "text"),
    ],
)
def test_times_are_read_in_whatever_form_a_shop_writes(
    written: list[str], milliseconds: list[int], unit: str
) -> None:
    """Seconds, milliseconds, microseconds, ISO 8601 with and without a zone: the same moment."""
    found, found_unit = to_milliseconds(pl.Series(written))

    assert (found.to_list(), found_unit) == (milliseconds, unit)


ids = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters='",'),
    min_size=1,
    max_size=8,
)


@given(st.lists(st.tuples(ids, ids, st.integers(0, 99)), min_size=2, max_size=40))
def test_ids_to_rows_and_back_is_the_identity(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, str, int]]
) -> None:
    """Whatever the ids, every event comes back under its own user, item and order of time."""
    if len({item for _, item, _ in events}) < 2:
        return
    text = HEADER + "".join(f"{user},{item},{time}\n" for user, item, time in events)
    log, report = load(tmp_path_factory.mktemp("log"), text)

    expected: dict[str, list[tuple[int, int, str]]] = {}
    for at, (user, item, time) in enumerate(dict.fromkeys(events)):
        expected.setdefault(user, []).append((time, at, item))
    assert histories(log) == {user: [item for *_, item in sorted(seen)] for user, seen in expected.items()}
    assert log.rows_of(log.items).tolist() == list(range(1, log.num_items + 1))
    assert report.events + report.rows_duplicate == len(events)


def test_rows_of_strangers_are_zero_and_ids_of_strangers_an_error(tmp_path: Path) -> None:
    """An unknown id is padding; a row outside the catalogue is a fault of ours, named."""
    log, _ = load(tmp_path, HEADER + "a,x,1\na,y,2\n")

    assert log.rows_of(["y", "?"]).tolist() == [2, 0]
    for row in (0, 3):
        with pytest.raises(ValueError, match=f"row {row} is outside 1..2"):
            log.ids_of([row])


def test_the_fingerprint_follows_the_events(tmp_path: Path) -> None:
    """Equal logs have equal fingerprints; one other time changes it."""
    one, _ = load(tmp_path, HEADER + "a,x,1\na,y,2\n")
    same, _ = load(tmp_path, HEADER + "a,y,2\na,x,1\n")
    other, _ = load(tmp_path, HEADER + "a,x,1\na,y,3\n")

    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


@given(st.lists(st.lists(st.integers(1, 9), max_size=6), max_size=6), st.integers(1, 5))
def test_flat_sequences_are_lists_of_lists(lists: list[list[int]], length: int) -> None:
    """Slicing, picking, shortening, counting and padding agree with plain Python."""
    flat = Sequences.of(lists)
    backwards = list(range(len(lists)))[::-1]

    assert [one.tolist() for one in flat] == lists
    assert [one.tolist() for one in flat.slice(1, 3)] == lists[1:3]
    assert [one.tolist() for one in flat.take(pl.Series(backwards, dtype=pl.Int64).to_numpy())] == lists[::-1]
    assert [one.tolist() for one in flat.without_last(2)] == [one[:-2] for one in lists]
    assert flat.padded_BL(length).tolist() == [([0] * length + one)[-length:] for one in lists]
    assert flat.counts_N1(9).tolist() == [sum(one.count(row) for one in lists) for row in range(10)]


def test_a_loaded_log_cannot_be_changed(tmp_path: Path) -> None:
    """What one stage holds, no other stage can alter."""
    log, _ = load(tmp_path, HEADER + "a,x,1\na,y,2\n")

    with pytest.raises(ValueError, match="read-only"):
        log.sequences.item_rows_E[0] = 2
