"""Nothing is made twice, nothing stale is reused, and whoever dies leaves only what is whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from build_engines.errors import BuildError, WorkspaceError
from build_engines.fingerprint import code_digest
from build_engines.progress import Silent
from build_engines.stage import Work
from build_engines.states import Start
from build_engines.workspace import Workspace
from server.artifacts.disk import Disk
from tests.build_engines.build_cases import Calls


def workspace(root: Path, **changes: Any) -> Workspace:
    """A workspace that says nothing."""
    return replace(Workspace(root=root, progress=Silent()), **changes)


def test_a_result_is_made_once(tmp_path: Path) -> None:
    """A second run reuses what the first one left, record and files."""
    calls = Calls()
    first = workspace(tmp_path).do(calls.stage("cut"), Start(), "a")

    again = workspace(tmp_path).do(calls.stage("cut"), Start(), "a")

    assert calls.made == ["a"]
    assert (again.content, again.record, again.output.reused) == (first.content, first.record, True)
    assert (again.output.folder / "result.txt").read_text(encoding="utf-8") == "a is done"


def test_what_a_result_depends_on_makes_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another part, input, code, package version or data file: each alone is enough."""
    calls = Calls()
    stage = calls.stage("cut")
    space = workspace(tmp_path)
    before = space.do(stage, Start(), "a")

    space.do(stage, Start(), "b")
    space.do(stage, before, "a")  # another input state
    space.do(replace(stage, code=("build_engines.stage",)), Start(), "a")
    space.do(replace(stage, inputs=lambda part: {"clicks.csv": "another hash"}), Start(), "a")
    packaged = replace(stage, packages=("numpy",))
    space.do(packaged, Start(), "a")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    space.do(packaged, Start(), "a")

    assert len(calls.made) == 7


def test_equal_bytes_from_another_part_keep_later_stages(tmp_path: Path) -> None:
    """A stage that runs again and makes the same bytes does not make the next one stale."""
    calls, later = Calls(), Calls()
    space = workspace(tmp_path)
    stage = calls.stage("cut")
    for code in ("build_engines.stage", "build_engines.stage_names"):
        state = space.do(replace(stage, code=(code,)), Start(), "a")
        space.do(later.stage("sew"), state, "x")

    assert (len(calls.made), len(later.made)) == (2, 1)


def test_equal_bytes_from_another_input_are_another_state(tmp_path: Path) -> None:
    """Later stages read through a state to what it came from: equal scales of other weights are other scales."""
    first, second = Calls(), Calls()
    space = workspace(tmp_path)
    contents = []
    for part in ("a", "b"):
        before = space.do(first.stage("cut"), Start(), part)
        second.before = lambda work: None
        contents.append(space.do(second.stage("sew"), before, "x").content)

    assert len(set(contents)) == 2


def test_redo_makes_it_again_in_place(tmp_path: Path) -> None:
    """``--force`` replaces the result; a plain run reuses the new one."""
    calls = Calls()
    space = workspace(tmp_path)
    space.do(calls.stage("cut"), Start(), "a")

    def write_more(work: Work) -> None:
        (work.folder / "more.txt").write_text("x")

    calls.before = write_more
    space.do(calls.stage("cut"), Start(), "a", redo=True)

    state = space.do(calls.stage("cut"), Start(), "a")

    assert len(calls.made) == 2
    assert (state.output.folder / "more.txt").exists()


@pytest.mark.parametrize("damage", ["truncate", "remove", "stage.json", "junk"])
def test_a_damaged_result_is_made_again(tmp_path: Path, damage: str) -> None:
    """A file cut short, a missing one, or a record that cannot be read: as if it had never been made."""
    calls = Calls()
    folder = workspace(tmp_path).do(calls.stage("cut"), Start(), "a").output.folder
    if damage == "truncate":
        (folder / "result.txt").write_text("a")
    elif damage == "remove":
        (folder / "result.txt").unlink()
    elif damage == "stage.json":
        (folder / "stage.json").write_bytes((folder / "stage.json").read_bytes()[:40])
    else:
        (folder / "stage.json").write_bytes(b"\xff\xfe")

    state = workspace(tmp_path).do(calls.stage("cut"), Start(), "a")

    assert len(calls.made) == 2
    assert (state.output.folder / "result.txt").read_text(encoding="utf-8") == "a is done"


def test_a_stage_that_fails_leaves_no_result_but_its_scratch(tmp_path: Path) -> None:
    """After a failure the stage runs again, and finds the checkpoint that it had written."""
    calls = Calls()
    seen = []

    def fail(work: Work) -> None:
        seen.append((work.scratch / "checkpoint").exists())
        (work.scratch / "checkpoint").write_text("epoch 3")
        if len(seen) == 1:
            raise BuildError("no luck")

    calls.before = fail
    with pytest.raises(BuildError, match="no luck"):
        workspace(tmp_path).do(calls.stage("cut"), Start(), "a")
    assert workspace(tmp_path).peek(calls.stage("cut"), Start(), "a") is None

    state = workspace(tmp_path).do(calls.stage("cut"), Start(), "a")

    assert seen == [False, True]
    assert [path.name for path in state.output.folder.parent.iterdir() if "scratch" in path.name] == []


def test_a_full_disk_is_a_sentence_and_costs_one_stage(tmp_path: Path) -> None:
    """ENOSPC in a stage, or in keeping its result: what to do is said, and what was finished is kept."""

    class Full(Disk):
        def rename(self, source: Path, target: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))

    def fill(work: Work) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(work.folder / "weights.npz"))

    calls = Calls()
    workspace(tmp_path).do(calls.stage("cut"), Start(), "kept")
    calls.before = fill
    with pytest.raises(
        WorkspaceError, match=r"cut: .*weights\.npz: No space left on device; free some space"
    ) as refusal:
        workspace(tmp_path).do(calls.stage("cut"), Start(), "a")
    calls.before = lambda work: None
    with pytest.raises(WorkspaceError, match="free some space"):
        workspace(tmp_path, disk=Full()).do(calls.stage("cut"), Start(), "a")

    assert refusal.value.exit_code == 5
    assert workspace(tmp_path).peek(calls.stage("cut"), Start(), "kept") is not None
    assert workspace(tmp_path).do(calls.stage("cut"), Start(), "a").record.text == "a"


def test_a_workspace_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """A file where the workspace should be."""
    (tmp_path / "occupied").write_text("x")

    with pytest.raises(WorkspaceError, match="check the path and its permissions"):
        workspace(tmp_path / "occupied").do(Calls().stage("cut"), Start(), "a")


@pytest.mark.timeout(60)
def test_two_runs_that_want_the_same_result_make_it_once(tmp_path: Path) -> None:
    """The second waits for the first, then reuses what it made."""
    calls = Calls()
    entered, go = threading.Event(), threading.Event()

    def slow(work: Work) -> None:
        entered.set()
        assert go.wait(30)

    calls.before = slow
    results = []
    runs = [
        threading.Thread(
            target=lambda: results.append(workspace(tmp_path).do(calls.stage("cut"), Start(), "a"))
        )
        for _ in range(2)
    ]
    for run in runs:
        run.start()
    assert entered.wait(30)
    go.set()
    for run in runs:
        run.join(30)

    assert calls.made == ["a"]
    assert sorted(state.output.reused for state in results) == [False, True]


@pytest.mark.timeout(60)
def test_a_run_that_will_not_wait_is_told_who_works(tmp_path: Path) -> None:
    """With no patience, the other run is named instead."""
    calls = Calls()
    refusals = []

    def meanwhile(work: Work) -> None:
        calls.before = lambda work: None
        with pytest.raises(WorkspaceError, match=rf"held by process {os.getpid()} on") as refusal:
            workspace(tmp_path, lock_wait_s=0.0).do(calls.stage("cut"), Start(), "a")
        refusals.append(refusal)

    calls.before = meanwhile
    workspace(tmp_path).do(calls.stage("cut"), Start(), "a")

    assert (len(refusals), calls.made) == (1, ["a"])


RUN = """
import sys
from pathlib import Path
from build_engines.progress import Silent
from build_engines.states import Start
from build_engines.workspace import Workspace
from tests.build_engines.build_cases import Calls

def before(work):
    (work.scratch / "checkpoint").write_text("epoch 7")
    (work.folder / "half.bin").write_text("half")
    print("here", flush=True)
    sys.stdin.read()

Workspace(root=Path(sys.argv[1]), progress=Silent()).do(Calls(before=before).stage("cut"), Start(), "a")
"""


@pytest.mark.timeout(60)
def test_kill_9_in_a_stage_costs_that_stage_only(tmp_path: Path) -> None:
    """The next run finds no half result, no lock, and the checkpoint."""
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "here\n"
        run.send_signal(signal.SIGKILL)
    checkpoints = []
    calls = Calls(before=lambda work: checkpoints.append((work.scratch / "checkpoint").read_text()))

    state = workspace(tmp_path, lock_wait_s=0.0).do(calls.stage("cut"), Start(), "a")

    assert checkpoints == ["epoch 7"]
    assert [path.name for path in state.output.folder.iterdir() if path.name == "half.bin"] == []


def test_code_counts_and_words_about_it_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment, a docstring or a formatter trains nothing again; a changed number does."""
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "made_up_stage.py"
    digests = []
    for source in (
        'def f(x):\n    """Doc."""\n    return x * 2\n',
        'def f( x ):  # faster\n    """Other words."""\n    return (x * 2)\n',
        "def f(x):\n    return x * 3\n",
    ):
        module.write_text(source, encoding="utf-8")
        digests.append(code_digest(["made_up_stage"]))

    assert digests[0] == digests[1]
    assert digests[0] != digests[2]
    with pytest.raises(BuildError, match=r"no_such_module"):
        code_digest(["no_such_module"])


def test_scratch_is_ones_own_and_gone_afterwards(tmp_path: Path) -> None:
    """What a killed run left in it is not there."""
    space = workspace(tmp_path)
    with space.scratch("publish") as folder:
        (folder / "x").write_text("x")
        with (
            pytest.raises(WorkspaceError, match="held by"),
            workspace(tmp_path, lock_wait_s=0.0).scratch("publish"),
        ):
            pass
    (tmp_path / ".publish").mkdir()
    (tmp_path / ".publish" / "left over").write_text("x")

    with space.scratch("publish") as folder:
        assert list(folder.iterdir()) == []
    assert not folder.exists()
