"""The search finds what it is asked for, loses nothing to a kill, and explains what it takes."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from build_engines.errors import BuildError, RecipeError, WorkspaceError
from build_engines.progress import Silent
from build_engines.recipe import load_recipe
from build_engines.search.choose import chosen, explained
from build_engines.search.outcome import Outcome
from build_engines.search.page import front_rows, search_html
from build_engines.search.part import load_search
from build_engines.search.space import suggested_sets, toml_value
from build_engines.search.study import run_study
from server.artifacts.lock import exclusive
from tests.build_engines.mini_shop import RECIPE
from tests.build_engines.search_cases import PART, FakeLine, part_of

pytest.importorskip("optuna")


class Steps(Silent):
    """Progress that remembers."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float, float]] = []

    def step(self, what: str, done: float, total: float, note: str = "") -> None:
        self.steps.append((what, done, total))


def test_the_smallest_that_holds_is_found_and_explained(tmp_path: Path) -> None:
    """64 wide in INT8: narrower loses too much, wider is larger; the page says so with figures, limits and seed."""
    line, progress = FakeLine(), Steps()
    part = msgspec.structs.replace(PART, trials=20)

    found = run_study(part, line, tmp_path / "s.sqlite", identity="x", progress=progress)

    taken = chosen(found.rungs[-1], part.objective)
    assert taken is not None and taken.sets == ("network.dim=64", 'quantize.precision="int8"')
    text = explained(found.rungs[-1], found.reference[0], part.objective)
    assert "hold (p99 <= 5 ms at 100 requests/s on this machine, loss <= 2.00%: smallest that holds)" in text
    assert "network.dim=64" in text and "8.00 times smaller" in text
    page = search_html("shop", part, found, {"cpu": "a CPU"}, '[model]\nname = "<shop>"')
    for said in (
        "network.dim=64",
        "--set &#x27;network.dim=64&#x27;",
        "Seed of the sampler",
        "&lt;shop&gt;",
        "<svg",
    ):
        assert said in page, said
    assert "<script" not in page
    assert progress.steps[-1][1] == progress.steps[-1][2], "the bar ends"


def test_a_candidate_is_measured_once_and_the_better_half_climbs(tmp_path: Path) -> None:
    """Eight different candidates at most, whatever the trials; half of them in full, none that is worse than one left behind."""
    line = FakeLine()

    found = run_study(PART, line, tmp_path / "s.sqlite", identity="x", progress=Silent())

    assert len(line.asked) == len(set(line.asked))
    cheap = {sets for sets, place in line.asked if place == 0}
    full = {sets for sets, place in line.asked if place == 1}
    assert full < cheap and len(full) == -(-len(cheap) // 2)
    assert found.trials == 10


def test_a_search_goes_on_where_it_was_and_more_trials_add(tmp_path: Path) -> None:
    """Typed again: nothing is measured. With more trials: only what is new."""
    path = tmp_path / "s.sqlite"
    run_study(PART, FakeLine(), path, identity="x", progress=Silent())

    again = FakeLine()
    found = run_study(PART, again, path, identity="x", progress=Silent())
    assert (again.asked, found.resumed) == ([], 10)

    more = FakeLine()
    found = run_study(msgspec.structs.replace(PART, trials=12), more, path, identity="x", progress=Silent())
    assert found.trials == 12
    assert len(more.asked) <= 4


KILLED = """
import os, signal, sys
from pathlib import Path
from build_engines.progress import Silent
from build_engines.search.study import run_study
from tests.build_engines.search_cases import PART, FakeLine

def die(count):
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

run_study(PART, FakeLine(before=die), Path(sys.argv[1]), identity="x", progress=Silent())
"""


def test_kill_9_costs_the_candidate_that_was_under_way_and_nothing_else(tmp_path: Path) -> None:
    """Killed in the fourth measurement: the first three are in the file, the fourth is asked again, the result is whole."""
    path = tmp_path / "s.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path), "3"],
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    with sqlite3.connect(path) as database:
        (kept,) = database.execute(
            "select count(*) from study_user_attributes where key like 'outcome.%'"
        ).fetchone()
    assert kept == 3

    line = FakeLine()
    found = run_study(PART, line, path, identity="x", progress=Silent())

    assert found.trials == 10
    assert len({sets for sets, place in line.asked if place == 0}) + 3 >= len(found.rungs[0])
    assert not {one.sets for one in found.rungs[0]} & {("",)}
    assert chosen(found.rungs[-1], PART.objective) is not None or found.rungs[-1]


def test_two_searches_at_one_file_do_not_mix(tmp_path: Path) -> None:
    """The second is told who works."""
    with (
        exclusive(tmp_path / ".s.sqlite.lock", wait_s=0),
        pytest.raises(BuildError, match=r"s\.sqlite: another search is at work on it \(.*\); let it finish"),
    ):
        run_study(PART, FakeLine(), tmp_path / "s.sqlite", identity="x", progress=Silent())


def test_a_file_of_another_recipe_is_refused(tmp_path: Path) -> None:
    """Figures of other data or code cannot be compared."""
    run_study(PART, FakeLine(), tmp_path / "s.sqlite", identity="x", progress=Silent())

    with pytest.raises(BuildError, match="holds a search of another recipe"):
        run_study(PART, FakeLine(), tmp_path / "s.sqlite", identity="y", progress=Silent())


def test_a_file_that_is_no_study_and_a_full_disk_are_sentences(tmp_path: Path) -> None:
    """Not a traceback of a database."""
    (tmp_path / "s.sqlite").write_bytes(b"no database at all, and long enough to be read as one" * 100)
    with pytest.raises(WorkspaceError, match="is no study, or cannot be written"):
        run_study(PART, FakeLine(), tmp_path / "s.sqlite", identity="x", progress=Silent())

    from sqlalchemy.exc import OperationalError

    full = OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))
    with (
        mock.patch("optuna.Study.set_user_attr", side_effect=[None, full]),
        pytest.raises(WorkspaceError, match=r"disk is full.*free some space and run this again"),
    ):
        run_study(PART, FakeLine(), tmp_path / "t.sqlite", identity="x", progress=Silent())


def test_a_candidate_that_cannot_be_built_is_told_and_the_search_goes_on(tmp_path: Path) -> None:
    """Every INT8 one is refused: FP32 ones are taken, and the page says why the others are not."""

    class Refuses(FakeLine):
        def measure(self, sets: Sequence[str], rung: Any, place: int) -> Outcome:
            found = super().measure(sets, rung, place)
            if 'quantize.precision="int8"' in sets:
                return Outcome(sets=tuple(sets), rung=place, refused="quantize: no user is set apart")
            return found

    found = run_study(PART, Refuses(), tmp_path / "s.sqlite", identity="x", progress=Silent())

    taken = chosen(found.rungs[-1], PART.objective)
    assert taken is None or "fp32" in taken.sets[1]
    assert "quantize: no user is set apart" in search_html("shop", PART, found, {}, "")


def test_nothing_that_holds_is_said_with_what_is_missed() -> None:
    """The nearest one, its figures, and which limit it misses."""
    line = FakeLine()
    outcomes = [line.measure(("network.dim=16", 'quantize.precision="int8"'), PART.rungs[0], 0)]

    text = explained(outcomes, line.reference(0), PART.objective)

    assert "None of 1 candidates" in text and "misses loss" in text


class Always:
    """In place of a trial: the first of everything, and every place and step taken."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return choices[0]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return high if name.startswith("chain.0") else low

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return low


def test_a_point_is_what_set_says(tmp_path: Path) -> None:
    """Words, numbers, steps in any order: TOML that the recipe reads; a chain is a list of tables."""
    part = part_of("""
    orders = "any"
    [[vary]]
    set = "train.learning_rate"
    low = 1e-4
    high = 1e-2
    log = true
    [[chain]]
    step = "prune_inner"
    vary = [{ set = "keep", choices = [0.5, 0.25] }]
    [[chain]]
    step = "prune_blocks"
    always = true
    options = { keep = 1 }
    """)

    sets = suggested_sets(Always(), part)

    assert sets[0] == "train.learning_rate=0.0001"
    assert tomllib.loads(sets[1]) == {
        "compress": [{"step": "prune_blocks", "keep": 1}, {"step": "prune_inner", "keep": 0.5}]
    }


json_values = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False),
              st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text("ab c\"", max_size=4), inner, max_size=3)),
    max_leaves=8,
)  # fmt: skip


@given(json_values)
def test_any_choice_survives_the_way_through_toml(value: Any) -> None:
    """What the recipe reads is what the search wrote."""
    assert tomllib.loads(f"value = {toml_value(value)}")["value"] == value


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "has no section \\[search\\]"),
        ("[search]\n", "nothing varies"),
        ("[search]\ntrails = 3\n", "trails"),
        ('[search]\n[[search.vary]]\nset = "a.b"\n', "a.b: give either choices, or low and high"),
        ('[search]\n[[search.vary]]\nset = "a.b"\nlow = 3\nhigh = 1\n', "low must be below high"),
        (
            '[search]\ntrials = 0\n[[search.vary]]\nset = "a.b"\nchoices = [1]\n',
            "trials is 0; use 1 to 100000",
        ),
        (
            '[search]\n[search.objective]\nmax_loss = 2\n[[search.vary]]\nset = "a.b"\nchoices = [1]\n',
            "max_loss is 2.*0.01 is 1 %",
        ),
    ],
)
def test_what_is_wrong_with_a_search_is_said(tmp_path: Path, lines: str, said: str) -> None:
    """File, key, value, limit."""
    (tmp_path / "r.toml").write_text(RECIPE + lines, encoding="utf-8")

    with pytest.raises(RecipeError, match=f"r.toml.*{said}"):
        load_search(tmp_path / "r.toml")


def test_a_build_of_a_recipe_that_can_be_searched_is_of_the_rest(tmp_path: Path) -> None:
    """``run`` reads past [search]; a recipe for a newer builder is refused with a sentence."""
    (tmp_path / "r.toml").write_text(
        RECIPE + '\n[search]\n[[search.vary]]\nset = "a.b"\nchoices = [1]\n', encoding="utf-8"
    )
    assert load_recipe(tmp_path / "r.toml").model.name == "mini"

    (tmp_path / "n.toml").write_text("recipe_version = 2\n" + RECIPE, encoding="utf-8")
    with pytest.raises(RecipeError, match=r"recipe_version is 2, this builder reads up to 1.*upgrade"):
        load_recipe(tmp_path / "n.toml")
    (tmp_path / "o.toml").write_text('recipe_version = "x"\n' + RECIPE, encoding="utf-8")
    with pytest.raises(RecipeError, match="must be a whole number"):
        load_recipe(tmp_path / "o.toml")


REAL = """
[search]
trials = 2
startup_trials = 2
rate_seconds = 0.3
reference_runs = 1
[search.objective]
max_loss = 1.0
decided = false
p99_ms = 5000.0
at_requests_per_s = 50
batch_sizes = [1]
[[search.vary]]
set = "quantize.precision"
choices = ["fp32", "int8"]
[[search.vary]]
set = "network.dim"
choices = [16]
"""


@pytest.mark.timeout(300)
def test_a_real_recipe_is_searched_from_the_command_line(
    tmp_path: Path, mini_workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Built, opened, compared and timed through the line; the smaller one is taken, its command is told, the page is there."""
    from build_engines.__main__ import main

    (tmp_path / "mini.toml").write_text(RECIPE + REAL, encoding="utf-8")
    typed = ["search", str(tmp_path / "mini.toml"), "--workspace", str(mini_workspace), "--plain"]
    typed += ["--study", str(tmp_path / "s.sqlite"), "--out", str(tmp_path / "search.html")]

    code = main(typed)

    said = capsys.readouterr()
    assert code == 0, said.err
    assert "candidates measured in full" in said.out
    assert "python -m build_engines run" in said.out
    page = (tmp_path / "search.html").read_text(encoding="utf-8")
    assert "quantize.precision" in page and "<svg" in page
    assert os.listdir(tmp_path) and not list(mini_workspace.glob(".search-*/candidate"))


def test_the_front_is_a_table() -> None:
    """Each point with loss, interval, p99, size and whether it holds."""
    line = FakeLine()
    full = [
        line.measure((f"network.dim={dim}", f'quantize.precision="{kind}"'), PART.rungs[0], 1)
        for dim in (16, 64, 128)
        for kind in ("fp32", "int8")
    ]

    rows = front_rows(PART, full, line.reference(0))

    assert all(len(one) == 9 for one in rows)
    assert [one[-1] for one in rows].count("yes") == 4
    assert any(one[-1] == "no: loss" for one in rows)
