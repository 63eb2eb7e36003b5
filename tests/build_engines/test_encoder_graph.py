"""An encoder's graph is the checkpoint it was made of: in every family, padded or not, in INT8 too; else it is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_engines.errors import BuildError, TargetError
from build_engines.intents.head import IntentHead
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.options import EncoderOptions
from build_engines.models.encoder.package import EncoderPackage, compile_plan, package_encoder
from server.engines.onnxruntime_encoder import OnnxRuntimeEncoder
from tests.build_engines.encoder_models import (
    FAMILIES,
    POSITIONS,
    random_model,
    save_checkpoint,
    sentence_files,
    texts,
    wanted,
)

FP32, INT8 = EncoderOptions(variant="fp32"), EncoderOptions(variant="int8")
CALIBRATION = texts(48, seed=1)


def packaged(
    folder: Path, options: EncoderOptions = FP32, **more: Any
) -> tuple[OnnxRuntimeEncoder, EncoderPackage]:
    out = folder.with_name(f"{folder.name}-{options.variant}")
    package = package_encoder(folder, out, options=options, calibration=CALIBRATION, **more)
    return OnnxRuntimeEncoder(out / "model.onnx"), package


def vectors(engine: OnnxRuntimeEncoder, ids: list[Ids]) -> npt.NDArray[np.float32]:
    return engine.run(*padded(ids)).embedding_BD


def cosines(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_what_transformers_computes(tmp_path: Path, family: str) -> None:
    """Random weights, biases and norms; texts of different lengths in one batch, none of which sees the padding of another."""
    model = random_model(family)
    engine, package = packaged(save_checkpoint(model, tmp_path / "checkpoint"))
    ids = texts(6)

    found = vectors(engine, ids)

    assert np.abs(found - wanted(model, ids)).max() < 2e-5
    assert package.limits["max_tokens"] == POSITIONS - (2 if "roberta" in family else 0)


@pytest.mark.parametrize("family", ["bert", "distilbert", "xlm-roberta", "multilingual-e5"])
def test_int8_points_where_fp32_does(tmp_path: Path, family: str) -> None:
    """Cosine with the FP32 engine is 0.99 and more on texts that calibration did not see, and the file is much smaller."""
    folder = save_checkpoint(random_model(family), tmp_path / "checkpoint")
    plain, parent = packaged(folder)
    engine, package = packaged(folder, INT8)
    ids = texts(32, seed=2)

    assert cosines(vectors(engine, ids), vectors(plain, ids)).min() > 0.99
    assert package.kernels["MatMulIntegerToFloat"] == 12 and package.kernels["Attention"] == 2
    assert package.files["model.onnx"] < 0.45 * parent.files["model.onnx"]


def test_the_word_table_is_int8_and_nobody_dequantizes_it(tmp_path: Path) -> None:
    """Rows are gathered as codes; a DequantizeLinear in front of a Gather would be computed over the whole table, each run."""
    folder = save_checkpoint(random_model("bert"), tmp_path / "checkpoint")
    packaged(folder, INT8)
    graph = onnx.load(str(tmp_path / "checkpoint-int8" / "model.onnx")).graph

    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert kinds["words.codes"] == onnx.TensorProto.INT8
    dequantized = {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    assert "words.codes" not in dequantized


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(min_value=3, max_value=POSITIONS - 2), min_size=1, max_size=6), st.integers(0, 2**20)
)
def test_a_text_has_one_vector_whatever_company_it_is_in(lengths: list[int], seed: int) -> None:
    """Alone or in a batch of any lengths, with any tokens behind its end: padding is never read."""
    generator = np.random.default_rng(seed)
    ids = [generator.integers(4, 96, length) for length in lengths]
    input_ids, sizes = padded(ids)
    input_ids[np.arange(input_ids.shape[1]) >= sizes[:, None]] = generator.integers(4, 96)

    together = _shared_engine().run(input_ids, sizes).embedding_BD

    alone = np.concatenate([vectors(_shared_engine(), [one]) for one in ids])
    assert np.abs(together - alone).max() < 1e-5


_ENGINES: list[OnnxRuntimeEncoder] = []


def _shared_engine() -> OnnxRuntimeEncoder:
    return _ENGINES[0]


@pytest.fixture(autouse=True, scope="module")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("shared") / "checkpoint"
    _ENGINES[:] = [packaged(save_checkpoint(random_model("roberta"), folder))[0]]


def test_files_of_sentence_transformers_are_honoured(tmp_path: Path) -> None:
    """CLS pooling without normalization, a longest text and prompts come from the folder; what a caller says wins."""
    model = random_model("bert")
    folder = save_checkpoint(model, tmp_path / "checkpoint")
    sentence_files(folder, 64)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 20, "do_lower_case": false}')
    prompts = {"prompts": {"query": "query: ", "document": "passage: "}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    ids = texts(4, longest=18)

    engine, package = packaged(folder)

    assert np.abs(vectors(engine, ids) - wanted(model, ids, pooling="cls", normalize=False)).max() < 1e-4
    assert package.limits == {"max_tokens": 20, "vocab_size": 96, "dim": 64}
    described = json.loads((tmp_path / "checkpoint-fp32" / "encoder.json").read_text())
    assert described["prefixes"] == {"query": "query: ", "passage": "passage: ", "plain": ""}
    assert (described["pooling"], described["normalize"]) == ("cls", False)

    options = replace(FP32, pooling="mean", normalize=True, max_tokens=30, prefixes={"plain": "text: "})
    again, _ = packaged(folder, options)
    assert np.abs(vectors(again, ids) - wanted(model, ids)).max() < 2e-5


def test_matryoshka_keeps_the_first_values_and_their_length_is_one(tmp_path: Path) -> None:
    """A vector of 32 is the first half of the one of 64, made of length 1 again; narrower widths are listed."""
    model = random_model("bert")
    folder = save_checkpoint(model, tmp_path / "checkpoint")
    ids = texts(4)

    engine, _ = packaged(folder, replace(FP32, dim=32, dims=(16,)))

    halves = wanted(model, ids, normalize=False)[:, :32]
    halves /= np.linalg.norm(halves, axis=1, keepdims=True)
    assert np.abs(vectors(engine, ids) - halves).max() < 2e-5
    assert json.loads((tmp_path / "checkpoint-fp32" / "encoder.json").read_text())["dims"] == [32, 16]


def test_an_intent_head_gives_logits_and_is_described(tmp_path: Path) -> None:
    """``logits`` are what the head makes of the engine's own vector, and intents.json names them."""
    head = IntentHead(
        weights_CD=np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32),
        bias_C=np.array([0.5, 0.0, -0.5], np.float32),
        labels=("order", "return", "other"),
        temperature=0.7,
        threshold=0.4,
    )
    folder = save_checkpoint(random_model("bert"), tmp_path / "checkpoint")

    for options in (FP32, INT8):
        engine, package = packaged(folder, options, head=head)
        out = engine.run(*padded(texts(5)))

        assert out.logits_BC is not None
        assert np.abs(out.logits_BC - head.logits(out.embedding_BD)).max() < 1e-4
        assert [tensor.name for tensor in package.outputs] == ["embedding", "logits"]
        described = json.loads((tmp_path / f"checkpoint-{options.variant}" / "intents.json").read_text())
        assert described == {"labels": ["order", "return", "other"], "temperature": 0.7, "threshold": 0.4}


def test_a_head_for_another_width_is_refused(tmp_path: Path) -> None:
    """A head that was trained on another encoder is named with both widths, not multiplied by."""
    head = IntentHead(
        weights_CD=np.ones((2, 48), np.float32), bias_C=np.zeros(2, np.float32), labels=("a", "b")
    )
    folder = save_checkpoint(random_model("bert"), tmp_path / "checkpoint")

    with pytest.raises(BuildError, match=r"vectors of 48, the encoder's have 64"):
        packaged(folder, head=head)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("model_type", "mpnet", 'model_type = "mpnet": not supported, there are bert, distilbert, roberta'),
        ("position_embedding_type", "relative_key", "position_embedding_type"),
        ("is_decoder", True, "a decoder is no sentence encoder"),
        ("hidden_act", "silu", 'hidden_act = "silu": not supported'),
        ("num_attention_heads", 5, r"must divide hidden_size \(64\)"),
        ("hidden_size", 32, "config.json says"),
        ("vocab_size", 97, r"word_embeddings.weight' has shape \(96, 64\), config.json says \(97, 64\)"),
        ("num_hidden_layers", 3, "tensor .*layer.2.* is missing"),
        ("num_hidden_layers", 1, "tensors are not part of a bert encoder"),
        ("layer_norm_eps", -1, "must be a number above 0"),
    ],
)
def test_what_the_graph_cannot_be_is_refused_by_its_field(
    tmp_path: Path, field: str, value: object, said: str
) -> None:
    """A field that is not understood is an error with its name and value, never a model that answers something else."""
    folder = save_checkpoint(random_model("bert"), tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))

    with pytest.raises(BuildError, match=said):
        packaged(folder)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("pooling_mode_max_tokens", "pooling_mode_max_tokens = true: not supported"),
        ("pooling_mode_weightedmean_tokens", "pooling_mode_weightedmean_tokens = true: not supported"),
    ],
)
def test_a_pooling_that_is_not_supported_is_named(tmp_path: Path, mode: str, said: str) -> None:
    """Max pooling and its kin are refused by their field."""
    folder = save_checkpoint(random_model("bert"), tmp_path / "checkpoint")
    sentence_files(folder, 64, mode=mode)

    with pytest.raises(BuildError, match=said):
        packaged(folder)


def test_a_dense_layer_behind_the_pooling_is_named(tmp_path: Path) -> None:
    """modules.json with a Dense layer is refused with the list that it has."""
    folder = save_checkpoint(random_model("bert"), tmp_path / "checkpoint")
    sentence_files(folder, 64)
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))

    with pytest.raises(BuildError, match=r'modules.json: type = .*"Dense"'):
        packaged(folder)


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        ([], "int8 needs calibration texts"),
        ([np.array([2, 96, 3])], "tokens 2..96, the encoder has 96"),
        ([np.array([], np.int64)], r"of shape \(0,\)"),
        ([np.full(POSITIONS + 1, 5)], f"{POSITIONS + 1} tokens, the encoder reads {POSITIONS}"),
    ],
)
def test_calibration_texts_that_cannot_be_read_are_refused(
    tmp_path: Path, calibration: list[Ids], said: str
) -> None:
    """None at all, tokens of another model, an empty text, one that is too long: each has its sentence."""
    folder = save_checkpoint(random_model("bert"), tmp_path / "checkpoint")

    with pytest.raises(BuildError, match=said):
        package_encoder(folder, tmp_path / "out", options=INT8, calibration=calibration)


@pytest.mark.parametrize("options", [FP32, INT8], ids=["fp32", "int8"])
def test_a_tensorrt_plan_is_built(tmp_path: Path, options: EncoderOptions) -> None:
    """The real builder takes the graph without a warning, its attentions keep their masks."""
    pytest.importorskip("tensorrt_rtx")
    folder = save_checkpoint(random_model("bert"), tmp_path / "checkpoint")

    plan = compile_plan(
        folder, kind="tensorrt_rtx", capability="sm86", options=options, max_batch=4, calibration=CALIBRATION
    )

    assert len(plan) > 10_000


def test_a_gpu_that_nobody_knows_is_named(tmp_path: Path) -> None:
    """The refusal says which GPUs there are."""
    pytest.importorskip("tensorrt_rtx")
    folder = save_checkpoint(random_model("bert"), tmp_path / "checkpoint")

    with pytest.raises(TargetError, match=r"cannot build for 'sm12345'"):
        compile_plan(folder, kind="tensorrt_rtx", capability="sm12345", options=FP32, max_batch=1)
