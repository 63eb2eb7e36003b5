"""The encoder learns with its head: from the linear head on, later blocks faster than earlier ones, the mean of the weights kept.

Starting at the head that is best on the frozen vectors keeps the first steps from tearing the encoder apart, and gets there in
a few epochs. What is judged after each epoch is the loss on validation at its best temperature: confidence is mended
afterwards anyway, and accuracy alone is too coarse on a thousand texts. The loop is ``build_engines.tuning_loop``.

Suffixes: B texts, T tokens, D width, C intents.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from build_engines.errors import BuildError
from build_engines.intents.calibration import Floats, Labels, fitted_temperature, negative_log_likelihood
from build_engines.intents.linear import OUTSIDE, LinearFit, soft_targets
from build_engines.intents.recipe_parts import IntentTuning
from build_engines.intents.vectors import EncoderSource
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.sentence import SentenceForm, weights_folder
from build_engines.tuning_loop import (
    FACTOR,
    LoopOptions,
    LossPoint,
    Plan,
    TuningResult,
    has_bfloat16,
    run_loop,
)

_LAYER = re.compile(r"\blayers?\.(\d+)\.")
_WORDS = "word_embeddings"
_SCALE = 16.0  # as of the linear head: weights of the size that the vectors' length of 1 asks for
_SORTED_BATCHES = 20  # texts of so many batches are sorted by length together
_JUDGED = 64  # texts at once, without gradients
_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.onnx", "*.h5", "*.msgpack", "*.index.json")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Taught:
    """Texts to learn from or to judge by: token ids, labels (``OUTSIDE``: about nothing), and what each counts."""

    ids: Sequence[Ids]
    labels_N: Labels
    weights_N: Floats


class TorchEncoder(nn.Module):
    """An encoder with pooling and head, as the graph computes them."""

    def __init__(self, body: nn.Module, form: SentenceForm, weights_CD: Floats, bias_C: Floats) -> None:
        super().__init__()
        self.body, self.form = body, form
        self.head_weight = nn.Parameter(torch.from_numpy(weights_CD / _SCALE))
        self.head_bias = nn.Parameter(torch.from_numpy(bias_C / _SCALE))

    def forward(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits ``[B, C]`` in float32."""
        mask_BT = torch.arange(ids_BT.shape[1], device=ids_BT.device) < lengths_B[:, None]
        with torch.autocast(ids_BT.device.type, dtype=torch.bfloat16, enabled=self.training and self.mixed):
            hidden_BTD = self.body(input_ids=ids_BT, attention_mask=mask_BT.long()).last_hidden_state
        hidden_BTD = hidden_BTD.float()
        if self.form.pooling == "cls":
            pooled_BD = hidden_BTD[:, 0]
        else:
            pooled_BD = (hidden_BTD * mask_BT[..., None]).sum(1) / lengths_B[:, None]
        pooled_BD = pooled_BD[:, : self.form.dim]
        if self.form.normalize:
            pooled_BD = torch.nn.functional.normalize(pooled_BD, dim=-1)
        logits_BC: Tensor = _SCALE * (pooled_BD @ self.head_weight.T + self.head_bias)
        return logits_BC

    mixed = False

    def head(self) -> tuple[Floats, Floats]:
        """``weights_CD`` and ``bias_C`` as the graph takes them."""
        return (
            np.ascontiguousarray((_SCALE * self.head_weight).detach().cpu().numpy()),
            np.ascontiguousarray((_SCALE * self.head_bias).detach().cpu().numpy()),
        )


def load_torch_encoder(source: EncoderSource, start: LinearFit) -> TorchEncoder:
    """The checkpoint by transformers, with a head to start from.

    Raises:
        BuildError: transformers cannot load it.
    """
    from transformers import AutoModel

    _, form = source.form()
    folder = weights_folder(source.checkpoint)
    try:
        body: Any = AutoModel.from_pretrained(str(folder), use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise BuildError(f"{folder}: cannot be loaded to fine-tune it: {error}") from error
    if getattr(body, "pooler", None) is not None:
        body.pooler = None  # made for pre-training; no sentence vector uses it
    return TorchEncoder(body.float(), form, start.weights_CD, start.bias_C)


def finetune_encoder(
    model: TorchEncoder,
    config: IntentTuning,
    train: Taught,
    validation: Taught,
    *,
    checkpoint: Path | None = None,
    progress: Callable[[int, int, LossPoint | None], None] | None = None,
) -> TuningResult:
    """Train, and leave the best weights in ``model``.

    Args:
        model: see ``load_torch_encoder``.
        config: see there.
        train: to learn from.
        validation: to judge by; texts about nothing are not looked at.
        checkpoint: see ``run_loop``.
        progress: see ``run_loop``.

    Raises:
        ValueError: nothing to learn from or to judge by, or a checkpoint of another configuration or data.
        TuningDiverged: the loss is NaN or infinite.
    """
    if not len(train.ids) or not (validation.labels_N != OUTSIDE).any():
        raise ValueError("nothing to learn from, or nothing to judge by")
    model.to(config.device)
    model.mixed = has_bfloat16(config.device) if config.bfloat16 is None else config.bfloat16
    learnt = {name: one for name, one in model.named_parameters() if config.train_words or _WORDS not in name}
    for name, one in model.named_parameters():
        one.requires_grad_(name in learnt)
    result = run_loop(
        _Intents(model, config, train, validation),
        learnt,
        [torch.optim.AdamW(_groups(learnt, config), lr=config.learning_rate, betas=(0.9, 0.98))],
        LoopOptions(
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            warmup_share=config.warmup_share,
            schedule="cosine",
            clip_norm=config.clip_norm,
            evaluate_every=0,
            checkpoint_every=config.checkpoint_every,
            patience=config.patience,
            average=config.average,
            seed=config.seed,
            device=config.device,
        ),
        identity=_identity(model, config, train, validation),
        checkpoint=checkpoint,
        progress=progress,
    )
    model.eval()
    return result


class _Intents:
    """A ``Learner`` of intents."""

    def __init__(self, model: TorchEncoder, config: IntentTuning, train: Taught, validation: Taught) -> None:
        self.model, self.config, self.train = model, config, train
        inside = np.flatnonzero(validation.labels_N != OUTSIDE).tolist()
        self.judged = [validation.ids[at] for at in inside]
        self.judged_labels = validation.labels_N[inside]
        targets_NC = soft_targets(train.labels_N, len(model.head_bias), config.label_smoothing)
        self.targets_NC = torch.from_numpy(targets_NC)
        self.weights_N = torch.from_numpy(train.weights_N)

    def plan(self, epoch: int) -> Plan:
        size = self.config.batch_size
        order = np.random.default_rng([self.config.seed, epoch])
        mixed = order.permutation(len(self.train.ids))
        batches: list[tuple[int, ...]] = []
        for begin in range(0, len(mixed), size * _SORTED_BATCHES):
            some = sorted(
                mixed[begin : begin + size * _SORTED_BATCHES].tolist(),
                key=lambda at: len(self.train.ids[at]),
            )
            batches += [tuple(some[at : at + size]) for at in range(0, len(some), size)]
        return Plan(epoch, tuple(batches[at] for at in order.permutation(len(batches))))

    def loss(self, batch: Sequence[int]) -> Tensor:
        self.model.train()
        logits_BC = _logits(self.model, [self.train.ids[at] for at in batch], self.config.device)
        rows = torch.tensor(batch)
        targets_BC = self.targets_NC[rows].to(self.config.device)
        weights_B = self.weights_N[rows].to(self.config.device)
        losses_B = torch.nn.functional.cross_entropy(logits_BC, targets_BC, reduction="none")
        return (losses_B * weights_B).mean()

    def tokens(self, batch: Sequence[int]) -> int:
        return sum(len(self.train.ids[at]) for at in batch)

    def judge(self) -> float:
        logits_NC = torch_logits(self.model, self.judged, self.config.device)
        temperature = fitted_temperature(logits_NC, self.judged_labels)
        return negative_log_likelihood(logits_NC, self.judged_labels, temperature)


@torch.no_grad()
def torch_logits(model: TorchEncoder, ids: Sequence[Ids], device: str) -> Floats:
    """Logits of texts in float32 ``[N, C]``, in their order."""
    model.eval()
    order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
    logits_NC = np.zeros((len(ids), len(model.head_bias)), np.float32)
    for begin in range(0, len(order), _JUDGED):
        rows = order[begin : begin + _JUDGED]
        logits_NC[rows] = _logits(model, [ids[at] for at in rows], device).float().cpu().numpy()
    return logits_NC


def save_encoder(model: TorchEncoder, source: Path, folder: Path) -> None:
    """Write the tuned encoder as a checkpoint folder of the source's own form."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*_WEIGHT_FILES, ".*"))
    body: Any = model.body
    place = folder / weights_folder(source).relative_to(source)
    config = (place / "config.json").read_bytes()
    body.save_pretrained(str(place))
    (place / "config.json").write_bytes(config)  # as the checkpoint had it: nothing in it has changed


def _logits(model: TorchEncoder, ids: Sequence[Ids], device: str) -> Tensor:
    ids_BT, lengths_B = padded(ids)
    logits_BC: Tensor = model(torch.from_numpy(ids_BT).to(device), torch.from_numpy(lengths_B).to(device))
    return logits_BC


def _groups(learnt: dict[str, nn.Parameter], config: IntentTuning) -> list[dict[str, Any]]:
    depths = [int(found.group(1)) for name in learnt if (found := _LAYER.search(name))]
    last = max(depths, default=-1)
    groups: list[dict[str, Any]] = []
    for name, one in learnt.items():
        if name.startswith("head_"):
            factor = config.head_factor
        else:
            found = _LAYER.search(name)
            below = last - int(found.group(1)) if found else last + 1
            factor = config.layer_decay**below
        decay = config.weight_decay if one.ndim > 1 and not name.startswith("head_") else 0.0
        groups.append({"params": [one], FACTOR: factor, "weight_decay": decay})
    return groups


def _identity(model: TorchEncoder, config: IntentTuning, train: Taught, validation: Taught) -> str:
    digest = hashlib.sha256(repr(config).encode())
    for name, one in model.named_parameters():
        digest.update(f"{name}{tuple(one.shape)}{one.requires_grad}{float(one.detach().sum())}".encode())
    for side in (train, validation):
        for ids in side.ids:
            digest.update(ids.tobytes() + b"/")
        digest.update(side.labels_N.tobytes() + side.weights_N.tobytes())
    return digest.hexdigest()
