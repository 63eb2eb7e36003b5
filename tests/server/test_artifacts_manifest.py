"""The manifest refuses what it cannot vouch for, in a sentence that says what and what to do."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest

from server.artifacts.errors import ArtifactError, CorruptFile, NewerSchema
from server.artifacts.manifest import SCHEMA_VERSION, FileEntry, Manifest, Measurement
from server.artifacts.schema import decode_manifest, encode_manifest, manifest_problems
from tests.server.artifact_cases import PASSED, make_manifest, make_staging


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """A manifest that holds together."""
    return make_manifest(make_staging(tmp_path))


def test_a_manifest_survives_its_bytes(manifest: Manifest) -> None:
    """What the builder wrote is what the server reads."""
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_a_newer_schema_is_refused_before_its_unknown_keys_are(manifest: Manifest) -> None:
    """An operator with an old server is told to upgrade, not that a key is unknown."""
    raw = msgspec.json.decode(encode_manifest(manifest))
    raw.update(schema_version=SCHEMA_VERSION + 1, invented_later=[1, 2])

    with pytest.raises(NewerSchema, match=r"schema 2 is newer than 1.*upgrade"):
        decode_manifest(msgspec.json.encode(raw), "shop/3/manifest.json")


@pytest.mark.parametrize("cut", [0, 1, 20, 300])
def test_a_manifest_cut_short_is_refused(manifest: Manifest, cut: int) -> None:
    """A truncated manifest names its file and what to do."""
    with pytest.raises(CorruptFile, match=r"shop/3/manifest\.json.*publish the version again"):
        decode_manifest(encode_manifest(manifest)[:cut], "shop/3/manifest.json")


def test_an_unknown_key_is_named(manifest: Manifest) -> None:
    """A key nobody reads is an error, not a silent wish."""
    raw = msgspec.json.decode(encode_manifest(manifest))
    raw["limits_"] = {}

    with pytest.raises(CorruptFile, match="limits_"):
        decode_manifest(msgspec.json.encode(raw))


def test_bytes_that_are_not_utf8_are_refused(manifest: Manifest) -> None:
    """A damaged byte in a name is found."""
    with pytest.raises(ArtifactError):
        decode_manifest(encode_manifest(manifest).replace(b'"shop"', b'"sh\xff\xfe"'))


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a//b", ".", "a\\b", "tables/../../x"])
def test_no_file_may_leave_the_version(manifest: Manifest, path: str) -> None:
    """A manifest cannot make the server read outside its folder."""
    evil = FileEntry(path=path, sha256="0" * 64, size_bytes=1)

    problems = manifest_problems(msgspec.structs.replace(manifest, files=(*manifest.files, evil)))

    assert any("not a plain path" in problem for problem in problems)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"limits": {"max_batch": 1}}, "limit 'max_k' is missing"),
        (
            {"limits": {"max_batch": 0, "max_history": 5, "max_k": 5, "max_exclude": 5}},
            "limit 'max_batch' is 0",
        ),
        ({"targets": ()}, "no targets"),
        ({"evidence": ()}, "no evidence"),
        ({"graph": "other.onnx"}, "graph 'other.onnx' is not among the files"),
        ({"version": "latest"}, "version 'latest' is not a number"),
        ({"model": "../x"}, "not fit for a folder"),
        ({"inputs": ()}, "no inputs"),
    ],
)
def test_what_does_not_hold_together_is_said(
    manifest: Manifest, changes: dict[str, object], sentence: str
) -> None:
    """Each inconsistency has a sentence of its own."""
    problems = manifest_problems(msgspec.structs.replace(manifest, **changes))

    assert any(sentence in problem for problem in problems), problems


@pytest.mark.parametrize(
    "changes",
    [
        {"value": 0.5},
        {"value": math.nan},
        {"value": math.inf},
        {"sample_size": 0},
        {"verdict": "fail"},
        {"verdict": "undecidable"},
    ],
)
def test_evidence_never_passes_by_its_word_alone(changes: dict[str, object]) -> None:
    """NaN, no sample, or a figure on the wrong side of its limit is not a pass, whatever the verdict says."""
    assert PASSED.passed
    assert not msgspec.structs.replace(PASSED, **changes).passed


def test_failed_evidence_needs_the_flag_that_waives_it(manifest: Manifest) -> None:
    """Below the floor can be published only by saying so, and NaN not even then."""
    below = Measurement(
        kind="floor", name="NDCG@10 over the counts", value=0.9, unit="ratio", limit=1.0, sense="at_least",
        verdict="fail", sample_size=500, waived_by="below_floor",
    )  # fmt: skip
    flagged = msgspec.structs.replace(manifest, evidence=(PASSED, below), flags=("below_floor",))
    nothing = msgspec.structs.replace(below, value=math.nan)

    assert manifest_problems(flagged) == []
    assert "evidence failed" in manifest_problems(msgspec.structs.replace(flagged, flags=()))[0]
    assert manifest_problems(msgspec.structs.replace(flagged, evidence=(nothing,)))
