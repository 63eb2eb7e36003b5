"""The first stage as it lies in the repository: which version, and how it divided its log; looked at before any stage runs."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import asdict
from pathlib import Path

import msgspec

from build_engines.data.splits import SplitRule
from build_engines.errors import RecipeError
from build_engines.recipe_toml import apply_sets
from build_engines.rerank.recipe_parts import CandidatesPart, FirstStagePart
from server.artifacts.errors import ArtifactError
from server.artifacts.manifest import MANIFEST_FILE, Manifest
from server.artifacts.repository import current_version, read_manifest

_SET = "# --set "  # how a recipe notes what was set on the command line


def resolved(repository: Path, first: FirstStagePart) -> CandidatesPart:
    """The first stage as it lies in the repository.

    Raises:
        ArtifactError: there is no such model or version; says which there are.
    """
    version = first.version or current_version(repository, first.model)
    file = repository / first.model / version / MANIFEST_FILE
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(
            f"first_stage: {first.model} version {version} cannot be read ({error.strerror}); publish it first, or name another"
        ) from error
    return CandidatesPart(
        repository=repository,
        first=first,
        version=version,
        manifest_sha256=digest,
        split=_split_of(read_manifest(repository / first.model / version)),
    )


def _split_of(manifest: Manifest) -> dict[str, object] | None:
    text = manifest.provenance.recipe
    sets = [line.removeprefix(_SET) for line in text.splitlines() if line.startswith(_SET)]
    try:
        whole = tomllib.loads(text)
        apply_sets(whole, sets)
        table = whole.get("split", {})
        rule: dict[str, object] = msgspec.to_builtins(asdict(msgspec.convert(table, type=SplitRule)))
        return rule
    except (ValueError, TypeError, RecipeError):
        return None  # an older builder's, or not written as TOML; the log itself was compared
