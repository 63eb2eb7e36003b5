"""Publishing is atomic: whatever goes wrong, a reader finds the old version whole or the new one whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.artifacts.disk import Disk
from server.artifacts.errors import ArtifactError, CorruptFile, RepositoryBusy
from server.artifacts.lock import exclusive
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion, current_version, open_current, versions
from tests.server.artifact_cases import make_staging, mark_of

STEPS_OF_A_PUBLISH = (
    100  # more than there are; the tests stop at the first publish that ends before its crash
)


class Crash(BaseException):
    """The machine lost power; nobody's ``except Exception`` runs afterwards."""


class QuickDisk(Disk):
    """A disk that is believed to have synced, so that hundreds of publishes take a second."""

    def sync(self, descriptor: int) -> None:
        del descriptor

    def sync_folder(self, path: Path) -> None:
        del path


class FailingDisk(QuickDisk):
    """A disk that dies, or is full, from its n-th call on; dying loses bytes that were not synced."""

    def __init__(self, root: Path, at: int, *, full: bool = False) -> None:
        self.root = root
        self.calls = 0
        self.at = at
        self.full = full
        self.open: dict[int, tuple[int, int]] = {}
        self.unsynced: set[tuple[int, int]] = set()  # device and inode: a rename changes neither

    def _step(self) -> None:
        self.calls += 1
        if self.full or self.calls < self.at:
            return
        for path in self.root.rglob("*"):
            if (path.stat().st_dev, path.stat().st_ino) in self.unsynced:
                os.truncate(path, path.stat().st_size // 2)
        raise Crash

    def make_folder(self, path: Path) -> None:
        self._step()
        super().make_folder(path)

    def create(self, path: Path) -> int:
        self._step()
        descriptor = super().create(path)
        stat = os.fstat(descriptor)
        self.open[descriptor] = (stat.st_dev, stat.st_ino)
        self.unsynced.add(self.open[descriptor])
        return descriptor

    def write(self, descriptor: int, data: bytes) -> int:
        self._step()
        if self.full and self.calls >= self.at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(descriptor, data[: max(1, len(data) // 2)])  # short writes are allowed

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)
        self.unsynced.discard(self.open[descriptor])

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)


def publish(parent: Path, mark: str, disk: Disk | None = None, keep: int = 5) -> OpenedVersion:
    """Publish a version that can be told by its mark."""
    releases = Releases(repository=parent / "repo", keep=keep, disk=disk or QuickDisk(), lock_wait_s=0.0)
    return releases.publish(make_staging(parent, mark=mark), "shop")


def serving(parent: Path) -> str:
    """The mark of what a server that starts now would serve, fully verified."""
    return mark_of(open_current(parent / "repo", "shop").folder)


@pytest.mark.parametrize("keep", [1, 5])
def test_power_lost_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, keep: int) -> None:
    """Dying at any system call of a publish leaves one whole version current; the next publish mends."""
    seen = set()
    for step in range(1, STEPS_OF_A_PUBLISH):
        shop = tmp_path / str(step)
        shop.mkdir()
        publish(shop, "a")
        disk = FailingDisk(shop, step)
        try:
            publish(shop, "b", disk, keep=keep)
        except Crash:
            seen.add(serving(shop))
        else:
            break
        publish(shop, "c", keep=keep)
        assert serving(shop) == "c"
        assert not list((shop / "repo" / "shop").glob(".staging-*"))
        assert not list((shop / "repo" / "shop").glob(".CURRENT.*"))
    else:
        pytest.fail("a publish has more steps than this test tries")

    assert seen == {"a", "b"}, "crashes before and after the switch were both tried"


def test_a_first_publish_that_dies_leaves_nothing_current(tmp_path: Path) -> None:
    """With no old version, a crash leaves either the new one or a sentence that says there is none."""
    for step in range(1, STEPS_OF_A_PUBLISH):
        shop = tmp_path / str(step)
        shop.mkdir()
        disk = FailingDisk(shop, step)
        try:
            publish(shop, "b", disk)
        except Crash:
            try:
                assert serving(shop) == "b"
            except ArtifactError as error:
                assert "build_engines" in str(error)
        else:
            return
    pytest.fail("a publish has more steps than this test tries")


def test_a_full_disk_at_any_write_keeps_the_old_version(tmp_path: Path) -> None:
    """ENOSPC at each write: the old version serves, nothing half is left, a sentence says what to do."""
    publish(tmp_path, "a")
    refused = 0
    for step in range(1, 400):
        before = sorted(path.name for path in (tmp_path / "repo" / "shop").iterdir())
        try:
            publish(tmp_path, "b", FailingDisk(tmp_path, step, full=True))
        except ArtifactError as error:
            refused += 1
            assert "No space left" in str(error)
            assert "free some space" in str(error)
            assert serving(tmp_path) == "a"
            assert sorted(path.name for path in (tmp_path / "repo" / "shop").iterdir()) == before
        else:
            break

    assert refused > 10
    assert serving(tmp_path) == "b"


PUBLISHER = """
import sys
from pathlib import Path
from server.artifacts.disk import Disk
from server.artifacts.releases import Releases

class Telling(Disk):
    def __init__(self, at):
        self.left = at
    def _step(self):
        self.left -= 1
        if self.left == 0:
            print("here", flush=True)
            sys.stdin.read()
    def sync(self, descriptor):
        self._step()
        super().sync(descriptor)
    def rename(self, source, target):
        super().rename(source, target)
        self._step()

Releases(repository=Path(sys.argv[1]), disk=Telling(int(sys.argv[3]))).publish(Path(sys.argv[2]), "shop")
print("done", flush=True)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("at", "left"), [(1, "a"), (5, "a"), (6, "a"), (7, "a"), (8, "b"), (99, "b")])
def test_kill_9_leaves_the_old_or_the_new_and_no_lock(tmp_path: Path, at: int, left: str) -> None:
    """A builder killed at a sync or after a rename leaves a whole version, and lets go of the lock."""
    publish(tmp_path, "a")
    staging = make_staging(tmp_path, mark="b")
    command = [sys.executable, "-c", PUBLISHER, str(tmp_path / "repo"), str(staging), str(at)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline().strip() in ("here", "done")
        builder.send_signal(signal.SIGKILL)

    assert serving(tmp_path) == left
    publish(tmp_path, "c")
    assert serving(tmp_path) == "c"


def test_a_second_builder_is_refused_with_the_first_ones_name(tmp_path: Path) -> None:
    """Two builders never mix; the one who will not wait is told who is at work."""
    publish(tmp_path, "a")
    lock = tmp_path / "repo" / "shop" / ".lock"

    with exclusive(lock, wait_s=0.0), pytest.raises(RepositoryBusy, match=rf"process {os.getpid()} on "):
        publish(tmp_path, "b")

    assert serving(tmp_path) == "a"


@pytest.mark.timeout(60)
def test_builders_who_wait_get_numbers_of_their_own(tmp_path: Path) -> None:
    """Six at once: six versions, none lost, none mixed."""
    stagings = [make_staging(tmp_path, mark=mark) for mark in "abcdef"]
    releases = Releases(repository=tmp_path / "repo", keep=10, lock_wait_s=30.0)
    threads = [threading.Thread(target=releases.publish, args=(staging, "shop")) for staging in stagings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert versions(tmp_path / "repo", "shop") == ["1", "2", "3", "4", "5", "6"]
    marks = {mark_of(tmp_path / "repo" / "shop" / str(number)) for number in range(1, 7)}
    assert marks == set("abcdef")


def test_a_staging_folder_that_lies_is_not_published(tmp_path: Path) -> None:
    """Bytes that changed after the manifest was written stop the publish."""
    publish(tmp_path, "a")
    staging = make_staging(tmp_path, mark="b")
    (staging / "model.onnx").write_bytes(b"z" * 3000)

    with pytest.raises(CorruptFile, match=r"model\.onnx"):
        Releases(repository=tmp_path / "repo").publish(staging, "shop")

    assert (serving(tmp_path), versions(tmp_path / "repo", "shop")) == ("a", ["1"])


def test_a_golden_replay_that_differs_stops_the_publish(tmp_path: Path) -> None:
    """The check sees the copy on disk, under no number yet, and its refusal leaves nothing."""
    publish(tmp_path, "a")
    seen: list[str] = []

    def refuse(opened: OpenedVersion) -> None:
        seen.append(mark_of(opened.folder))
        raise ArtifactError("golden replay differs")

    with pytest.raises(ArtifactError, match="golden replay differs"):
        Releases(repository=tmp_path / "repo").publish(make_staging(tmp_path, mark="b"), "shop", check=refuse)

    assert seen == ["b"]
    assert sorted(path.name for path in (tmp_path / "repo" / "shop").iterdir()) == [".lock", "1", "CURRENT"]


def test_rollback_goes_back_and_can_go_forward(tmp_path: Path) -> None:
    """One command back to the version before, or to any other, and a new number after that."""
    for mark in "abc":
        publish(tmp_path, mark)
    releases = Releases(repository=tmp_path / "repo")

    assert releases.rollback("shop") == "2"
    assert serving(tmp_path) == "b"
    assert releases.rollback("shop", to="3") == "3"
    releases.rollback("shop", to="1")
    assert publish(tmp_path, "d").manifest.version == "4"


def test_rollback_refuses_what_is_not_there_or_not_whole(tmp_path: Path) -> None:
    """No rollback onto nothing, onto a damaged version, or below the first."""
    publish(tmp_path, "a")
    releases = Releases(repository=tmp_path / "repo")
    with pytest.raises(ArtifactError, match=r"no version older than 1"):
        releases.rollback("shop")
    with pytest.raises(ArtifactError, match=r"no version '9' \(there are: 1\)"):
        releases.rollback("shop", to="9")
    with pytest.raises(ArtifactError, match=r"no model 'other'"):
        releases.rollback("other")
    publish(tmp_path, "b")
    (tmp_path / "repo" / "shop" / "1" / "model.onnx").write_bytes(b"q" * 3000)

    with pytest.raises(CorruptFile, match=r"model\.onnx"):
        releases.rollback("shop")
    assert serving(tmp_path) == "b"


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.sampled_from(["publish", "back", "first"]), max_size=8), keep=st.integers(1, 3))
def test_whatever_is_kept_the_current_version_is(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], keep: int
) -> None:
    """Old versions go, but never the one that serves, and at most ``keep`` others stay."""
    tmp_path = tmp_path_factory.mktemp("keep")
    releases = Releases(repository=tmp_path / "repo", keep=keep, disk=QuickDisk())
    publish(tmp_path, "a", keep=keep)
    for step in steps:
        there = versions(tmp_path / "repo", "shop")
        current = current_version(tmp_path / "repo", "shop")
        if step == "publish":
            publish(tmp_path, "b", keep=keep)
        elif step == "back" and there[0] != current:
            releases.rollback("shop")
        elif step == "first":
            releases.rollback("shop", to=there[0])

        there = versions(tmp_path / "repo", "shop")
        assert current_version(tmp_path / "repo", "shop") in there
        assert len(there) <= keep + 1
        open_current(tmp_path / "repo", "shop")


def test_a_version_can_be_published_without_making_it_current(tmp_path: Path) -> None:
    """A candidate for a canary lies beside the one that serves."""
    publish(tmp_path, "a")
    Releases(repository=tmp_path / "repo").publish(make_staging(tmp_path, mark="b"), "shop", activate=False)

    assert (serving(tmp_path), versions(tmp_path / "repo", "shop")) == ("a", ["1", "2"])


@pytest.mark.parametrize("limits", [{"keep": 0}, {"lock_wait_s": -1.0}, {"lock_wait_s": float("nan")}])
def test_limits_out_of_range_are_refused(tmp_path: Path, limits: dict[str, float]) -> None:
    """A repository that would keep nothing cannot be made."""
    with pytest.raises(ValueError, match="must be at least"):
        Releases(repository=tmp_path, **limits)  # type: ignore[arg-type]
