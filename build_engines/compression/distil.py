"""Step ``distil``: the student learns what a teacher says, how it ranks, what it sees and how it relates what it sees.

Objective: the sum of weight x term over the terms of ``distil_losses`` that have a weight, plus ``task`` x the family's own
loss. With no weight given, each family has the terms that suit it (``SUITS``). With ``answers``, a decoder first learns
nothing but what its teacher writes (Kim and Rush, "Sequence-Level Knowledge Distillation", 2016), see ``teacher_answers``.

What is kept is judged on held-out examples of the task; ``judge_by = "teacher"`` judges by the distance to the teacher on
calibration examples instead, for a family without labels of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from build_engines.compression import distil_losses as losses
from build_engines.compression.learning import (
    LearningOptions,
    TaskLearner,
    learn,
    lesson_of,
)
from build_engines.compression.model import Compressible, Traces
from build_engines.compression.step import Step, StepRecord, StepWork, sizes_of
from build_engines.compression.teacher import Teacher, open_teacher
from build_engines.errors import BuildError

TERMS = ("logits", "ranking", "embedding", "hidden", "relations", "task")
SUITS: dict[str, dict[str, float]] = {
    "recommender": {"logits": 1.0},
    "encoder": {"embedding": 1.0, "relations": 1.0},
    "decoder": {"logits": 1.0},
}
JUDGED_EXAMPLES = 512
ANSWERS_FILE = "answers.sqlite"


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilOptions(LearningOptions):
    """What is learnt from whom.

    Attributes:
        teacher: a checkpoint folder of the family or an .onnx file; None: the model before the first step.
        logits, ranking, embedding, hidden, relations, task: weights of the terms (>= 0); all 0: what suits the family.
        temperature: of logits and of "listnet" (> 0).
        divergence: "forward" or "reverse", of logits.
        ranking_form: "listnet" or "rankdistil".
        ranking_top: the teacher's best of each position (>= 1).
        ranking_sampled: rows drawn beside them (>= 0).
        relation_pairs: "qq", "kk", "vv" (MiniLMv2), or "qk", "vv" (MiniLM).
        relation_heads: that widths are cut into (>= 0; 0: the student's own number).
        projection_factor: learning rate of projections between widths, over the others' (> 0).
        judge_by: "task" or "teacher".
        answers: learn what the teacher writes (decoders).
        answer_tokens: of an answer at most (>= 1).
        answer_examples: prompts that are written for (>= 0; 0: all).
        endpoint: address of an OpenAI-compatible server that writes the answers, up to and with "/v1".
        endpoint_model: its name there.
        endpoint_key_variable: name of the environment variable with its key; empty: none.
        endpoint_chat: ask as a conversation.
        endpoint_timeout_s: of a request (> 0).

    Raises:
        ValueError: a value is out of range; names it.
    """

    teacher: Path | None = None
    logits: float = 0.0
    ranking: float = 0.0
    embedding: float = 0.0
    hidden: float = 0.0
    relations: float = 0.0
    task: float = 0.0
    temperature: float = 2.0
    divergence: losses.Divergence = "forward"
    ranking_form: losses.RankingForm = "listnet"
    ranking_top: int = 50
    ranking_sampled: int = 200
    relation_pairs: tuple[losses.Pair, ...] = ("qq", "kk", "vv")
    relation_heads: int = 0
    projection_factor: float = 10.0
    judge_by: Literal["task", "teacher"] = "task"
    answers: bool = False
    answer_tokens: int = 256
    answer_examples: int = 0
    endpoint: str = ""
    endpoint_model: str = ""
    endpoint_key_variable: str = ""
    endpoint_chat: bool = False
    endpoint_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        LearningOptions.__post_init__(self)
        for name in (*TERMS, "ranking_sampled", "relation_heads", "answer_examples"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} is {getattr(self, name)}; use 0 or more")
        for name in ("temperature", "projection_factor", "endpoint_timeout_s"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"{name} is {getattr(self, name)}; use a number above 0")
        for name in ("ranking_top", "answer_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use 1 or more")
        if not self.relation_pairs:
            raise ValueError('relation_pairs is empty; use ["qq", "kk", "vv"]')
        if self.endpoint and not self.answers:
            raise ValueError("endpoint is given and answers is false: a server is asked for answers alone")
        if self.endpoint and not self.endpoint_model:
            raise ValueError("endpoint is given and endpoint_model is empty; name the model there")
        if self.endpoint and self.teacher is not None:
            raise ValueError("both teacher and endpoint are given; there is one teacher")

    def weights(self, family: str) -> dict[str, float]:
        """Terms that count, by name."""
        given = {name: float(getattr(self, name)) for name in TERMS if getattr(self, name) > 0}
        return given or dict(SUITS[family])


class DistilLearner(TaskLearner):
    """Learns from a teacher.

    Args:
        student: what learns.
        teacher: what is asked.
        options: see there.

    Raises:
        BuildError: the teacher does not show what is to be learnt, or in another shape.
    """

    def __init__(self, student: Compressible, teacher: Teacher, options: DistilOptions) -> None:
        super().__init__(student)
        self.teacher, self.options = teacher, options
        self.weights = options.weights(student.family)
        self.judged = tuple(student.calibration(JUDGED_EXAMPLES))
        probe = self.judged[0] if self.judged else student.plan(0).batches[0]
        student.module.eval()
        with torch.no_grad():
            ours = student.traces(probe[:2])
        theirs = teacher.traces(probe[:2])
        _check(self.weights, ours, theirs)
        self.layers = losses.layer_map(len(ours.hidden_BTD) - 1, len(theirs.hidden_BTD) - 1)
        self.heads = options.relation_heads or student.sizes.heads
        if self.weights.get("hidden"):
            self._add_projections(ours, theirs)
        if self.weights.get("relations"):
            self._terms(ours, theirs)  # widths that cannot be cut are said now

    def loss(self, batch: Sequence[int]) -> Tensor:
        """The sum of all terms."""
        theirs = self.teacher.traces(batch)
        self.student.module.train()
        total = self._sum(self.student.traces(batch), theirs)
        if self.weights.get("task"):
            total = total + self.weights["task"] * self.student.loss(batch)
        return total

    def judge(self) -> float:
        """By the task, or by the distance to the teacher."""
        if self.options.judge_by == "task":
            return super().judge()
        self.student.module.eval()
        total, count = 0.0, 0
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same candidates each time
            for batch in self.judged:
                total += float(self._sum(self.student.traces(batch), self.teacher.traces(batch))) * len(batch)
                count += len(batch)
        return total / max(1, count)

    def _sum(self, ours: Traces, theirs: Traces) -> Tensor:
        terms = self._terms(ours, theirs)
        total = ours.visible_BT.new_zeros((), dtype=torch.float32)
        for name, value in terms.items():
            total = total + self.weights[name] * value
        return total

    def _terms(self, ours: Traces, theirs: Traces) -> dict[str, Tensor]:
        options, found = self.options, {}
        if self.weights.get("logits"):
            student, teacher = _both(ours.logits_PC, theirs.logits_PC)
            found["logits"] = losses.logits_loss(
                student, teacher, temperature=options.temperature, divergence=options.divergence
            )
        if self.weights.get("ranking"):
            student, teacher = _both(ours.logits_PC, theirs.logits_PC)
            top = min(options.ranking_top, teacher.shape[-1])
            chosen = losses.candidates(teacher, top=top, sampled=options.ranking_sampled)
            found["ranking"] = losses.ranking_loss(
                student.gather(1, chosen),
                teacher.gather(1, chosen),
                top=top,
                temperature=options.temperature,
                form=options.ranking_form,
            )
        if self.weights.get("embedding"):
            found["embedding"] = losses.embedding_loss(*_both(ours.embedding_BE, theirs.embedding_BE))
        if self.weights.get("hidden"):
            found["hidden"] = self._hidden(ours, theirs)
        if self.weights.get("relations"):
            try:
                found["relations"] = losses.relation_loss(
                    dict(ours.relations),
                    dict(theirs.relations),
                    ours.visible_BT,
                    pairs=options.relation_pairs,
                    heads=self.heads,
                    causal=self.student.family != "encoder",
                )
            except ValueError as error:
                raise BuildError(f"distil: {error}; set relation_heads to a divisor of both") from error
        return found

    def _hidden(self, ours: Traces, theirs: Traces) -> Tensor:
        parts = []
        for place, (own, other) in enumerate(self.layers):
            state = ours.hidden_BTD[own]
            name = f"projection{place}"
            if name in self.network:
                state = self.network[name](state)
            parts.append(losses.hidden_loss(state, theirs.hidden_BTD[other], ours.visible_BT))
        return torch.stack(parts).mean()

    def _add_projections(self, ours: Traces, theirs: Traces) -> None:
        widths = ours.hidden_BTD[0].shape[-1], theirs.hidden_BTD[0].shape[-1]
        if widths[0] == widths[1]:
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            for place in range(len(self.layers)):
                self.network[f"projection{place}"] = nn.Linear(*widths, bias=False)


def run(model: Compressible, options: DistilOptions, work: StepWork) -> tuple[Compressible, StepRecord]:
    """Distil.

    Raises:
        BuildError: the teacher is missing, of another shape or does not answer; training diverged.
    """
    said: list[str] = []
    if options.answers:
        from build_engines.compression.teacher_answers import taught_by_answers

        learner: TaskLearner
        learner, count, who = taught_by_answers(model, options, work)
        said.append(f"learnt {count} answers of {who}")
        what = f"answers of {who}"
    else:
        teacher = open_teacher(options.teacher, model, work.parent, work.scratch / ANSWERS_FILE)
        learner = DistilLearner(model, teacher, options)
        terms = ", ".join(f"{name} x {weight:g}" for name, weight in learner.weights.items())
        said.append(f"learnt {terms} of {'its parent' if options.teacher is None else options.teacher.name}")
        what = teacher.identity
    before = sizes_of(model.sizes)
    described: dict[str, Any] = {name: str(value) for name, value in asdict(options).items()}
    for name in ("device", "processes", "sharding", "launch", "teacher"):
        described.pop(name)
    lesson = lesson_of(
        learner, options, what=f"{what}{described}", factors={"projection": options.projection_factor}
    )
    learnt = learn(lesson, work)
    figures = learnt.figures()
    said.append(
        f"held-out loss {learnt.before:.4f} -> {figures['loss after']:.4f}"
        if learnt.kept
        else f"held-out loss did not fall below {learnt.before:.4f}: the weights stay as they were"
    )
    record = StepRecord(
        step=STEP.name,
        said="; ".join(said),
        figures=figures,
        before=before,
        after=sizes_of(model.sizes),
        curves=learnt.curves(),
    )
    return model, record


def _check(weights: dict[str, float], ours: Traces, theirs: Traces) -> None:
    for term, name in (("logits", "logits_PC"), ("ranking", "logits_PC"), ("embedding", "embedding_BE")):
        if not weights.get(term):
            continue
        student, teacher = getattr(ours, name), getattr(theirs, name)
        for who, one in (("student", student), ("teacher", teacher)):
            if one is None:
                raise BuildError(f"distil: {term} has a weight, and the {who} gives none; set {term} = 0")
        if student.shape[0] != teacher.shape[0] or (term != "embedding" and student.shape != teacher.shape):
            raise BuildError(
                f"distil: {term}: the teacher gives {tuple(teacher.shape)}, the student {tuple(student.shape)}; "
                "both need the same classes and examples"
            )
    if weights.get("hidden") and len(theirs.hidden_BTD) < 2:
        raise BuildError(
            "distil: hidden has a weight, and the teacher shows no hidden states; set hidden = 0"
        )
    if weights.get("relations") and not theirs.relations:
        raise BuildError("distil: relations has a weight, and the teacher shows none; set relations = 0")


def _both(student: Tensor | None, teacher: Tensor | None) -> tuple[Tensor, Tensor]:
    assert student is not None and teacher is not None  # looked at before the first step
    return student, teacher.to(student.device)


STEP: Step[DistilOptions] = Step(
    name="distil",
    options=DistilOptions,
    run=run,
    code=(
        "build_engines.tuning_loop",
        "build_engines.models.bfloat16",
        *(
            f"build_engines.compression.{name}"
            for name in (
                "activations",
                "distil_losses",
                "learning",
                "named_files",
                "teacher",
                "teacher_answers",
                "teacher_cache",
                "teacher_onnx",
                "weights_digest",
            )
        ),
        "build_engines.distributed",
    ),
)
