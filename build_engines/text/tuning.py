"""Learning of a causal language model from pairs: all of it or LoRA, resumable at every checkpoint, best by held-out loss.

The loss is of the answer's tokens alone, over all of them in a batch. The learning rate is warmed up and then falls to 0. The loop itself, and what makes it resumable, stands in ``build_engines.tuning_loop``.

Units: steps are updates of the weights; losses are nats a token; times are seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from build_engines.text.batches import answer_loss, padded
from build_engines.text.pairs import EncodedPair
from build_engines.text.tuning_parts import TuningConfig
from build_engines.tuning_loop import (
    LoopOptions,
    LossPoint,
    Plan,
    TuningResult,
    has_bfloat16,
    plan_epoch,
    run_loop,
)
from build_engines.tuning_loop import (
    TuningDiverged as TuningDiverged,
)  # also offered here: what ``tune`` raises

_KEPT_EVALUATION_TOKENS = 16_384  # of one forward pass without gradients


def tune(
    model: nn.Module,
    config: TuningConfig,
    pairs: Sequence[EncodedPair],
    heldout: Sequence[EncodedPair],
    *,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, LossPoint | None], None] | None = None,
) -> TuningResult:
    """Train the parameters of ``model`` that require gradients, and leave the best weights in it.

    Args:
        model: a causal model of transformers, or one that ``peft`` wrapped.
        config: see there.
        pairs: to learn from, at least one.
        heldout: to judge by, at least one; none of them in ``pairs``.
        checkpoint: file written atomically at every point and every ``config.checkpoint_every`` steps; if it exists,
            training goes on from it.
        progress: called after every step with step, steps in all, and the point if one was measured; what it raises ends
            the training.

    Raises:
        ValueError: nothing to learn from or to judge by, or a checkpoint of another configuration or data.
        TuningDiverged: the loss is NaN or infinite.
    """
    if not pairs or not heldout:
        raise ValueError(
            f"{len(pairs)} pairs to learn from and {len(heldout)} held out; both need at least one"
        )
    model.to(config.device)
    parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
    if not parameters:
        raise ValueError("no parameter of the model requires gradients: nothing can be learnt")
    result = run_loop(
        _Answers(model, config, pairs, heldout),
        parameters,
        _optimizers(parameters, config),
        LoopOptions(
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            warmup_share=config.warmup_share,
            schedule=config.schedule,
            clip_norm=config.clip_norm,
            evaluate_every=config.evaluate_every,
            checkpoint_every=config.checkpoint_every,
            patience=config.patience,
            average=config.average,
            accumulate=config.accumulate,
            checkpoint_activations=config.checkpoint_activations,
            seed=config.seed,
            device=config.device,
        ),
        identity=_fingerprint(model, config, pairs, heldout),
        checkpoint=checkpoint,
        progress=progress,
    )
    model.eval()
    return result


class _Answers:
    """A ``Learner`` of the pairs' answers."""

    def __init__(
        self,
        model: nn.Module,
        config: TuningConfig,
        pairs: Sequence[EncodedPair],
        heldout: Sequence[EncodedPair],
    ) -> None:
        self.model, self.config, self.pairs, self.heldout = model, config, pairs, heldout
        self.bfloat16 = has_bfloat16(config.device) if config.bfloat16 is None else config.bfloat16

    def plan(self, epoch: int) -> Plan:
        lengths = [len(pair.ids) for pair in self.pairs]
        return plan_epoch(lengths, seed=self.config.seed, epoch=epoch, batch_tokens=self.config.batch_tokens)

    def loss(self, batch: Sequence[int]) -> Tensor:
        self.model.train()
        chosen = padded([self.pairs[one] for one in batch])
        total, count = answer_loss(self.model, chosen, self.config.device, bfloat16=self.bfloat16)
        return total / count

    def tokens(self, batch: Sequence[int]) -> int:
        return sum(len(self.pairs[one].ids) for one in batch)

    def weight(self, batch: Sequence[int]) -> float:
        return float(sum(len(self.pairs[one].ids) - self.pairs[one].prompt_tokens for one in batch))

    def checkpoint_activations(self) -> None:
        model: Any = self.model
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def judge(self) -> float:
        return heldout_loss(self.model, self.heldout, self.config, bfloat16=self.bfloat16)


@torch.no_grad()
def heldout_loss(
    model: nn.Module, pairs: Sequence[EncodedPair], config: TuningConfig, *, bfloat16: bool = False
) -> float:
    """Mean loss of an answer token over all pairs, in nats."""
    model.eval()
    plan = plan_epoch(
        [len(pair.ids) for pair in pairs], seed=0, epoch=0, batch_tokens=_KEPT_EVALUATION_TOKENS
    )
    total, count = 0.0, 0
    for batch in plan.batches:
        summed, tokens = answer_loss(
            model, padded([pairs[one] for one in batch]), config.device, bfloat16=bfloat16
        )
        total, count = total + summed.item(), count + tokens
    return total / count


def _optimizers(parameters: dict[str, nn.Parameter], config: TuningConfig) -> list[torch.optim.Optimizer]:
    # Muon is for the matrices inside the blocks; tables, heads and vectors stay with AdamW.
    inner = {
        name: one
        for name, one in parameters.items()
        if config.optimizer == "muon" and one.ndim == 2 and "embed" not in name and "lm_head" not in name
    }
    matrices = [one for name, one in parameters.items() if name not in inner and one.ndim >= 2]
    vectors = [one for name, one in parameters.items() if name not in inner and one.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    chosen: list[torch.optim.Optimizer] = []
    if matrices or vectors:
        kept: Any = [group for group in groups if group["params"]]
        chosen.append(torch.optim.AdamW(kept, lr=config.learning_rate, betas=(0.9, 0.98)))
    if inner:
        chosen.append(
            torch.optim.Muon(
                list(inner.values()),
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return chosen


def _fingerprint(
    model: nn.Module, config: TuningConfig, pairs: Sequence[EncodedPair], heldout: Sequence[EncodedPair]
) -> str:
    digest = hashlib.sha256(repr(config).encode())
    for name, one in model.named_parameters():
        digest.update(f"{name}{tuple(one.shape)}{one.requires_grad}".encode())
    for pair in (*pairs, *heldout):
        digest.update(f"{pair.prompt_tokens}/{len(pair.ids)}".encode() + pair.ids.tobytes())
    return digest.hexdigest()
