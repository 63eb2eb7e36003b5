"""How far a student is from its teacher: by what it says, by how it ranks, by what it sees and how it relates what it sees.

Pure functions of tensors; every one is a mean, 0 where student and teacher agree (``ranking`` by "rankdistil" excepted: it
knows no teacher's own value). The teacher's side has no gradients.

Suffixes: P positions, C classes or rows, K candidates, B examples, E embedding width, T positions of an example, D width,
H heads, R relation heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Divergence = Literal["forward", "reverse"]
RankingForm = Literal["listnet", "rankdistil"]
Pair = Literal["qq", "kk", "vv", "qk"]
_TINY = 1e-6


def logits_loss(
    student_PC: Tensor, teacher_PC: Tensor, *, temperature: float, divergence: Divergence
) -> Tensor:
    """KL divergence of softened distributions, times the temperature's square (gradients keep their size).

    Args:
        student_PC: with gradients.
        teacher_PC: without.
        temperature: > 0; above 1, classes that are unlikely to both count more.
        divergence: "forward", KL(teacher, student): the student covers all that the teacher holds possible; "reverse":
            it keeps to what the teacher holds likely.

    Source:
        Hinton et al., "Distilling the Knowledge in a Neural Network", 2015; Gu et al., "MiniLLM", 2024 (reverse).
    """
    student = (_finite(student_PC) / temperature).log_softmax(-1)
    teacher = (_finite(teacher_PC) / temperature).log_softmax(-1)
    if divergence == "reverse":
        student, teacher = teacher, student
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def candidates(teacher_PC: Tensor, *, top: int, sampled: int) -> Tensor:
    """The teacher's best of each position, and others drawn evenly, for all positions the same ones.

    Returns:
        ``[P, K]``, the best first, K at most ``top + sampled``; torch's randomness. One that is drawn and among the best is
        left in twice: it is weighed, never a false negative, since its teacher's score comes with it.
    """
    rows = teacher_PC.shape[-1]
    best_PK = _finite(teacher_PC).topk(min(top, rows), dim=-1).indices
    drawn_K = torch.randint(0, rows, (min(sampled, rows),), device=teacher_PC.device)
    return torch.cat([best_PK, drawn_K.expand(len(teacher_PC), -1)], dim=-1)


def ranking_loss(
    student_PK: Tensor, teacher_PK: Tensor, *, top: int, temperature: float, form: RankingForm
) -> Tensor:
    """How far the student's order of the candidates is from the teacher's.

    Args:
        student_PK: its scores of ``candidates``.
        teacher_PK: the teacher's.
        top: how many of the first are the teacher's best.
        temperature: of "listnet".
        form: "listnet": KL of the top-one probabilities over the candidates. "rankdistil": every one of the teacher's best,
            weighed by 1 / log2(rank + 1), should be above every other candidate (logistic).

    Source:
        Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", 2007; Reddi et al., "RankDistil", 2021.
    """
    if form == "listnet":
        return logits_loss(student_PK, teacher_PK, temperature=temperature, divergence="forward")
    best_PK, others_PK = student_PK[:, :top].float(), student_PK[:, top:].float()
    floor_P1 = _finite(teacher_PK)[:, :top].amin(-1, keepdim=True)
    below_PK = (
        _finite(teacher_PK)[:, top:] < floor_P1
    ).float()  # what was drawn and belongs to the best is not below
    rank_K = torch.arange(1, best_PK.shape[1] + 1, device=best_PK.device)
    weight_K = 1 / torch.log2(rank_K + 1.0)
    gaps_PKK = functional.softplus(others_PK[:, None, :] - best_PK[:, :, None]) * below_PK[:, None, :]
    count = below_PK.sum().clamp_min(1.0)
    return (gaps_PKK.sum(-1) * (weight_K / weight_K.sum())).sum() / count


def embedding_loss(student_BE: Tensor, teacher_BE: Tensor) -> Tensor:
    """1 - cosine where widths are the same, and how differently two texts are alike; of unlike widths the latter alone.

    Source:
        Reimers and Gurevych, "Making Monolingual Sentence Embeddings Multilingual", 2020; Tung and Mori,
        "Similarity-Preserving Knowledge Distillation", 2019.
    """
    student = functional.normalize(student_BE.float(), dim=-1)
    teacher = functional.normalize(teacher_BE.float(), dim=-1)
    alike = (student @ student.T - teacher @ teacher.T).square().mean()
    if student.shape[-1] != teacher.shape[-1]:
        return alike
    return alike + (1 - (student * teacher).sum(-1)).mean()


def hidden_loss(student_BTD: Tensor, teacher_BTD: Tensor, visible_BT: Tensor) -> Tensor:
    """Squared distance at visible positions over the teacher's own mean square, so that a weight means the same everywhere.

    Args:
        student_BTD: of the teacher's width (behind a projection where it has another).
        teacher_BTD: without gradients.
        visible_BT: positions that hold something.

    Source:
        Jiao et al., "TinyBERT", 2020, equation 8.
    """
    ours, theirs = student_BTD[visible_BT].float(), teacher_BTD[visible_BT].float()
    return (ours - theirs).square().mean() / theirs.square().mean().clamp_min(_TINY)


def relation_loss(
    student: dict[str, Tensor],
    teacher: dict[str, Tensor],
    visible_BT: Tensor,
    *,
    pairs: Sequence[Pair],
    heads: int,
    causal: bool,
) -> Tensor:
    """KL divergence of scaled products between positions: queries with queries, keys with keys, values with values.

    Args:
        student: "q", "k", "v" as ``[B, H, T, head_dim]``; the heads are laid side by side and cut anew into ``heads``.
        teacher: the same, of any width and number of heads.
        visible_BT: positions that hold something.
        pairs: ("qq", "kk", "vv") is MiniLM's second form; ("qk", "vv") its first, which takes as many heads in both.
        heads: relation heads; they divide the widths of both.
        causal: a position is related to those before it alone.

    Raises:
        ValueError: a width is no multiple of ``heads``.

    Source:
        Wang et al., "MiniLM", 2020, and "MiniLMv2", 2021, section 3.1.
    """
    seen_BTT = visible_BT[:, :, None] & visible_BT[:, None, :]
    if causal:
        length = visible_BT.shape[1]
        seen_BTT = seen_BTT & torch.ones(length, length, dtype=torch.bool, device=visible_BT.device).tril()
    total = student["q"].new_zeros((), dtype=torch.float32)
    for pair in pairs:
        ours = _relations(student[pair[0]], student[pair[1]], heads, seen_BTT)
        theirs = _relations(teacher[pair[0]], teacher[pair[1]], heads, seen_BTT)
        gaps_BRT = functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
        counted_BRT = visible_BT[:, None, :].expand_as(gaps_BRT)
        total = total + gaps_BRT[counted_BRT].mean()
    return total / len(pairs)


def layer_map(student: int, teacher: int) -> tuple[tuple[int, int], ...]:
    """Which hidden states are compared: the tables', and evenly spread blocks, the last with the last.

    Args:
        student: its blocks (>= 1).
        teacher: its blocks (>= 1).
    """
    pairs = [(0, 0)]
    pairs += [(one, max(1, round(one * teacher / student))) for one in range(1, student + 1)]
    return tuple(pairs)


def _relations(left_BHTD: Tensor, right_BHTD: Tensor, heads: int, seen_BTT: Tensor) -> Tensor:
    left, right = (_split(one, heads) for one in (left_BHTD, right_BHTD))
    scores = (left @ right.transpose(-1, -2)).float() / math.sqrt(left.shape[-1])
    return scores.masked_fill(~seen_BTT[:, None], -1e9).log_softmax(-1)


def _split(states_BHTD: Tensor, heads: int) -> Tensor:
    batch, own, length, width = states_BHTD.shape
    if own * width % heads:
        raise ValueError(f"relation_heads is {heads}, a width of {own * width} cannot be cut into them")
    together = states_BHTD.transpose(1, 2).reshape(batch, length, heads, own * width // heads)
    return together.transpose(1, 2)


def _finite(logits: Tensor) -> Tensor:
    # Rows that cannot be asked for (padding) are -inf: as good as impossible, and a difference of two is a number.
    return logits.float().clamp_min(-1e4)
