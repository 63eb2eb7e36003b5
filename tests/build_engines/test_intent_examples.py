"""A shop's labelled texts are read with every fault named, divided fairly, and never judged by what was learnt."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.data.bad_rows import BadRowPolicy
from build_engines.data.errors import DataError
from build_engines.intents.examples import Example, ExampleFormat, read_examples, text_key
from build_engines.intents.split import SplitShares, balanced_weights, divide, intent_sets

DROP = BadRowPolicy(on_bad_row="drop", max_bad_share=1.0)
FORM = ExampleFormat()


def written(folder: Path, text: str, name: str = "examples.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_have_the_names_that_the_shop_gives_them(tmp_path: Path) -> None:
    """A file is read as it is: other column names, quotes over two lines, a byte-order mark, tabs."""
    path = tmp_path / "own.tsv"
    path.write_text(
        'id\tutterance\tlabel\n1\t"where is\nmy order"\ttrack\n2\tcancel it\tcancel\n', encoding="utf-8-sig"
    )

    examples, report = read_examples(
        path, ExampleFormat(text_column="utterance", intent_column="label"), BadRowPolicy()
    )

    assert [(one.text, one.intent) for one in examples] == [
        ("where is\nmy order", "track"),
        ("cancel it", "cancel"),
    ]
    assert report.rows == 2


def test_json_lines_are_read_too(tmp_path: Path) -> None:
    """An object a line, with the same names."""
    rows = [
        {"text": "我的包裹呢", "intent": "track", "lang": "zh"},
        {"text": "stop", "intent": "cancel", "lang": "en"},
    ]
    path = written(tmp_path, "\n".join(json.dumps(row) for row in rows), "examples.jsonl")

    examples, _ = read_examples(path, ExampleFormat(language_column="lang"), BadRowPolicy())

    assert [one.language for one in examples] == ["zh", "en"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("?!,track", "text has no words"),
        ("where,", "intent is no label"),
        ("where,track,more", "wrong number of fields"),
        ("x" * 5000 + ",track", "text is too long"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_line_or_counted(tmp_path: Path, line: str, what: str) -> None:
    """Refused by default with file and line; left out and counted where the shop says so."""
    path = written(tmp_path, f"text,intent\nwhere is it,track\n{line}\ncancel,cancel\n")

    with pytest.raises(DataError, match=rf"examples\.csv:3: .*{what}"):
        read_examples(path, FORM, BadRowPolicy())
    examples, report = read_examples(path, FORM, DROP)

    assert (len(examples), report.bad, report.rows) == (2, 1, 3)


def test_a_column_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    """Nobody should have to guess the name."""
    path = written(tmp_path, "question,intent\na,b\n")

    with pytest.raises(
        DataError, match=r"examples\.csv:1: has no column 'text'; it has 'question', 'intent'"
    ):
        read_examples(path, FORM, BadRowPolicy())


def test_duplicates_are_kept_once_and_contradictions_are_found(tmp_path: Path) -> None:
    """Case, spaces and punctuation make no other question; a text with two labels cannot be learnt."""
    path = written(
        tmp_path,
        "text,intent\nWhere is it?,track\nwhere  is it,track\nRefund!,refund\nrefund,complaint\nstop,cancel\n",
    )

    examples, report = read_examples(path, FORM, BadRowPolicy())

    assert [one.text for one in examples] == ["Where is it?", "stop"]
    assert (report.duplicates, report.contradictions) == (1, 2)
    with pytest.raises(DataError, match=r"examples\.csv:4: 'Refund!' is complaint and refund \(lines 4, 5\)"):
        read_examples(path, ExampleFormat(on_contradiction="refuse"), BadRowPolicy())


@given(st.text(max_size=40))
def test_a_key_is_the_same_however_a_text_is_spaced_and_written(text: str) -> None:
    """What is one question to a person is one question here, and the key of a key is itself."""
    assert text_key(f"  {text} ") == text_key(text)
    assert text_key(text_key(text)) == text_key(text)


@given(
    sizes=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=2, max_size=5),
    share=st.floats(0.05, 0.6),
    seed=st.integers(0, 99),
)
def test_each_intent_gives_its_share_and_keeps_some(sizes: dict[str, int], share: float, seed: int) -> None:
    """No intent is all on one side unless it has one group; no group is on two."""
    examples = [
        Example(text=f"{intent} {group} {number}", intent=intent, group=f"{intent}{group}")
        for intent, groups in sizes.items()
        for group in range(groups)
        for number in range(3)
    ]

    kept, given_away = divide(examples, share, seed=seed)

    assert sorted((*kept, *given_away), key=examples.index) == examples
    assert not {one.group for one in kept} & {one.group for one in given_away}
    for intent, groups in sizes.items():
        given_groups = {one.group for one in given_away if one.intent == intent}
        assert len(given_groups) == min(max(1, round(share * groups)), groups - 1)


def sample(number: int, intent: str) -> list[Example]:
    return [Example(text=f"{intent} number {at}", intent=intent) for at in range(number)]


def test_a_text_on_two_sides_is_refused_or_left_out_of_the_side_that_learns() -> None:
    """A figure over texts that were learnt from says nothing; the message shows one of them."""
    train = [*sample(20, "track"), *sample(20, "cancel")]
    test = [Example(text="TRACK number 3!", intent="track"), Example(text="new", intent="cancel")]

    with pytest.raises(DataError, match=r"1 texts are learnt from and judged by, such as 'track number 3'"):
        intent_sets(train, None, test, SplitShares())
    sets, notes = intent_sets(train, None, test, SplitShares(on_leak="drop"))

    assert "track number 3" not in {one.text for one in (*sets.train, *sets.validation)}
    assert len(sets.train) + len(sets.validation) == 39
    assert notes == ("1 examples left out of the sides that learn or choose: they are judged by",)


def test_an_intent_that_nobody_taught_cannot_be_judged() -> None:
    """A test file with another label is a mistake in one of the two files."""
    test = [Example(text="new", intent="refund")]

    with pytest.raises(DataError, match="test examples have intents that are not learnt: refund"):
        intent_sets([*sample(9, "track"), *sample(9, "cancel")], None, test, SplitShares())


@given(st.lists(st.integers(1, 500), min_size=2, max_size=20), st.floats(0, 1))
def test_balance_leaves_the_mean_example_at_one(counts: list[int], power: float) -> None:
    """The learning rate means the same however examples are balanced; rarer intents never count less."""
    weights = balanced_weights(counts, power)

    total = sum(weight * count for weight, count in zip(weights, counts, strict=True))
    assert total == pytest.approx(sum(counts))
    ordered = sorted(zip(counts, weights, strict=True))
    assert all(one[1] >= other[1] - 1e-9 for one, other in itertools.pairwise(ordered))


def test_the_split_is_the_same_for_the_same_seed() -> None:
    """Figures can be had again."""
    examples = [*sample(30, "track"), *sample(10, "cancel")]

    assert divide(examples, 0.2, seed=4) == divide(examples, 0.2, seed=4) != divide(examples, 0.2, seed=5)
    assert Counter(one.intent for one in divide(examples, 0.2, seed=4)[1]) == {"track": 6, "cancel": 2}
