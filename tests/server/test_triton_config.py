"""The configuration that a Triton server reads of a published model: by its own protobuf, and by a real tritonserver."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from google.protobuf import json_format
from google.protobuf import text_format as protobuf_text
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from bench.real_triton import MISSING, run_until_exit, triton_venv
from server.artifacts.disk import Disk
from server.artifacts.errors import ArtifactError
from server.artifacts.manifest import BatchTime, Cost, Target
from server.artifacts.releases import Releases
from server.artifacts.repository import current_version
from server.artifacts.triton_config import config_of, preferred_sizes, served_of, text_format
from tests.tiny import MAX_K, Tiny, publish_tiny


def parsed(text: str) -> pb.ModelConfig:
    """Strict: an unknown field or a wrong enumeration is an error."""
    return protobuf_text.Parse(text, pb.ModelConfig())


def config_at(repository: Path, model: str = "tiny") -> pb.ModelConfig:
    return parsed((repository / model / "config.pbtxt").read_text())


def test_a_published_model_has_a_configuration_that_says_what_its_manifest_says(tiny: Tiny) -> None:
    config = config_at(tiny.repository)

    manifest = tiny.opened.manifest
    assert (config.name, config.platform, config.max_batch_size) == ("tiny", "onnxruntime_onnx", 8)
    assert (tiny.opened.folder / config.default_model_filename).is_file()
    assert list(config.version_policy.specific.versions) == [int(manifest.version)]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        ("item_ids", pb.TYPE_INT32, [-1]),
        ("exclude_ids", pb.TYPE_INT32, [-1]),
    ]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [
        ("ids", pb.TYPE_INT32, [MAX_K]),
        ("scores", pb.TYPE_FP32, [MAX_K]),
    ]
    assert not config.dynamic_batching.HasField("default_queue_policy")
    served = served_of(manifest)
    assert served is not None
    policy = parsed(
        text_format(config_of(manifest, served, queue_policy=True))
    ).dynamic_batching.default_queue_policy
    assert policy.timeout_action == pb.ModelQueuePolicy.REJECT and policy.allow_timeout_override
    assert policy.max_queue_size % 8 == 0 and policy.default_timeout_microseconds == 10_000_000
    assert {warm.batch_size for warm in config.model_warmup} == {1, 8}
    for name, given_input in config.model_warmup[0].inputs.items():
        raw = (tiny.repository / "tiny" / "warmup" / given_input.input_data_file).read_bytes()
        assert len(raw) == 4 * int(np.prod(given_input.dims)), name


def test_publish_and_rollback_move_the_version_policy(own_repository: Path) -> None:
    """A Triton server that polls the folder goes where our server goes, forwards and back, and finds its warm-up files."""
    publish_tiny(own_repository)
    publish_tiny(own_repository, seed=1)
    after_publish = config_at(own_repository)

    Releases(repository=own_repository).rollback("tiny")

    back = config_at(own_repository)
    assert list(after_publish.version_policy.specific.versions) == [2]
    assert list(back.version_policy.specific.versions) == [1]
    named = {one.input_data_file for warm in back.model_warmup for one in warm.inputs.values()}
    assert named == {file.name for file in (own_repository / "tiny" / "warmup").iterdir()}


def test_a_full_disk_at_the_configuration_leaves_the_published_version_current_and_says_so(
    own_repository: Path,
) -> None:
    class Full(Disk):
        def rename(self, source: Path, target: Path) -> None:
            if target.name == "config.pbtxt":
                raise OSError(28, "No space left on device")
            super().rename(source, target)

    publish_tiny(own_repository)
    publish_tiny(own_repository, seed=1)

    with pytest.raises(ArtifactError, match="version 1 is current, but its Triton configuration"):
        Releases(repository=own_repository, disk=Full()).rollback("tiny", to="1")

    assert current_version(own_repository, "tiny") == "1"
    assert list(config_at(own_repository).version_policy.specific.versions) == [2]  # whole, and the old one


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30))
def test_any_name_survives_the_text_form(name: str) -> None:
    """Quotes, backslashes, new lines and other scripts come back as they were."""
    text = text_format({"name": name, "input": [{"name": name, "dims": [1, -1]}]})

    back = parsed(text)

    assert back.name == name and back.input[0].name == name and list(back.input[0].dims) == [1, -1]


def test_the_text_form_holds_all_that_the_fields_do(tiny: Tiny) -> None:
    """Read back and written as JSON by protobuf, it is the fields that were written, each of them."""
    manifest = tiny.opened.manifest
    served = served_of(manifest)
    assert served is not None
    fields = config_of(manifest, served, queue_policy=True)

    back = json_format.MessageToDict(parsed(text_format(fields)), preserving_proto_field_name=True)

    parameters = {one["key"]: one["value"] for one in fields.pop("parameters")}
    assert back.pop("parameters") == parameters
    fields["dynamic_batching"].pop("max_queue_delay_microseconds")  # 0 is left out there
    assert (
        json_format.MessageToDict(
            json_format.ParseDict(fields, pb.ModelConfig()), preserving_proto_field_name=True
        )
        == back
    )


costs = st.tuples(st.floats(0, 1e-2), st.floats(1e-6, 1e-2))


@given(costs, st.sets(st.integers(1, 64), max_size=5), st.integers(2, 64))
def test_a_preferred_size_is_one_that_wastes_nothing(
    cost: tuple[float, float], sizes: set[int], most: int
) -> None:
    """Where Triton cuts its queue, a row costs at most a tenth more than in the largest batch."""
    measured = tuple(BatchTime(batch_size=n, median_s=1.0, p90_s=1.0, repeats=1) for n in sorted(sizes))
    base_s, per_item_s = cost
    target = Target(
        kind="onnxruntime",
        file="a",
        precision="fp32",
        cost=Cost(base_s=base_s, per_item_s=per_item_s, measured=measured),
    )

    chosen = preferred_sizes(target, most)

    assert most in chosen and set(chosen) <= sizes | {most}
    for size in chosen:
        assert base_s / size + per_item_s <= 1.1 * (base_s / most + per_item_s) + 1e-12


@pytest.mark.skipif(triton_venv() is None, reason=MISSING)
def test_a_real_tritonserver_reads_the_folder_and_lacks_only_its_backend(tiny: Tiny, tmp_path: Path) -> None:
    """It refuses unknown fields, types and platforms when it looks at a repository; ours it takes, and a spoilt one it does not.

    The wheel holds no ONNX Runtime backend, so that loading ends there: what the file computes is held against the golden
    answers by ONNX Runtime itself, in ``test_triton_package.py``.
    """
    good, spoilt = tmp_path / "good", tmp_path / "spoilt"
    shutil.copytree(tiny.repository, good)
    shutil.copytree(tiny.repository, spoilt)
    config = spoilt / "tiny" / "config.pbtxt"
    config.write_text(config.read_text().replace("preferred_batch_size: [8]", "preferred_batch_size: [9]"))

    said, refused = run_until_exit(good), run_until_exit(spoilt)

    assert "unable to find backend library for backend 'onnxruntime'" in said
    assert "| tiny" in said
    assert "dynamic batching preferred size must be <= max batch size for tiny" in refused


def test_a_version_without_a_graph_of_its_own_has_none(tiny: Tiny) -> None:
    """What our server binds tables to, Triton cannot open: better no configuration than one that fails there."""
    manifest = tiny.opened.manifest
    kept = tuple(file for file in manifest.files if not file.path.startswith("triton_"))

    assert served_of(msgspec.structs.replace(manifest, files=kept)) is None
