"""One training of a step, whichever it is: options that all share, the loop, the best weights or those from before.

What is learnt is a ``Lesson``: it can be pickled, so that other processes can take part (``build_engines.distributed``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from build_engines.compression.activations import recomputed, undone
from build_engines.compression.model import Compressible
from build_engines.compression.step import Curve, StepWork
from build_engines.compression.weights_digest import weights_digest
from build_engines.errors import BuildError
from build_engines.fingerprint import digest_of
from build_engines.tuning_loop import (
    FACTOR,
    Learner,
    LoopOptions,
    LossPoint,
    Precision,
    Schedule,
    TuningDiverged,
    TuningResult,
    copied,
    load_state,
    precision_note,
    run_loop,
    weight_of,
)

Sharding = Literal["replicate", "shard"]
Launch = Literal["here", "torchrun"]
CHECKPOINT = "training.pt"
PRUNED_SHARE = 0.01  # zeros of a matrix from which on they are meant
STUDENT = "student"  # of a lesson's network


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningOptions:
    """How a step trains.

    Attributes:
        epochs: passes over the examples (>= 1).
        learning_rate: peak (> 0).
        weight_decay: on matrices (>= 0).
        warmup_share: of all steps, until the peak (0..1).
        schedule: from the peak to 0, "cosine" or "linear".
        clip_norm: of the gradient (> 0).
        average: what a step keeps of the running mean of the weights, which is judged and kept (0..1; 0: none).
        accumulate: batches whose gradients make one step (>= 1).
        precision: "float32", "bfloat16" or "float16" (with loss scaling).
        checkpoint_activations: compute activations again in the backward pass: less memory, more time.
        evaluate_every: steps between held-out losses (>= 0; 0: once an epoch).
        checkpoint_every: steps between checkpoints (>= 1).
        patience: held-out losses without a better one before stopping (>= 1).
        keep_zeros: what pruning set to zero stays zero.
        seed: of dropout and new weights (>= 0).
        device: torch device.
        processes: that train together on this machine (>= 1), each with its part of every batch.
        sharding: of weights over processes: "replicate" (DDP: all everywhere) or "shard" (FSDP2: a part in each).
        launch: "here": the processes are started on this machine; "torchrun": a person starts them, on as many machines as
            share the workspace.

    Raises:
        ValueError: a value is out of range; names it.
    """

    epochs: int = 3
    learning_rate: float = 1e-4
    weight_decay: float = 0.01
    warmup_share: float = 0.05
    schedule: Schedule = "cosine"
    clip_norm: float = 1.0
    average: float = 0.0
    accumulate: int = 1
    precision: Precision = "float32"
    checkpoint_activations: bool = False
    evaluate_every: int = 0
    checkpoint_every: int = 100
    patience: int = 3
    keep_zeros: bool = True
    seed: int = 0
    device: str = "cpu"
    processes: int = 1
    sharding: Sharding = "replicate"
    launch: Launch = "here"

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("epochs", "accumulate", "checkpoint_every", "patience", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use 1 or more")
        for name in ("evaluate_every", "seed", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; use 0 or more")
        for name in ("learning_rate", "clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}; use a number above 0")
        for name in ("warmup_share", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use a share from 0 to below 1")
        if self.processes > 64:
            raise ValueError(f"processes is {self.processes}; use 64 or fewer on one machine")

    def loop(self) -> LoopOptions:
        """For ``run_loop``."""
        shared = {
            name: getattr(self, name) for name in LoopOptions.__dataclass_fields__ if hasattr(self, name)
        }
        shared["seed"] = self.seed % 2**32
        return LoopOptions(**shared)


class Taught(Learner, Protocol):
    """A learner with its network.

    ``network`` holds everything that is trained: ``STUDENT``, and what a lesson adds to it.
    """

    @property
    def network(self) -> nn.ModuleDict:
        """Where the trained parameters are."""

    @property
    def student(self) -> Compressible:
        """The model."""


class TaskLearner:
    """The family's own task, with dropout on while learning and off while judged."""

    def __init__(self, student: Compressible) -> None:
        self.student = student
        self.network = nn.ModuleDict({STUDENT: student.module})

    def plan(self, epoch: int) -> Any:
        """The model's."""
        return self.student.plan(epoch)

    def loss(self, batch: Any) -> Tensor:
        """The model's."""
        self.student.module.train()
        return self.student.loss(batch)

    def tokens(self, batch: Any) -> int:
        """The model's."""
        return self.student.tokens(batch)

    def weight(self, batch: Any) -> float:
        """The model's, or examples."""
        return weight_of(self.student, batch)

    def judge(self) -> float:
        """The model's."""
        self.student.module.eval()
        with torch.no_grad():
            return self.student.judge()

    def checkpoint_activations(self) -> None:
        """Of every block."""
        recomputed(self.student.module, [block.block for block in self.student.blocks])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """One training.

    Attributes:
        learner: what is learnt.
        options: how.
        identity: of everything that the result depends on.
        factors: beginnings of parameters' names, and their learning rate over the others'.
    """

    learner: Taught
    options: LearningOptions
    identity: str
    factors: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """How it went.

    Attributes:
        result: of the loop.
        before: held-out loss at first.
        kept: the new weights are better and were kept.
    """

    result: TuningResult
    before: float
    kept: bool

    def figures(self) -> dict[str, float]:
        """For a record."""
        best = self.result.best
        return {
            "loss before": self.before,
            "loss after": best.heldout_loss if self.kept else self.before,
            "steps": float(self.result.steps),
            "best step": float(best.step),
            "seconds of training": self.result.curve[-1].seconds,
        }

    def curves(self, unit: str = "nats") -> tuple[Curve, ...]:
        """For a record."""
        points = self.result.curve
        return (
            Curve(name="training loss", x="step", y=unit, points=tuple((p.step, p.loss) for p in points)),
            Curve(
                name="held-out loss", x="step", y=unit, points=tuple((p.step, p.heldout_loss) for p in points)
            ),
        )


def lesson_of(
    learner: Taught, options: LearningOptions, *, what: str, factors: Mapping[str, float] | None = None
) -> Lesson:
    """A lesson; ``what`` is everything beside the model that its result depends on, as text.

    How it runs (processes, device) is not part of it: a run may go on in another way.
    """
    plan = {
        name: value
        for name, value in asdict(options).items()
        if name not in ("device", "processes", "sharding", "launch")
    }
    facts = {
        "model": learner.student.identity,
        "plan": plan,
        "what": what,
        "start": weights_digest(learner.network),
    }
    return Lesson(learner=learner, options=options, identity=digest_of(facts), factors=factors or {})


def learn(lesson: Lesson, work: StepWork, *, keep_best_only: bool = True) -> Learnt:
    """Train, and leave the best weights in the model; those from before where none is better.

    Args:
        lesson: what and how.
        work: checkpoints go into its scratch folder.
        keep_best_only: weights from before stay where no point is better than they were.

    Raises:
        BuildError: a loss is NaN or rises without end, a checkpoint is damaged, the device cannot do it, a process died.
    """
    options, learner = lesson.options, lesson.learner
    note = precision_note(options.precision, options.device)
    if note is not None:
        work.progress.say(f"  {note}")
    learner.network.to(options.device)
    start = copied(trained(learner.network))
    before = learner.judge()
    work.progress.say(f"  held-out loss before {before:.4f}")
    try:
        if options.processes > 1 or options.launch == "torchrun":
            from build_engines.distributed.launch import learn_together

            result = learn_together(lesson, work)
        else:
            result = run_loop(
                learner,
                trained(learner.network),
                optimizers_of(lesson),
                options.loop(),
                identity=lesson.identity,
                checkpoint=work.scratch / CHECKPOINT,
                progress=report_to(work),
            )
    except (ValueError, TuningDiverged) as error:
        raise BuildError(f"training: {error}") from error
    finally:
        undone(learner.student.module)
    kept = not keep_best_only or result.best.heldout_loss < before
    if not kept:
        load_state(trained(learner.network), start)
    learner.network.to("cpu").eval()
    return Learnt(result=result, before=before, kept=kept)


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that require gradients, by name."""
    return {name: one for name, one in network.named_parameters() if one.requires_grad}


def optimizers_of(lesson: Lesson) -> list[torch.optim.Optimizer]:
    """AdamW: matrices decay, vectors do not; what pruning set to zero is set back behind every step.

    To be called before a checkpoint is restored: what is zero then, stays zero.

    Raises:
        BuildError: nothing is to be trained.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, one in trained(lesson.learner.network).items():
        factor = next((value for start, value in lesson.factors.items() if name.startswith(start)), 1.0)
        groups.setdefault((one.ndim > 1, factor), []).append(one)
    options = lesson.options
    kept: Any = [
        {"params": ones, "weight_decay": options.weight_decay if decays else 0.0, FACTOR: factor}
        for (decays, factor), ones in groups.items()
    ]
    if not kept:
        raise BuildError("training: no parameter of the model requires gradients; nothing can be learnt")
    optimizer = torch.optim.AdamW(kept, lr=options.learning_rate, betas=(0.9, 0.98))
    masks = pruned_masks(lesson.learner.network) if options.keep_zeros else []

    def zeros_again(*_: object) -> None:
        with torch.no_grad():
            for weight, mask in masks:
                weight.mul_(mask).add_(0.0)  # a negative weight times 0 is -0.0, which is stored otherwise

    if masks:
        optimizer.register_step_post_hook(zeros_again)
    return [optimizer]


@torch.no_grad()
def pruned_masks(network: nn.Module) -> list[tuple[nn.Parameter, Tensor]]:
    """Matrices of linears and tables with zeros that are meant, and 1 where they have none."""
    found = []
    for module in network.modules():
        rounding = getattr(module, "parametrizations", None)  # of ``qat``: what is trained lies behind it
        weight = getattr(module, "weight", None) if rounding is None else rounding["weight"].original
        if (
            isinstance(module, nn.Linear | nn.Embedding)
            and isinstance(weight, nn.Parameter)
            and weight.requires_grad
        ):
            mask = (weight != 0).to(weight.dtype)
            share = 1 - mask.sum() / mask.numel()
            if float(share.full_tensor() if hasattr(share, "full_tensor") else share) >= PRUNED_SHARE:
                found.append((weight, mask))
    return found


def report_to(work: StepWork) -> Any:
    """A ``progress`` of the loop that a person sees."""

    def report(step: int, steps: int, point: LossPoint | None) -> None:
        note = "" if point is None else f"loss {point.loss:.4f}, held out {point.heldout_loss:.4f}"
        if point is not None:
            work.progress.say(f"  step {step}: {note}")
        work.progress.step("training, step", step, steps, note)

    return report
