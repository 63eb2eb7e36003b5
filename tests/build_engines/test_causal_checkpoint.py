"""A checkpoint that is broken or not supported is refused with the file, and the field or tensor, that says so."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from build_engines.errors import BuildError
from build_engines.models.causal.architecture import Rope, read_architecture
from build_engines.models.causal.checkpoint import Checkpoint
from build_engines.models.causal.options import TextOptions
from build_engines.models.causal.package import package_text
from tests.build_engines.causal_models import CONTEXT, LLAMA3_ROPE, random_model

OPTIONS = TextOptions(variant="fp32", max_context=CONTEXT, max_chunk=64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random_model("qwen2").save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "mixtral"}, 'model_type = "mixtral"'),
        ({"hidden_act": "gelu"}, 'hidden_act = "gelu"'),
        ({"use_sliding_window": True}, "use_sliding_window = true"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 'rope_parameters.rope_type = "yarn"'),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 4.0}}, "rope_parameters.low_freq_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5"),
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3"),
        ({"num_hidden_layers": "2"}, 'num_hidden_layers = "2"'),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"hidden_size": None}, "hidden_size = null"),
        ({"vocab_size": -5}, "vocab_size = -5"),
        ({"rms_norm_eps": 0}, "rms_norm_eps = 0"),
        ({"tie_word_embeddings": "no"}, 'tie_word_embeddings = "no"'),
        ({"max_position_embeddings": 64}, "max_position_embeddings = 64"),
        ({"intermediate_size": 97}, "shape"),
    ],
)
def test_what_is_not_supported_is_named(folder: Path, fields: dict[str, Any], said: str) -> None:
    """The message holds the field and its value."""
    change(folder, **fields)

    with pytest.raises(BuildError) as caught:
        package_text(folder, folder / "out", options=OPTIONS)

    assert said in str(caught.value) and str(folder) in str(caught.value)


def test_an_end_of_text_outside_the_vocabulary_is_named_with_its_file(folder: Path) -> None:
    """generation_config.json wins over config.json, and is what is complained about."""
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 4096]}')

    with pytest.raises(BuildError, match=r"generation_config.json: eos_token_id"):
        read_architecture(folder)


def _without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.pop(name)  # type: ignore[return-value]


def _other_dtype(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"] = torch.ones(64, dtype=torch.float64)


def _extra(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.0.self_attn.q_norm.weight"] = torch.ones(16)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without("model.layers.1.mlp.up_proj.weight"), "model.layers.1.mlp.up_proj.weight"),
        (_without("model.layers.0.self_attn.q_proj.bias"), "model.layers.0.self_attn.q_proj.bias"),
        (_without("lm_head.weight"), "lm_head.weight"),
        (_other_dtype, "F64"),
        (_extra, "q_norm.weight"),
    ],
)
def test_tensors_that_are_missing_wrong_or_unknown_are_named(
    folder: Path, damage: Callable[[dict[str, torch.Tensor]], None], said: str
) -> None:
    """Nothing is left out silently: not a tensor that the graph needs, and not one that it would not use."""
    tensors = dict(random_model("qwen2").state_dict())
    damage(tensors)
    save_file(tensors, folder / "model.safetensors")

    with pytest.raises(BuildError) as caught:
        package_text(folder, folder / "out", options=OPTIONS)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        struct.pack("<Q", 10**12) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{x",
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}     ',
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}    ',
        struct.pack("<Q", 60) + b'{"a":{"dtype":"F32","shape":"x","data_offsets":[0,16]}}     ',
    ],
)
def test_files_that_are_no_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever is in the file, what comes out is a sentence with its name."""
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(BuildError, match=r"model\.safetensors"):
        Checkpoint(tmp_path)


def test_a_file_that_the_index_wants_and_is_not_there_is_named(folder: Path) -> None:
    """Half a download is refused by the name of the file to fetch."""
    (folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"x": "model-00002-of-00002.safetensors"}}'
    )

    with pytest.raises(BuildError, match="model-00002-of-00002"):
        Checkpoint(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """No folder, no stack trace."""
    with pytest.raises(BuildError, match="nowhere"):
        package_text(tmp_path / "nowhere", tmp_path / "out", options=OPTIONS)


def test_int4_says_which_size_does_not_fit_its_blocks(tmp_path: Path) -> None:
    """A width that is no multiple of 32 is named, with what to do."""
    model = random_model("llama")
    config = {**model.config.to_dict(), "intermediate_size": 80}
    type(model)(type(model.config)(**config)).save_pretrained(tmp_path)

    with pytest.raises(BuildError, match=r"intermediate_size = 80: int4 needs a multiple of 32"):
        package_text(
            tmp_path, tmp_path / "out", options=TextOptions(variant="int4", max_context=64, max_chunk=8)
        )


def test_old_and_new_words_for_rotations_mean_the_same(folder: Path) -> None:
    """rope_scaling beside rope_theta (before transformers 5) and rope_parameters give the same angles."""
    change(folder, rope_parameters=LLAMA3_ROPE)
    new = read_architecture(folder).rope
    old_words = {key: value for key, value in LLAMA3_ROPE.items() if key != "rope_theta"}
    change(folder, rope_parameters=None, rope_scaling=old_words, rope_theta=10000.0)

    assert read_architecture(folder).rope == new
    assert new.frequencies(16)[-1] == pytest.approx(Rope().frequencies(16)[-1] / 8)
    np.testing.assert_allclose(new.frequencies(16)[0], 1.0)
