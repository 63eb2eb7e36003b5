"""How a text model learns: plain values that a recipe can hold, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Method = Literal["full", "lora", "qlora"]
Optimizer = Literal["adamw", "muon"]
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningConfig:
    """How a causal model is trained ([finetune.training]).

    Attributes:
        method: "full" moves every weight; "lora" learns small matrices beside them, merged before export; "qlora" does so beside a
            base in 4 bits, whose rounding stays in the merged weights.
        qlora_base: levels of that base, "nf4" or "int4".
        epochs: passes over the pairs (>= 1).
        batch_tokens: tokens a step holds, padding included (>= 1); a longer pair is a batch of its own.
        learning_rate: peak (> 0); 2e-4 suits LoRA, 2e-5 a full fine-tuning of a trained model.
        weight_decay: on matrices (>= 0).
        warmup_share: of all steps, until the peak (0..1).
        schedule: from the peak to 0, "linear" or "cosine".
        accumulate: batches whose gradients make one step (>= 1).
        average: what a step keeps of the running mean of the weights, which is judged and kept (0..1; 0: none).
        checkpoint_activations: compute activations again in the backward pass: less memory, more time.
        clip_norm: of the gradient (> 0).
        optimizer: "adamw", or "muon" for the matrices inside the blocks (faster from scratch; "full" only).
        lora_rank, lora_alpha, lora_dropout, lora_targets: of "lora" and "qlora"; targets are module names, and one that the model
            does not have is refused.
        evaluate_every: steps between held-out losses (0: once an epoch).
        checkpoint_every: steps between checkpoints (>= 1).
        patience: held-out losses without a better one before stopping (>= 1).
        seed: of order, dropout and new weights.
        bfloat16: matrices are multiplied in bfloat16; None: where the device has it in hardware.
        device: torch device.

    Raises:
        ValueError: a value is out of range; names it.
    """

    method: Method = "lora"
    qlora_base: Literal["nf4", "int4"] = "nf4"
    epochs: int = 3
    batch_tokens: int = 4096
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    warmup_share: float = 0.03
    schedule: Literal["linear", "cosine"] = "linear"
    accumulate: int = 1
    average: float = 0.0
    checkpoint_activations: bool = False
    clip_norm: float = 1.0
    optimizer: Optimizer = "adamw"
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    lora_targets: tuple[str, ...] = LORA_TARGETS
    evaluate_every: int = 0
    checkpoint_every: int = 200
    patience: int = 3
    seed: int = 0
    bfloat16: bool | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in (
            "epochs", "batch_tokens", "lora_rank", "lora_alpha", "checkpoint_every", "patience", "accumulate",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use 1 or more")
        for name in ("evaluate_every", "seed", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; use 0 or more")
        for name in ("learning_rate", "clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}; use a number above 0")
        for name in ("warmup_share", "lora_dropout", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use a share from 0 to below 1")
        if self.method != "full" and self.optimizer == "muon":
            raise ValueError('optimizer "muon" is for method "full": LoRA\'s matrices are too thin for it')
        if not self.lora_targets:
            raise ValueError("lora_targets is empty; name at least one module, such as q_proj")
