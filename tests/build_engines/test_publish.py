"""What passed the gate reaches the repository whole, once, able to serve; or not at all, with a sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from build_engines.pipeline import verified_by
from build_engines.progress import Silent
from build_engines.publish import publish, replay
from build_engines.recipe import Recipe, load_recipe
from build_engines.states import Output, Verified
from build_engines.steps import Redo
from build_engines.version_files import link_folder
from build_engines.workspace import Workspace
from server.artifacts.disk import Disk
from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, Golden, read_golden, write_golden
from server.artifacts.releases import Releases
from server.artifacts.repository import current_version, open_version, versions
from tests.build_engines.mini_shop import RECIPE


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """The mini shop's."""
    (tmp_path / "mini.toml").write_text(RECIPE, encoding="utf-8")
    return load_recipe(tmp_path / "mini.toml")


@pytest.fixture
def verified(recipe: Recipe, mini_workspace: Path) -> Verified:
    """A candidate behind the gate."""
    return verified_by(recipe, Workspace(root=mini_workspace, progress=Silent()), Redo())


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder to assemble in."""
    (tmp_path / "scratch").mkdir()
    yield tmp_path / "scratch"


@pytest.mark.timeout(300)
def test_a_version_has_all_that_serving_needs(
    tmp_path: Path, recipe: Recipe, verified: Verified, scratch: Path
) -> None:
    """Graph, engines, tables, items, golden answers, report: listed, hashed, and able to answer."""
    published = publish(verified, recipe, Releases(repository=tmp_path / "repo"), scratch)

    opened = open_version(published.opened.folder)
    names = {entry.path for entry in opened.manifest.files}
    assert {
        "model.onnx",
        "item_ids.json",
        "item_columns.msgpack",
        "golden.npz",
        "report.html",
        "report.json",
    } <= names
    assert {
        path.relative_to(opened.folder).as_posix() for path in opened.folder.rglob("*") if path.is_file()
    } == {
        *names,
        "manifest.json",
    }
    assert published.new
    assert published.current
    replay(opened)


@pytest.mark.timeout(300)
def test_the_same_build_is_published_once(
    tmp_path: Path, recipe: Recipe, verified: Verified, scratch: Path
) -> None:
    """Typing the command twice makes no second version, even after a rollback; another name is another model."""
    releases = Releases(repository=tmp_path / "repo")
    first = publish(verified, recipe, releases, scratch)
    (scratch / "version").rename(scratch / "old")

    second = publish(verified, recipe, releases, scratch)
    third = publish(verified, recipe, releases, scratch, again=True)
    releases.rollback("mini", to="1")
    (scratch / "version").rename(scratch / "older")
    fourth = publish(verified, recipe, releases, scratch)

    assert (first.opened.folder, second.new) == (second.opened.folder, False)
    assert (third.opened.manifest.version, fourth.opened.manifest.version) == ("2", "2")
    assert not fourth.current, "whoever rolled back is not overruled by a cached build"
    assert versions(tmp_path / "repo", "mini") == ["1", "2"]


@pytest.mark.timeout(300)
def test_a_full_disk_while_publishing_leaves_the_old_version(
    tmp_path: Path, recipe: Recipe, verified: Verified, scratch: Path
) -> None:
    """The repository's disk fills up in the middle: the version before serves on, and the sentence says why."""

    class FillsUp(Disk):
        def write(self, descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    releases = Releases(repository=tmp_path / "repo")
    publish(verified, recipe, releases, scratch)
    (scratch / "version").rename(scratch / "old")

    with pytest.raises(
        ArtifactError, match=r"cannot publish mini: .*No space left on device.*free some space"
    ):
        publish(verified, recipe, replace(releases, disk=FillsUp()), scratch, again=True)

    assert (current_version(tmp_path / "repo", "mini"), versions(tmp_path / "repo", "mini")) == ("1", ["1"])


@pytest.mark.timeout(300)
def test_golden_answers_that_are_not_reproduced_stop_the_publish(
    tmp_path: Path, recipe: Recipe, verified: Verified, scratch: Path
) -> None:
    """A candidate whose engine answers otherwise than it did in the gate never gets a number."""
    folder = tmp_path / "tampered"
    link_folder(verified.output.folder, folder)
    golden_path = folder / "candidate" / GOLDEN_FILE
    golden = read_golden(golden_path)
    golden_path.unlink()
    wrong = {name: np.roll(array, 7, axis=-1) for name, array in golden.outputs.items()}
    write_golden(golden_path, Golden(inputs=golden.inputs, outputs=wrong))
    output: Output = replace(verified.output, folder=folder)

    with pytest.raises(ArtifactError, match="golden replay differs"):
        publish(replace(verified, output=output), recipe, Releases(repository=tmp_path / "repo"), scratch)

    assert versions(tmp_path / "repo", "mini") == []


@pytest.mark.timeout(300)
def test_a_version_can_be_kept_from_serving(
    tmp_path: Path, recipe: Recipe, verified: Verified, scratch: Path
) -> None:
    """``publish.activate = false`` puts a candidate beside the one that serves."""
    quiet = replace(recipe, publish=replace(recipe.publish, activate=False))

    published = publish(verified, quiet, Releases(repository=tmp_path / "repo"), scratch)

    assert not published.current
    with pytest.raises(ArtifactError, match="none is current"):
        current_version(tmp_path / "repo", "mini")
