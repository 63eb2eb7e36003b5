"""Which version is meant by what a person types: "shop", "shop:3", or a folder."""

from __future__ import annotations

from pathlib import Path

from build_engines.compare.records import Side
from build_engines.errors import BuildError
from build_engines.proof.examples import EXAMPLES_FILE, Examples, read_examples
from build_engines.proof.footprint import served_bytes
from server.artifacts.manifest import MANIFEST_FILE
from server.artifacts.repository import OpenedVersion, current_version, open_version


def find_version(text: str, repository: Path) -> OpenedVersion:
    """Open a version, all its hashes checked.

    Args:
        text: a folder that holds a manifest, or ``model`` (its current version), or ``model:version``.
        repository: where models are published.

    Raises:
        ArtifactError: there is none, or it is damaged; says what there is.
    """
    folder = Path(text)
    if (folder / MANIFEST_FILE).is_file():
        return open_version(folder)
    model, colon, version = text.partition(":")
    return open_version(repository / model / (version if colon else current_version(repository, model)))


def side_of(opened: OpenedVersion, signed_by: str = "") -> Side:
    """What a page says of a version."""
    manifest = opened.manifest
    target = manifest.target("onnxruntime") or manifest.targets[0]
    published = manifest.version != "0"
    return Side(
        name=f"{manifest.model} version {manifest.version}" if published else str(opened.folder),
        model=manifest.model,
        version=manifest.version,
        precision=target.precision,
        created_unix_s=manifest.created_unix_s,
        size_bytes=served_bytes(manifest),
        build=manifest.provenance.build,
        recipe_sha256=manifest.provenance.recipe_sha256,
        signed_by=signed_by,
    )


def examples_of(a: OpenedVersion, b: OpenedVersion) -> tuple[Examples, OpenedVersion, bool]:
    """The examples to judge both on, whose they are, and whether both have these.

    Of two versions the later one's are taken: what it was judged on came after everything that the earlier one learnt from,
    while the earlier one's examples may be among what the later one learnt from.

    Raises:
        BuildError: neither kept its examples.
    """
    kept = [one for one in (a, b) if any(entry.path == EXAMPLES_FILE for entry in one.manifest.files)]
    if not kept:
        raise BuildError(
            f"neither {a.folder} nor {b.folder} holds {EXAMPLES_FILE}: they were built before it was kept, or with "
            "gate.keep_examples = false; build one of them again"
        )
    found = {one.folder: read_examples(one.path(EXAMPLES_FILE)) for one in kept}
    # Of equal age (two builds that were never published): the second, which is what is to be.
    source = max(reversed(kept), key=lambda one: one.manifest.created_unix_s)
    same = len(found) == 2 and len({one.sha256 for one in found.values()}) == 1
    return found[source.folder], source, same or a.folder == b.folder
