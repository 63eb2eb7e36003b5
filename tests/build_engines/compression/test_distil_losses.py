"""Each distance to a teacher is 0 for the teacher itself, and its gradient points at the teacher."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from build_engines.compression import distil_losses as losses


def states(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relations(seed: int, heads: int, kv_heads: int, width: int) -> dict[str, Tensor]:
    return {name: states(seed + at, 2, kv_heads if at else heads, 5, width) for at, name in enumerate("qkv")}


SEEN = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
DISTANCES: dict[str, Callable[[Tensor], Tensor]] = {
    "forward": lambda x: losses.logits_loss(x, states(0, 6, 9), temperature=2.0, divergence="forward"),
    "reverse": lambda x: losses.logits_loss(x, states(0, 6, 9), temperature=2.0, divergence="reverse"),
    "listnet": lambda x: losses.ranking_loss(x, states(0, 6, 9), top=3, temperature=1.0, form="listnet"),
    "embedding": lambda x: losses.embedding_loss(x, states(0, 6, 9)),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_nobody_is_nearer_to_a_teacher_than_itself(name: str) -> None:
    """0 at the teacher, above elsewhere, and a few steps down the gradient lead most of the way."""
    distance = DISTANCES[name]
    student = states(1, 6, 9).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.1)
    first = float(distance(student))
    for _ in range(200):
        optimizer.zero_grad()
        distance(student).backward()
        optimizer.step()

    assert float(distance(states(0, 6, 9))) == pytest.approx(0, abs=1e-5)
    assert float(distance(student)) < 0.05 * first


def test_logits_are_compared_as_the_paper_says() -> None:
    """KL of softened distributions times the temperature's square, by hand."""
    student, teacher = states(1, 4, 7), states(2, 4, 7)
    p, q = (teacher / 3).softmax(-1), (student / 3).softmax(-1)
    by_hand = (p * (p.log() - q.log())).sum(-1).mean() * 9

    found = losses.logits_loss(student, teacher, temperature=3.0, divergence="forward")
    other = losses.logits_loss(student, teacher, temperature=3.0, divergence="reverse")

    assert float(found) == pytest.approx(float(by_hand), rel=1e-5)
    assert float(other) == pytest.approx(float((q * (q.log() - p.log())).sum(-1).mean() * 9), rel=1e-5)


def test_a_row_that_nobody_may_be_recommended_does_no_harm() -> None:
    """-inf in both (padding) gives a number, and gradients that are numbers."""
    student = states(1, 4, 7)
    student[:, 0] = -math.inf
    student.requires_grad_()
    teacher = states(2, 4, 7)
    teacher[:, 0] = -math.inf

    loss = losses.logits_loss(student, teacher, temperature=1.0, divergence="forward")
    loss.backward()

    assert math.isfinite(float(loss)) and student.grad is not None
    assert bool(torch.isfinite(student.grad[:, 1:]).all())


@given(rows=st.integers(1, 40), top=st.integers(1, 50), sampled=st.integers(0, 50), seed=st.integers(0, 99))
@settings(deadline=None)
def test_candidates_begin_with_the_teachers_best(rows: int, top: int, sampled: int, seed: int) -> None:
    """Whatever is asked for: the best first, in order, and no more than there are."""
    teacher = states(seed, 5, rows)

    chosen = losses.candidates(teacher, top=top, sampled=sampled)

    best = teacher.sort(dim=-1, descending=True).indices[:, : min(top, rows)]
    assert torch.equal(chosen[:, : best.shape[1]], best)
    assert chosen.shape == (5, min(top, rows) + min(sampled, rows))


def test_rankdistil_pushes_the_teachers_best_above_the_rest_and_no_best_down() -> None:
    """After learning, every position ranks the teacher's best three first; one of them drawn as a negative is none."""
    teacher = states(0, 6, 30)
    student = states(1, 6, 30).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.1)
    every = torch.arange(30).expand(6, -1)
    chosen = torch.cat([teacher.topk(3).indices, every], dim=1)
    for _ in range(150):
        optimizer.zero_grad()
        losses.ranking_loss(
            student.gather(1, chosen), teacher.gather(1, chosen), top=3, temperature=1.0, form="rankdistil"
        ).backward()
        optimizer.step()

    found, wanted = (one.topk(3).indices.sort().values for one in (student, teacher))
    assert torch.equal(found, wanted)


def test_relations_are_those_of_minilm() -> None:
    """Queries with queries over all relation heads, scaled, softmax, KL over visible positions: by hand."""
    ours, theirs = relations(0, 2, 2, 4), relations(10, 4, 4, 4)

    found = losses.relation_loss(ours, theirs, SEEN, pairs=("qq",), heads=2, causal=False)

    total, count = 0.0, 0
    for row, length in enumerate((5, 3)):
        for head in range(2):
            distributions = []
            for one, width in ((ours["q"], 8), (theirs["q"], 16)):
                flat = one[row].transpose(0, 1).reshape(5, -1)[:length]
                part = flat[:, head * width // 2 : (head + 1) * width // 2]
                distributions.append((part @ part.T / math.sqrt(width // 2)).softmax(-1))
            q, p = distributions
            total += float((p * (p.log() - q.log())).sum())
            count += length
    assert float(found) == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("pairs", [("qq", "kk", "vv"), ("qk", "vv")])
@pytest.mark.parametrize("causal", [False, True])
def test_relations_of_other_widths_and_heads_can_be_compared(
    pairs: tuple[losses.Pair, ...], causal: bool
) -> None:
    """A student of 2 heads of 4 and a teacher of 4 heads of 6: 0 for oneself, a number for another."""
    ours, theirs = relations(0, 2, 2, 4), relations(5, 4, 4, 6)

    own = losses.relation_loss(ours, ours, SEEN, pairs=pairs, heads=2, causal=causal)
    other = losses.relation_loss(ours, theirs, SEEN, pairs=pairs, heads=2, causal=causal)

    assert float(own) == pytest.approx(0, abs=1e-6) and float(other) > 0.01


def test_a_width_that_cannot_be_cut_is_named() -> None:
    """3 relation heads of a width of 8."""
    with pytest.raises(ValueError, match="relation_heads is 3, a width of 8 cannot be cut"):
        losses.relation_loss(
            relations(0, 2, 2, 4), relations(0, 2, 2, 4), SEEN, pairs=("qq",), heads=3, causal=False
        )


def test_padding_is_not_compared() -> None:
    """What stands where nothing is visible changes no hidden-state and no relation loss."""
    ours, theirs = states(0, 2, 5, 8), states(1, 2, 5, 8)
    changed = ours.clone()
    changed[1, 3:] = 99.0
    left, right = relations(0, 2, 2, 4), relations(5, 2, 2, 4)
    moved = {name: one.clone() for name, one in left.items()}
    for one in moved.values():
        one[1, :, 3:] = 99.0

    def related(one: dict[str, Tensor]) -> float:
        return float(losses.relation_loss(one, right, SEEN, pairs=("qq", "vv"), heads=2, causal=False))

    assert torch.equal(losses.hidden_loss(ours, theirs, SEEN), losses.hidden_loss(changed, theirs, SEEN))
    assert related(left) == related(moved)
    assert float(losses.hidden_loss(theirs, theirs, SEEN)) == 0


@given(student=st.integers(1, 12), teacher=st.integers(1, 24))
def test_layers_are_spread_evenly_and_the_last_meets_the_last(student: int, teacher: int) -> None:
    """Every state of the student has one of the teacher's, in order, within range."""
    pairs = losses.layer_map(student, teacher)

    assert [one for one, _ in pairs] == list(range(student + 1))
    assert pairs[0] == (0, 0) and pairs[-1] == (student, teacher)
    assert all(a <= b for (_, a), (_, b) in itertools.pairwise(pairs))


def test_embeddings_of_another_width_learn_who_is_like_whom() -> None:
    """A student of 4 values learns the teacher's 16-value cosines between texts."""
    teacher, student = states(0, 6, 16), states(1, 6, 8).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        losses.embedding_loss(student, teacher).backward()
        optimizer.step()

    ours, theirs = (functional.normalize(one.detach(), dim=-1) for one in (student, teacher))
    assert torch.allclose(ours @ ours.T, theirs @ theirs.T, atol=0.05)
