"""From a published text version to what writes: trusted by its bytes, its files and its golden texts, or refused in a sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from server.artifacts.errors import ArtifactError
from server.artifacts.golden import GOLDEN_FILE, Golden, read_golden, write_golden
from server.artifacts.repository import open_version
from server.pipelines.text_golden import LOGPROBS, TOKEN_IDS
from server.pipelines.text_loading import TextLoadOptions, load_text_model
from tests.server.artifact_cases import write_manifest
from tests.server.text_published import MODEL, TinyText, change_manifest


def test_a_version_that_would_write_otherwise_is_not_loaded(tiny_text: TinyText, tmp_path: Path) -> None:
    """Changed bytes, another golden text, a manifest that lies about the graph, another kind: each has its sentence."""
    repository = tmp_path / "repository"
    shutil.copytree(tiny_text.repository, repository)
    version = repository / MODEL / "1"
    golden = read_golden(version / GOLDEN_FILE)
    options = TextLoadOptions(threads=1)

    with (version / "tokenizer.json").open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: has"):
        open_version(version)
    shutil.copy(tiny_text.opened.folder / "tokenizer.json", version / "tokenizer.json")

    wrong = (golden.outputs[TOKEN_IDS] + 1) % 300
    write_golden(
        version / GOLDEN_FILE,
        Golden(inputs=golden.inputs, outputs={TOKEN_IDS: wrong, LOGPROBS: golden.outputs[LOGPROBS]}),
    )
    change_manifest(version)
    with pytest.raises(ArtifactError, match="golden replay differs on onnxruntime: 0 of"):
        load_text_model(open_version(version), options)
    write_golden(version / GOLDEN_FILE, golden)

    limits = tiny_text.opened.manifest.limits
    change_manifest(version, limits={**limits, "vocab_size": limits["vocab_size"] + 1})
    with pytest.raises(ArtifactError, match="logits are"):
        load_text_model(open_version(version), options)
    change_manifest(version, limits=limits)

    files = tuple(
        entry for entry in open_version(version).manifest.files if entry.path != "tokenizer_config.json"
    )
    write_manifest(version, msgspec.structs.replace(open_version(version).manifest, files=files))
    with pytest.raises(ArtifactError, match="not listed in the manifest"):
        load_text_model(open_version(version), options)


def test_a_shorter_context_may_be_served(tiny_text: TinyText) -> None:
    """text_max_context holds, in the info and in the pools; golden texts that do not fit it are passed over."""
    model = load_text_model(tiny_text.opened, TextLoadOptions(threads=1, slots=3, max_context=120))

    assert model.info.max_context == 120 and model.engine.limits.max_context == 120
    assert model.engine.limits.pools == {120: 3}
    model.engine.close()
