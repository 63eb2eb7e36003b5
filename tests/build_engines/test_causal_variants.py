"""Quantized engines: near their parent by perplexity, on the kernels they are meant for, and built in bounded memory."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from build_engines.errors import BuildError, TargetError
from build_engines.models.causal.architecture import read_architecture
from build_engines.models.causal.checkpoint import Checkpoint
from build_engines.models.causal.forward import walk
from build_engines.models.causal.graph import GraphForm, build_graph
from build_engines.models.causal.kernels import check_kernels
from build_engines.models.causal.options import TextOptions, Variant
from build_engines.models.causal.package import compile_plan, package_text
from build_engines.models.causal.perplexity import compare, perplexity
from build_engines.models.causal.store import WeightFile
from server.engines.onnxruntime_causal import OnnxRuntimeCausal
from tests.build_engines.causal_models import CONTEXT, VOCAB, Packed, call, pack, prompt, random_model

CALIBRATION = [prompt(64, seed=100 + one)[None] for one in range(8)]


@pytest.fixture(scope="module")
def texts(parent: Packed) -> list[np.ndarray]:
    """What the parent itself writes, so that it has something to lose."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = torch.from_numpy(np.stack([prompt(2, seed=one) for one in range(8)]))
        written = parent.model.generate(
            start, max_new_tokens=38, min_new_tokens=38, do_sample=True, pad_token_id=0, eos_token_id=None
        )
    return [written.numpy()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("variants")


@pytest.fixture(scope="module")
def parent(place: Path) -> Packed:
    return pack(random_model("qwen3"), place)


@pytest.mark.parametrize(
    ("variant", "awq", "limit", "product"),
    [
        ("int8", False, 0.10, "MatMulIntegerToFloat"),
        ("int4", False, 0.60, "MatMulNBits"),
        ("int4", True, 0.60, "MatMulNBits"),
    ],
)
def test_a_quantized_engine_is_near_its_parent(
    parent: Packed,
    texts: list[np.ndarray],
    place: Path,
    variant: Variant,
    awq: bool,
    limit: float,
    product: str,
) -> None:
    """On texts that the parent wrote, perplexity rises little, and every product runs on the kernel meant for it."""
    packed = pack(parent.model, place, variant, calibration=CALIBRATION, awq=awq)

    found = compare(parent.engine(), packed.engine(), texts)

    assert found.parent < VOCAB / 2  # the parent expects its own texts
    assert found.rise < limit and found.low < found.rise < found.high
    assert packed.package.kernels[product] == 9
    assert packed.package.precisions == (variant,)
    assert sum(packed.package.files.values()) < sum(parent.package.files.values())


def test_two_graphs_share_a_cache_and_a_table(parent: Packed, place: Path) -> None:
    """What INT8 has read INT4 goes on with, within the errors of both; the embedding is on disk once."""
    packed = pack(parent.model, place, "int8+int4", calibration=CALIBRATION)
    engine, ids = packed.engine(), prompt(40)
    wanted = parent.logits_TV(ids)

    engine.run(call([ids[:-1]], [0]))
    token = call([ids[-1:]], [len(ids) - 1])
    own, light = engine.run(token)[0], engine.run(dataclasses.replace(token, light=True))[0]

    spread = wanted[-1].std()
    assert np.abs(own - wanted[-1]).max() < spread and np.abs(light - wanted[-1]).max() < 1.5 * spread
    assert np.abs(own - light).max() > 1e-3
    assert packed.package.precisions == ("int8", "int4") and packed.package.light == "light.onnx"
    files = packed.package.files
    assert files["light.weights"] < files["model.weights"] / 2
    engine.close()


def test_int4_is_the_same_product_in_either_form(parent: Packed, place: Path) -> None:
    """Written as the runtime's own operator, and as ai.onnx that it makes one of: equal logits."""
    import onnx_ir as ir

    from build_engines.models.causal.graph import GraphForm, build_graph
    from build_engines.models.causal.store import WeightFile
    from server.engines.onnxruntime_causal import OnnxRuntimeCausal

    found = []
    for fused in (False, True):
        target = place / f"fused-{fused}"
        target.mkdir()
        with Checkpoint(place / "checkpoint") as tensors, WeightFile(target) as store:
            form = GraphForm(precision="int4", max_context=CONTEXT, fused=fused)
            model = build_graph(read_architecture(place / "checkpoint"), tensors, store, form)
        (target / "model.onnx").write_bytes(ir.to_proto(model).SerializeToString())
        engine = OnnxRuntimeCausal(target / "model.onnx", pools={64: 1}, threads=1, max_chunk=64)
        found.append(engine.run(call([prompt(30)], [0])))

    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_scales_are_folded_without_changing_the_model(parent: Packed, place: Path) -> None:
    """In FP32, a graph with searched scales folded in answers as the one without."""
    import onnx_ir as ir

    from build_engines.models.causal.calibrate import calibrate
    from build_engines.models.causal.graph import GraphForm, build_graph
    from build_engines.models.causal.store import WeightFile
    from server.engines.onnxruntime_causal import OnnxRuntimeCausal
    from tests.build_engines.causal_models import call

    checkpoint, target = place / "checkpoint", place / "folded"
    target.mkdir()
    arch = read_architecture(checkpoint)
    options = TextOptions(variant="int4", awq=True, max_context=CONTEXT, max_chunk=64)
    with Checkpoint(checkpoint) as tensors, WeightFile(target) as store:
        folding = calibrate(checkpoint, arch, tensors, options, CALIBRATION)
        model = build_graph(arch, tensors, store, GraphForm(precision="fp32", max_context=CONTEXT), folding)
    (target / "model.onnx").write_bytes(ir.to_proto(model).SerializeToString())

    engine = OnnxRuntimeCausal(target / "model.onnx", pools={64: 1}, threads=1, max_chunk=64)
    found = engine.run(call([prompt(30)], [0]))

    kinds = {name.split(".")[-1] for name in folding.inputs}
    assert {"qkv", "gate_up", "down"} <= kinds
    np.testing.assert_allclose(found[0], parent.logits_TV(prompt(30))[-1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("family", ["llama-biases", "llama-3-rope-tied", "qwen2", "qwen3"])
def test_calibration_sees_what_the_model_computes(tmp_path: Path, family: str) -> None:
    """The last product that calibration is shown reads what transformers' head reads."""
    model = random_model(family)
    model.save_pretrained(tmp_path)
    seen: dict[str, torch.Tensor] = {}
    ids = np.stack([prompt(20, seed=1), prompt(20, seed=2)])

    with Checkpoint(tmp_path) as tensors:
        walk(read_architecture(tmp_path), tensors, [ids], lambda matrix, x: seen.update({matrix.name: x}))

    with torch.no_grad():
        wanted = model.model(torch.from_numpy(ids)).last_hidden_state.flatten(0, 1)
    torch.testing.assert_close(seen["head"], wanted, rtol=1e-4, atol=1e-4)
    assert len(seen) == 9


def test_a_cache_that_would_be_copied_is_refused(parent: Packed) -> None:
    """A node between attention and the cache's output would copy the cache in each step: not packaged."""
    model = onnx.load(parent.folder / "model.onnx", load_external_data=False)
    name = "present.0.k"
    attention = next(node for node in model.graph.node if name in node.output)
    attention.output[1] = "between"
    model.graph.node.append(onnx.helper.make_node("Identity", ["between"], [name]))
    broken = parent.folder / "copies.onnx"
    broken.write_bytes(model.SerializeToString())

    with pytest.raises(BuildError, match="copies the cache"):
        check_kernels(broken, read_architecture(parent.folder.parent / "checkpoint"), "fp32")


def test_a_fallback_to_other_kernels_is_refused(parent: Packed) -> None:
    """An FP32 graph is not accepted as INT4."""
    with pytest.raises(BuildError, match="0 MatMulNBits ran, must be 9"):
        check_kernels(
            parent.folder / "model.onnx", read_architecture(parent.folder.parent / "checkpoint"), "int4"
        )


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    """A checkpoint with a NaN in it is not packaged."""
    model = random_model("llama")
    model.model.norm.weight.data[3] = math.nan
    with pytest.raises(BuildError, match="not finite"):
        pack(model, tmp_path)


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "there are none"),
        ([np.zeros((2, 0), np.int64)], "batch 0"),
        ([np.full((1, 4), VOCAB)], f"the model has {VOCAB}"),
        ([np.zeros((1, CONTEXT + 1), np.int64)], "was trained for 128"),
        ([np.zeros(4, np.int64)], "must be int64"),
    ],
)
def test_calibration_that_cannot_be_used_is_named(
    parent: Packed, tmp_path: Path, batches: list[np.ndarray], said: str
) -> None:
    """INT8 is not written without texts of this model."""
    options = TextOptions(variant="int8", max_context=CONTEXT, max_chunk=64)
    with pytest.raises(BuildError, match=said):
        package_text(parent.folder.parent / "checkpoint", tmp_path, options=options, calibration=batches)


@pytest.mark.parametrize("variant", ["fp32", "int8", "int4"])
def test_a_tensorrt_plan_is_built(place: Path, parent: Packed, variant: Variant) -> None:
    """The real builder takes the graph with its KV length fixed, every attention with its mask."""
    pytest.importorskip("tensorrt_rtx")
    plan = compile_plan(
        place / "checkpoint", kind="tensorrt_rtx", capability="sm86", max_batch=4, calibration=CALIBRATION,
        options=TextOptions(variant=variant, max_context=CONTEXT, max_chunk=64),
    )  # fmt: skip

    assert len(plan) > 10_000


def test_a_gpu_that_the_builder_does_not_know_is_named(place: Path, parent: Packed) -> None:
    """The error lists what it knows."""
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(TargetError, match="SM86"):
        compile_plan(
            place / "checkpoint", kind="tensorrt_rtx", capability="sm12345", max_batch=1,
            options=TextOptions(variant="fp32", max_context=CONTEXT, max_chunk=64),
        )  # fmt: skip


def test_perplexity_is_that_of_transformers(parent: Packed, texts: list[np.ndarray]) -> None:
    """Read token by token through the cache, the loss is transformers' own; compared with itself nothing rises."""
    ids = torch.from_numpy(texts[0])
    with torch.no_grad():
        wanted = math.exp(float(parent.model(ids, labels=ids).loss))

    assert perplexity(parent.engine(), texts) == pytest.approx(wanted, rel=1e-4)
    alike = compare(parent.engine(), parent.engine(), texts)
    assert (alike.rise, alike.low, alike.high) == (0.0, 0.0, 0.0)
    assert (alike.texts, alike.tokens) == (8, 8 * 39)


@pytest.mark.parametrize("variant", ["fp32", "int8", "int4"])
def test_weights_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: Variant) -> None:
    """However large the checkpoint, what is in memory at once is a few pieces of one matrix."""
    import tracemalloc

    from build_engines.models.causal import matrices
    from build_engines.models.causal.graph import GraphForm, build_graph, matrix_count
    from build_engines.models.causal.matrices import Folding
    from build_engines.models.causal.store import WeightFile
    from tests.build_engines.causal_models import SIZES

    wide = {
        **SIZES,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "vocab_size": 2048,
    }
    config = type(random_model("qwen2").config)(**wide)
    type(random_model("qwen2"))(config).save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    monkeypatch.setattr(matrices, "PIECE_VALUES", 64 * 1024)
    arch = read_architecture(tmp_path)
    names = [f"layers.{i}.{part}" for i in range(4) for part in ("qkv", "out", "gate_up", "down")] + ["head"]
    folding = Folding(activation_scales=dict.fromkeys(names, 0.1))

    with Checkpoint(tmp_path) as tensors, WeightFile(tmp_path) as store:
        tracemalloc.start()
        build_graph(arch, tensors, store, GraphForm(precision=variant, max_context=64), folding)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert len(names) == matrix_count(arch)
    assert size > 15_000_000
    assert peak < size / 4


def test_a_version_whose_attention_is_dense_answers_the_same(parent: Packed, tmp_path: Path) -> None:
    """Packages of before attention was grouped are served on, in pools of their own kind, with the same logits."""
    arch, checkpoint = (
        read_architecture(parent.folder.parent / "checkpoint"),
        parent.folder.parent / "checkpoint",
    )
    with Checkpoint(checkpoint) as tensors, WeightFile(tmp_path, "model.weights") as store:
        model = build_graph(arch, tensors, store, GraphForm(precision="fp32", max_context=CONTEXT))
    (tmp_path / "model.onnx").write_bytes(ir.to_proto(model).SerializeToString())
    asked: list[bool] = []
    dense = OnnxRuntimeCausal(
        tmp_path / "model.onnx", pools=lambda one: asked.append(one) or {64: 4}, threads=1, max_chunk=64
    )
    grouped = parent.engine({64: 4})
    rows = [prompt(9, seed=4), prompt(5, seed=5)]

    for filled, tokens in (
        ([0, 0], rows),
        ([9, 5], [prompt(3, seed=6), prompt(2, seed=7)]),
        ([12, 7], [rows[0][:1]] * 2),
    ):
        np.testing.assert_allclose(
            dense.run(call(tokens, filled)), grouped.run(call(tokens, filled)), rtol=1e-4, atol=1e-4
        )
    assert asked == [True]
