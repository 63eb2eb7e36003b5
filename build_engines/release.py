"""A build into the repository, whatever it is a build of: never twice, replayed from disk before it gets its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from build_engines.fingerprint import digest_of
from build_engines.hardware import code_version, packages
from build_engines.states import Output
from server.artifacts.errors import ArtifactError
from server.artifacts.manifest import CompressionStep, Manifest, Provenance
from server.artifacts.releases import Releases
from server.artifacts.repository import OpenedVersion, current_version, open_version, read_manifest, versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A version in the repository.

    Attributes:
        opened: the version.
        new: this run put it there.
        current: it is the one that serves.
    """

    opened: OpenedVersion
    new: bool
    current: bool


class Named(Protocol):
    """A recipe's [model]."""

    @property
    def name(self) -> str:
        """In the repository."""


class Publishing(Protocol):
    """A recipe's [publish]."""

    @property
    def activate(self) -> bool:
        """Whether the version is to serve."""


class Publishable(Protocol):
    """What a recipe says of a version's place."""

    @property
    def model(self) -> Named:
        """Its [model]."""

    @property
    def publish(self) -> Publishing:
        """Its [publish]."""


class Text(Protocol):
    """A recipe as it was written."""

    @property
    def text(self) -> str:
        """The file, and what was set on the command line."""

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of ``text``."""


class Made(Protocol):
    """A state of a line."""

    @property
    def output(self) -> Output:
        """What its stage left."""


def place(
    releases: Releases,
    recipe: Publishable,
    contents: Sequence[object],
    assemble: Callable[[Path, str], None],
    check: Callable[[OpenedVersion], None],
    *,
    scratch: Path,
    again: bool = False,
) -> Placed:
    """Publish a build, unless it is in the repository already.

    Args:
        releases: the repository.
        recipe: names the model, and says whether the version is to serve.
        contents: what makes this build another than others, its name apart.
        assemble: lays the version out in the folder that it is given, which is not there yet; gets the build's digest too.
        check: loads and replays the copy as the server does; raises where it would not serve.
        scratch: an empty folder on the workspace's disk.
        again: publish even if it is there.

    Raises:
        ArtifactError: the repository is busy or full, or the copy does not reproduce its golden answers.
    """
    model = recipe.model.name
    first, *others = contents
    build = digest_of([first, model, *others])[:24]
    found = None if again else published_before(releases.repository, model, build)
    if found is None:
        staging = scratch / "version"
        assemble(staging, build)
        opened = releases.publish(staging, model, check=check, activate=recipe.publish.activate)
    else:
        opened = open_version(found)
    return Placed(opened=opened, new=found is None, current=is_current(releases.repository, opened))


def provenance_of(
    recipe: Text,
    build: str,
    states: Sequence[Made],
    *,
    data: Mapping[str, str],
    hardware: Mapping[str, str],
    seeds: Mapping[str, int],
    chain: Sequence[CompressionStep] = (),
) -> Provenance:
    """Where a version came from, enough to make it again."""
    durations_s: dict[str, float] = {}
    for state in states:  # steps of a chain are stages of one name
        name = state.output.stage
        durations_s[name] = durations_s.get(name, 0.0) + state.output.seconds
    return Provenance(
        recipe=recipe.text,
        recipe_sha256=recipe.sha256,
        build=build,
        data=dict(data),
        code_version=code_version(),
        packages=packages(),
        hardware=dict(hardware),
        seeds=dict(seeds),
        durations_s=durations_s,
        chain=tuple(chain),
    )


def published_before(repository: Path, model: str, build: str) -> Path | None:
    """The version that this build became, or None."""
    for version in reversed(versions(repository, model)):
        try:
            manifest: Manifest = read_manifest(repository / model / version)
        except ArtifactError:
            continue
        if manifest.provenance.build == build:
            return repository / model / version
    return None


def is_current(repository: Path, opened: OpenedVersion) -> bool:
    """Whether it is the version that serves."""
    try:
        return current_version(repository, opened.manifest.model) == opened.manifest.version
    except ArtifactError:
        return False
