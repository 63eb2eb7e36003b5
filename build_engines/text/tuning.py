"""Learning of a causal language model from pairs: all of it or LoRA, resumable at every checkpoint, best by held-out loss.

The loss is of the answer's tokens alone, over all of them in a batch. The learning rate is warmed up and then falls linearly
to 0. The decision not to undo: the randomness of a step is derived from (seed, step) alone, so a run that was killed and goes
on from its checkpoint ends with the same bits as one that was not (same machine, thread count and settings).

Units: steps are updates of the weights; losses are nats a token; times are seconds.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from build_engines.models.bfloat16 import fast_bfloat16
from build_engines.text.batches import Plan, answer_loss, padded, plan_epoch
from build_engines.text.pairs import EncodedPair
from build_engines.text.tuning_parts import TuningConfig

_KEPT_EVALUATION_TOKENS = 16_384  # of one forward pass without gradients


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPoint:
    """What is known after some steps: loss since the last point, held-out loss, seconds of training so far."""

    step: int
    epoch: float
    loss: float
    heldout_loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningResult:
    """How it went; the model given to ``tune`` holds the weights of the best point."""

    curve: tuple[LossPoint, ...]
    best: LossPoint
    steps: int
    tokens: int


class TuningDiverged(RuntimeError):
    """The loss is no number any more."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"step {step}: loss is {loss}; lower learning_rate")
        self.step = step
        self.loss = loss


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
    run = _Run(model.to(config.device), config, pairs, heldout)
    identity = _fingerprint(model, config, pairs, heldout)
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint, identity)
    while run.step < run.steps and run.worse < config.patience:
        began = time.perf_counter()
        run.one_step()
        run.seconds += time.perf_counter() - began
        point = run.measured() if run.step % run.every == 0 or run.step == run.steps else None
        if checkpoint is not None and (point is not None or run.step % config.checkpoint_every == 0):
            run.save(checkpoint, identity)
        if progress is not None:
            progress(run.step, run.steps, point)
    _load(run.parameters, run.best_state)
    model.eval()
    return TuningResult(
        curve=tuple(run.curve),
        best=min(run.curve, key=lambda one: one.heldout_loss),
        steps=run.step,
        tokens=run.tokens,
    )


class _Run:
    def __init__(
        self,
        model: nn.Module,
        config: TuningConfig,
        pairs: Sequence[EncodedPair],
        heldout: Sequence[EncodedPair],
    ) -> None:
        self.model, self.config, self.pairs, self.heldout = model, config, pairs, heldout
        self.parameters = {name: one for name, one in model.named_parameters() if one.requires_grad}
        if not self.parameters:
            raise ValueError("no parameter of the model requires gradients: nothing can be learnt")
        self.optimizers = _optimizers(self.parameters, config)
        self.plan = self._plan(0)
        self.steps = len(self.plan) * config.epochs
        self.every = config.evaluate_every or len(self.plan)
        self.bfloat16 = _has_bfloat16(config) if config.bfloat16 is None else config.bfloat16
        self.step, self.worse, self.tokens, self.seconds, self.losses = 0, 0, 0, 0.0, 0.0
        self.since = 0
        self.curve: list[LossPoint] = []
        self.best_state = _copied(self.parameters)

    def one_step(self) -> None:
        epoch, index = divmod(self.step, len(self.plan))
        if self.plan.epoch != epoch:
            self.plan = self._plan(epoch)
        rate = self._rate()
        self.model.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((self.config.seed << 24) + self.step + 1)
            loss = self._loss([self.pairs[one] for one in self.plan.batches[index]])
        value = loss.item()
        if not math.isfinite(value):
            raise TuningDiverged(self.step, value)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        self.step += 1
        self.since += 1
        self.losses += value
        self.tokens += sum(len(self.pairs[one].ids) for one in self.plan.batches[index])

    def measured(self) -> LossPoint:
        point = LossPoint(
            step=self.step,
            epoch=self.step / len(self.plan),
            loss=self.losses / max(1, self.since),
            heldout_loss=heldout_loss(self.model, self.heldout, self.config, bfloat16=self.bfloat16),
            learning_rate=self._rate(),
            seconds=self.seconds,
        )
        self.losses, self.since = 0.0, 0
        if not self.curve or point.heldout_loss < min(one.heldout_loss for one in self.curve):
            self.best_state, self.worse = _copied(self.parameters), 0
        else:
            self.worse += 1
        self.curve.append(point)
        return point

    def save(self, path: Path, identity: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + f".{os.getpid()}.part")
        state = {
            "identity": identity,
            "parameters": {name: one.detach() for name, one in self.parameters.items()},
            "optimizers": [one.state_dict() for one in self.optimizers],
            "best_state": self.best_state,
            "numbers": [self.step, self.worse, self.tokens, self.seconds, self.losses, self.since],
            "curve": [asdict(point) for point in self.curve],
        }
        try:
            torch.save(state, aside)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    def restore(self, path: Path, identity: str) -> None:
        state = torch.load(path, map_location=self.config.device, weights_only=True)
        if state["identity"] != identity:
            raise ValueError(
                f"{path} belongs to another model, configuration or data; delete it to start anew"
            )
        _load(self.parameters, state["parameters"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.best_state = state["best_state"]
        self.step, self.worse, self.tokens, self.seconds, self.losses, self.since = state["numbers"]
        self.curve = [LossPoint(**point) for point in state["curve"]]

    def _loss(self, batch: Sequence[EncodedPair]) -> Tensor:
        total, count = answer_loss(self.model, padded(batch), self.config.device, bfloat16=self.bfloat16)
        return total / count

    def _rate(self) -> float:
        warmup = max(1, round(self.config.warmup_share * self.steps))
        return (
            self.config.learning_rate
            * min(1.0, (self.step + 1) / warmup)
            * (1.0 - self.step / (self.steps + 1))
        )

    def _plan(self, epoch: int) -> Plan:
        lengths = [len(pair.ids) for pair in self.pairs]
        return plan_epoch(lengths, seed=self.config.seed, epoch=epoch, batch_tokens=self.config.batch_tokens)


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


def _has_bfloat16(config: TuningConfig) -> bool:
    if torch.device(config.device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return fast_bfloat16()


def _copied(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in parameters.items()}


@torch.no_grad()
def _load(parameters: dict[str, nn.Parameter], state: dict[str, Tensor]) -> None:
    for name, one in parameters.items():
        one.copy_(state[name])


def _fingerprint(
    model: nn.Module, config: TuningConfig, pairs: Sequence[EncodedPair], heldout: Sequence[EncodedPair]
) -> str:
    digest = hashlib.sha256(repr(config).encode())
    for name, one in model.named_parameters():
        digest.update(f"{name}{tuple(one.shape)}{one.requires_grad}".encode())
    for pair in (*pairs, *heldout):
        digest.update(f"{pair.prompt_tokens}/{len(pair.ids)}".encode() + pair.ids.tobytes())
    return digest.hexdigest()
