"""Training of the sequence model: seeded, resumable, stopped by what validation says.

Softmax over the whole catalogue at every position of the train sequences, against the next ``future`` items
and not the next one alone: shops' sequences are short and their order is partly chance.  The learning rate is
warmed up and then falls linearly to 0.  The decision not to undo: the randomness of an epoch is derived from
(seed, epoch) alone, so a run that was killed and resumed from its checkpoint ends with the same bits as one that
was not (same machine, thread count and settings).

On a machine that others use, set OMP_WAIT_POLICY=PASSIVE before torch starts: threads that spin while they wait
for one another made an epoch several times slower.

Validation ranks the whole catalogue for every validation user (items of the history masked, ties counted
against the target); the weights of the best epoch by NDCG@10 are returned.  Units: times are seconds.
Shape suffixes: P positions of a batch, N items with the padding row 0, D width, L padded length, U users.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .bfloat16 import fast_bfloat16
from .catalogue_loss import catalogue_loss
from .mix import recall_and_ndcg
from .popularity import Rows, flatten
from .sasrec import SasRec, SasRecConfig, left_padded
from .sasrec import encode_UD as encode_UD  # also offered here: what training is validated with

CHUNK = 1024  # users scored at once: 1024 x 12,000 items are 50 MB in float32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How the model is trained; none of it changes what the engine looks like.

    Attributes:
        epochs: passes over the train sequences (>= 1); the learning rate reaches 0 at the end of the last.
        batch_size: sequences a step (>= 1), bucketed by length.
        learning_rate: peak of AdamW (> 0).
        weight_decay: of AdamW, on matrices and tables alike (>= 0).
        warmup_steps: steps until the peak (>= 0).
        future: how many of the next items every position predicts (>= 1; 1 is the next item alone).
        future_decay: weight of a target over that of the one before it (0 < decay <= 1).
        patience: validated epochs without a better NDCG@10 before stopping (>= 1).
        validate_every: epochs between validations (>= 1); the last epoch is always validated.
        seed: of initial weights, order and dropout.
        bfloat16: catalogue softmax in bfloat16; None: where the CPU has it in hardware, about twice as fast.
        device: torch device.

    Raises:
        ValueError: a value is out of range; the message names it.
    """

    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50
    future: int = 3
    future_decay: float = 0.5
    patience: int = 3
    validate_every: int = 1
    seed: int = 0
    bfloat16: bool | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "future", "patience", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}, must be >= 1")
        for name in ("weight_decay", "warmup_steps"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: {getattr(self, name)}, must be >= 0")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate: {self.learning_rate}, must be > 0")
        if not 0 < self.future_decay <= 1:
            raise ValueError(f"future_decay: {self.future_decay}, must be in (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heldout:
    """Users to rank for: what is known of them, and the one item that came next.

    Attributes:
        histories: one array of item rows (1..N) a user, oldest first.
        targets: int64 ``[U]``.
    """

    histories: Sequence[Rows]
    targets: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.histories) != len(self.targets):
            raise ValueError(f"{len(self.histories)} histories, {len(self.targets)} targets")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """What is known after an epoch; quality is None where it was not validated.

    ``eta_s`` assumes that every epoch left will run: early stopping only shortens it.
    """

    epoch: int
    loss: float
    recall_at_10: float | None
    ndcg_at_10: float | None
    seconds: float
    eta_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """The weights of the best epoch (``SasRec.export_weights``) and how they came about."""

    model: SasRec
    weights: dict[str, npt.NDArray[Any]]
    history: tuple[EpochReport, ...]
    best_epoch: int


class TrainingDiverged(RuntimeError):
    """The loss is no number any more; typed fields build the message."""

    def __init__(self, epoch: int, step: int, loss: float) -> None:
        super().__init__(f"epoch {epoch}, step {step}: loss is {loss}; lower learning_rate or raise tau")
        self.epoch = epoch
        self.step = step
        self.loss = loss


def train(
    config: SasRecConfig,
    training: TrainingConfig,
    sequences: Sequence[Rows],
    validation: Heldout | None,
    *,
    attributes_NK: npt.NDArray[np.int64] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[EpochReport], None] | None = None,
) -> TrainingResult:
    """Train until the epochs are over or validation stops improving.

    Args:
        config: sizes of the model.
        training: see ``TrainingConfig``.
        sequences: train part of each user: item rows 1..num_items, oldest first; users with fewer than two
            interactions have nothing to predict and are skipped.
        validation: users to rank for after an epoch; None (or nobody) runs all epochs and keeps the last.
        attributes_NK: from ``sasrec.pad_attributes``.
        checkpoint: file written atomically after every epoch; if it exists, training goes on from it.
        progress: called after every epoch, in this thread; what it raises ends the training.

    Returns:
        The model and exported weights of the best epoch, and a report per epoch (resumed ones included).

    Raises:
        ValueError: a row outside 1..num_items, no sequence with two interactions, or a checkpoint of
            another configuration or log.
        TrainingDiverged: the loss is NaN or infinite.
    """
    flatten(sequences, config.num_items)
    usable = [np.asarray(one, dtype=np.int64)[-config.length - 1 :] for one in sequences if len(one) >= 2]
    if not usable:
        raise ValueError(f"none of {len(sequences)} sequences has two interactions: nothing to predict")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        model = SasRec(config, attributes_NK).to(training.device)
    run = _Run(model, training, usable)
    identity = _fingerprint(config, training, usable, attributes_NK)
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint, identity)
    while run.epoch < training.epochs and run.worse < training.patience:
        run.one_epoch(validation)
        if checkpoint is not None:
            run.save(checkpoint, identity)
        if progress is not None:
            progress(run.history[-1])
    model.load_state_dict(run.best_state)
    model.eval()
    return TrainingResult(
        model=model, weights=model.export_weights(), history=tuple(run.history), best_epoch=run.best_epoch
    )


class _Run:
    def __init__(self, model: SasRec, training: TrainingConfig, usable: list[npt.NDArray[np.int64]]) -> None:
        self.model, self.training, self.usable = model, training, usable
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            betas=(0.9, 0.98),
        )
        bfloat16 = fast_bfloat16() if training.bfloat16 is None else training.bfloat16
        self.dtype = torch.bfloat16 if bfloat16 else torch.float32
        self.epoch, self.worse, self.best_epoch, self.best_ndcg = 0, 0, 0, -1.0
        self.history: list[EpochReport] = []
        self.best_state = _copied(model)

    def one_epoch(self, validation: Heldout | None) -> None:
        started, training = time.perf_counter(), self.training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((training.seed << 20) + self.epoch + 1)
            loss = self._optimize(np.random.default_rng([training.seed, self.epoch]))
        recall = ndcg = None
        last = self.epoch + 1 == training.epochs
        if validation is None or not len(validation.targets):
            self.best_epoch, self.best_state = self.epoch, _copied(self.model)
        elif last or (self.epoch + 1) % training.validate_every == 0:
            recall, ndcg = recall_and_ndcg(rank_targets(self.model, validation))
            self.worse += 1
            if ndcg > self.best_ndcg:
                self.best_ndcg, self.best_epoch, self.best_state = ndcg, self.epoch, _copied(self.model)
                self.worse = 0
        seconds = time.perf_counter() - started
        spent = sum(report.seconds for report in self.history) + seconds
        self.epoch += 1
        eta = spent / self.epoch * (training.epochs - self.epoch)
        report = EpochReport(
            epoch=self.epoch - 1, loss=loss, recall_at_10=recall, ndcg_at_10=ndcg, seconds=seconds, eta_s=eta
        )
        self.history.append(report)

    def _optimize(self, order: np.random.Generator) -> float:
        training, model = self.training, self.model
        model.train()
        steps = math.ceil(len(self.usable) / training.batch_size)
        total, losses = steps * training.epochs, 0.0
        for index, batch in enumerate(_batches(self.usable, training.batch_size, order)):
            step = self.epoch * steps + index
            rate = min(1.0, (step + 1) / max(1, training.warmup_steps)) * (1.0 - step / total)
            for group in self.optimizer.param_groups:
                group["lr"] = training.learning_rate * rate
            ids_BL = torch.from_numpy(left_padded([one[:-1] for one in batch])).to(training.device)
            real = ids_BL > 0
            targets_PF, weights_PF = future_targets(batch, ids_BL.shape[1], training)
            vectors_ND = model.item_vectors_ND()
            x_PD = model(ids_BL, vectors_ND)[real]
            loss = catalogue_loss(
                x_PD,
                model.output_table_ND(vectors_ND),
                torch.from_numpy(targets_PF).to(training.device),
                torch.from_numpy(weights_PF).to(training.device),
                self.dtype,
            )
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingDiverged(self.epoch, index, value)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses += value
        return losses / steps

    def save(self, path: Path, identity: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(path.name + f".{os.getpid()}.part")
        state = {
            "identity": identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best_state": self.best_state,
            "numbers": [self.epoch, self.worse, self.best_epoch, self.best_ndcg],
            "history": [asdict(report) for report in self.history],
        }
        try:
            torch.save(state, aside)
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    def restore(self, path: Path, identity: str) -> None:
        state = torch.load(path, map_location=self.training.device, weights_only=True)
        if state["identity"] != identity:
            raise ValueError(f"{path} belongs to another configuration or log; delete it to start anew")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_state = state["best_state"]
        self.epoch, self.worse, self.best_epoch, self.best_ndcg = state["numbers"]
        self.history = [EpochReport(**report) for report in state["history"]]


@torch.no_grad()
def rank_targets(model: SasRec, heldout: Heldout) -> npt.NDArray[np.int64]:
    """Rank of every target in the whole catalogue by the neural score alone, 0 = best.

    Items of the history are masked, so a target among them ranks last; ties count against the target.
    """
    query_UD = torch.from_numpy(encode_UD(model, heldout.histories)).to(model.positions.device)
    table_ND = model.output_table_ND(model.item_vectors_ND())
    ranks = np.zeros(len(query_UD), dtype=np.int64)
    for lo in range(0, len(query_UD), CHUNK):
        scores = query_UD[lo : lo + CHUNK] @ table_ND.T
        histories = heldout.histories[lo : lo + CHUNK]
        rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
        seen = np.concatenate([np.asarray(history, dtype=np.int64) for history in histories])
        scores[:, 0] = -torch.inf
        scores[torch.from_numpy(rows), torch.from_numpy(seen)] = -torch.inf
        target = torch.from_numpy(np.asarray(heldout.targets[lo : lo + CHUNK], dtype=np.int64))
        own = scores[torch.arange(len(target)), target]
        ranks[lo : lo + CHUNK] = ((scores >= own[:, None]).sum(dim=1) - 1).cpu().numpy()
    return ranks


def future_targets(
    batch: Sequence[npt.NDArray[np.int64]], length: int, training: TrainingConfig
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """What every real position of a left-padded batch should predict: the next items, nearer ones more.

    Returns:
        ``targets_PF``: item rows, 0 past the end of a sequence; ``weights_PF``: ``future_decay ** f``, 0 past
        the end, each row summing to 1.  Rows in the order of ``x_BLD[ids_BL > 0]``.
    """
    reach = training.future
    after_BL = np.zeros((len(batch), length + reach), dtype=np.int64)
    for row, one in enumerate(batch):
        after_BL[row, length - len(one) + 1 : length] = one[1:]
    real = np.zeros((len(batch), length), dtype=np.bool_)
    for row, one in enumerate(batch):
        real[row, length - len(one) + 1 :] = True
    targets_PF = np.stack([after_BL[:, f : f + length][real] for f in range(reach)], axis=1)
    weights = np.where(targets_PF > 0, training.future_decay ** np.arange(reach), 0.0)
    return targets_PF, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def planned_batches(
    lengths_U: npt.NDArray[np.integer[Any]], size: int, order: np.random.Generator
) -> tuple[tuple[int, ...], ...]:
    """Indices of sequences of like length together, ties and near ties in a new order every epoch."""
    ranked = np.argsort(lengths_U + order.random(len(lengths_U)) * 1.5, kind="stable")
    starts = np.arange(0, len(ranked), size)
    order.shuffle(starts)
    return tuple(tuple(ranked[lo : lo + size].tolist()) for lo in starts)


def _batches(
    usable: list[npt.NDArray[np.int64]], size: int, order: np.random.Generator
) -> Iterator[list[npt.NDArray[np.int64]]]:
    for batch in planned_batches(np.array([len(one) for one in usable]), size, order):
        yield [usable[user] for user in batch]


def _copied(model: SasRec) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _fingerprint(
    config: SasRecConfig,
    training: TrainingConfig,
    usable: list[npt.NDArray[np.int64]],
    attributes_NK: npt.NDArray[np.int64] | None,
) -> str:
    digest = hashlib.sha256(repr((config, training)).encode())
    for array in [*usable, np.zeros(0) if attributes_NK is None else attributes_NK]:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
