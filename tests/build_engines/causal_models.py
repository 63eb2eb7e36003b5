"""Checkpoints of every family with random weights, and transformers' own answers on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from build_engines.models.causal.options import TextOptions
from build_engines.models.causal.package import TextPackage, package_text
from server.engines.causal import CausalCall
from server.engines.onnxruntime_causal import OnnxRuntimeCausal

VOCAB, CONTEXT = 96, 128
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT, "eos_token_id": 1,
}  # fmt: skip
LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
FAMILIES: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama-3-rope-tied": lambda: LlamaForCausalLM(
        LlamaConfig(**SIZES, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=True)
    ),
    "llama-biases": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True)),
    "llama-linear-rope-one-kv-head": lambda: LlamaForCausalLM(
        LlamaConfig(**{**SIZES, "num_key_value_heads": 1}, rope_parameters=LINEAR_ROPE)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen2-tied": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32, tie_word_embeddings=True)),
}


def random_model(name: str, seed: int = 0) -> Any:
    """A model whose every parameter is random, biases and norms too; wide enough that answers differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FAMILIES[name]()
        for label, value in model.named_parameters():
            if "norm" in label:
                value.data.uniform_(0.5, 1.5)
            elif "embed" in label:
                value.data.normal_(0.0, 0.5)
            else:
                value.data.normal_(0.0, 0.15)
    return model.eval()


@dataclass(frozen=True)
class Packed:
    """A packaged model beside transformers' own."""

    model: Any
    folder: Path
    package: TextPackage

    def engine(self, pools: dict[int, int] | None = None, **kwargs: Any) -> OnnxRuntimeCausal:
        if self.package.light is not None:
            kwargs.setdefault("light", self.folder / self.package.light)
        return OnnxRuntimeCausal(
            self.folder / "model.onnx", pools=pools or {64: 4, CONTEXT: 2}, threads=1, max_chunk=64, **kwargs
        )

    def logits_TV(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            return self.model(torch.from_numpy(ids[None, :])).logits[0].float().numpy()

    def greedy(self, ids: npt.NDArray[np.int64], tokens: int) -> list[int]:
        answer = self.model.generate(
            torch.from_numpy(ids[None, :]), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0,
            eos_token_id=None,
        )  # fmt: skip
        return answer[0, len(ids) :].tolist()


def pack(model: Any, folder: Path, variant: str = "fp32", **kwargs: Any) -> Packed:
    """Save and package a model."""
    checkpoint = folder / "checkpoint"
    if not checkpoint.exists():
        model.save_pretrained(checkpoint)
    calibration = kwargs.pop("calibration", ())
    options = TextOptions(variant=variant, max_context=CONTEXT, max_chunk=64, **kwargs)  # type: ignore[arg-type]
    target = folder / f"{variant}{'-awq' if kwargs.get('awq') else ''}"
    return Packed(model, target, package_text(checkpoint, target, options=options, calibration=calibration))


def call(
    rows: list[npt.NDArray[np.int64]], filled: list[int], *, capacity: int = 64, first: int = 0
) -> CausalCall:
    """Rows of new tokens, padded on the right with token 7."""
    ids_BT = np.full((len(rows), max(1, *(len(row) for row in rows))), 7, np.int64)
    for place, row in zip(ids_BT, rows, strict=True):
        place[: len(row)] = row
    n_new = np.array([len(row) for row in rows], np.int64)
    return CausalCall(capacity, first, ids_BT, np.array(filled, np.int64), n_new)


def prompt(length: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Random tokens."""
    return np.random.default_rng(seed).integers(0, VOCAB, length)
