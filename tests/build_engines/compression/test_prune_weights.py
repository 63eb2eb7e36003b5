"""Zeros in the weights of a model: as many as asked for, where asked for, still there after training, and no whole matrix."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from build_engines.compression.finetune import STEP as FINETUNE
from build_engines.compression.learning import LearningOptions
from build_engines.compression.prune_weights import PruneWeights
from build_engines.compression.schedule import counts, sparsities
from build_engines.compression.semi_structured import is_two_of_four
from build_engines.compression.step import StepWork
from build_engines.errors import BuildError
from build_engines.progress import Silent
from tests.build_engines.compression.stepping import stepped, tiny
from tests.build_engines.compression.tiny_model import SIZES, TinyModel

RECOVERY = LearningOptions(epochs=2, learning_rate=3e-3)
FAST = LearningOptions(epochs=4, learning_rate=3e-2, patience=9)  # far enough for l1 to bring weights to zero
METHODS: dict[str, dict[str, Any]] = {
    "magnitude": {},
    "wanda": {},
    "sparsegpt": {},
    "movement": {"recovery": RECOVERY},
    "l1": {"recovery": RECOVERY, "l1": 1e-3},
    "cubic": {"method": "magnitude", "rounds": 2, "recovery": RECOVERY},
}


def matrices(model: TinyModel) -> dict[str, torch.Tensor]:
    return {
        name: model.module.get_submodule(name).get_parameter("weight").detach()
        for block in model.blocks
        for name in block.linears
    }


def share_of_zeros(model: TinyModel) -> float:
    weights = list(matrices(model).values())
    return sum(int((one == 0).sum()) for one in weights) / sum(one.numel() for one in weights)


@pytest.mark.parametrize("method", METHODS)
def test_the_sparsity_asked_for_is_reached(tmp_path: Path, method: str) -> None:
    """By every method, and the record says so; biases, norms and the table keep all they have."""
    pruned, record = stepped(
        "prune_weights", tmp_path, **{"method": method, "sparsity": 0.6} | METHODS[method]
    )

    assert share_of_zeros(pruned) == pytest.approx(0.6, abs=0.02)
    assert not any(bool(one[one == 0].signbit().any()) for one in matrices(pruned).values())  # no -0.0
    assert record.figures["sparsity"] == share_of_zeros(pruned)
    assert record.figures["bytes packed after"] < 0.85 * record.figures["bytes packed before"]
    assert int((pruned.module.table.weight == 0).sum()) == 0
    assert record.figures["loss after"] == pruned.judge()
    assert not any("speed" in name or "faster" in record.said for name in record.figures)


@pytest.mark.parametrize("method", METHODS)
def test_two_of_four_holds_in_every_matrix(tmp_path: Path, method: str) -> None:
    """After pruning and after the fine-tuning behind it."""
    options = {"method": method, "recovery": RECOVERY} | METHODS[method] | {"rounds": 1}

    pruned, record = stepped("prune_weights", tmp_path, pattern="2:4", **options)

    assert all(is_two_of_four(one) for one in matrices(pruned).values())
    assert share_of_zeros(pruned) == pytest.approx(0.5, abs=0.01)
    assert record.figures["two of four"] == 1.0


def test_zeros_stay_zero_while_the_rest_learns(tmp_path: Path) -> None:
    """In the rounds of the step and in a step of training behind it: what is zero once is zero in the end."""
    first, _ = stepped("prune_weights", tmp_path / "a", sparsity=0.3)
    zeros = {name: one == 0 for name, one in matrices(first).items()}
    second, _ = stepped("prune_weights", tmp_path / "b", first, sparsity=0.6, rounds=2, recovery=RECOVERY)
    more, _ = stepped("prune_weights", tmp_path / "d", second, sparsity=0.9)  # leaves something to learn
    zeros_after = {name: one == 0 for name, one in matrices(more).items()}
    before = {name: one.clone() for name, one in matrices(more).items()}

    options = FINETUNE.options(epochs=2, learning_rate=3e-3)
    work = StepWork(scratch=tmp_path / "c", progress=Silent(), parent=tiny())
    tuned, _ = FINETUNE.run(more, options, work)

    for name, weight in matrices(tuned).items():
        assert (weight[zeros[name] | zeros_after[name]] == 0).all()
    assert any(not torch.equal(one, before[name]) for name, one in matrices(tuned).items())


def test_a_killed_round_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """With the checkpoints of a run that was stopped in its second round, the result is that of one that was not."""
    options: dict[str, Any] = {"sparsity": 0.6, "rounds": 2, "recovery": RECOVERY}

    class Stopped(Exception):
        pass

    class Until(Silent):
        def __init__(self) -> None:
            self.steps = 0

        def step(self, what: str, done: float, total: float, note: str = "") -> None:
            self.steps += what.startswith("training")
            if self.steps == 18:
                raise Stopped

    whole, _ = stepped("prune_weights", tmp_path / "whole", **options)
    work = StepWork(scratch=tmp_path / "cut", progress=Until(), parent=tiny())
    from build_engines.compression.prune_weights import STEP

    with pytest.raises(Stopped):
        STEP.run(tiny(), PruneWeights(**options), work)
    resumed, _ = stepped("prune_weights", tmp_path / "cut", **options)

    assert all(torch.equal(one, matrices(whole)[name]) for name, one in matrices(resumed).items())


def test_movement_leaves_plain_weights(tmp_path: Path) -> None:
    """No score, mask or parametrization is left in the model, also where training is stopped by an error."""
    names = {name for name, _ in tiny().module.named_parameters()}
    pruned, _ = stepped("prune_weights", tmp_path, method="movement", sparsity=0.5, recovery=RECOVERY)
    assert {name for name, _ in pruned.module.named_parameters()} == names

    broken = tiny()
    with torch.no_grad():
        broken.module.norm.weight.fill_(float("nan"))
        broken.judge = lambda: 1.0  # type: ignore[method-assign]
    with pytest.raises(BuildError, match="lower learning_rate"):
        stepped("prune_weights", tmp_path / "nan", broken, method="movement", sparsity=0.5, recovery=RECOVERY)
    assert {name for name, _ in broken.module.named_parameters()} == names


def test_l1_makes_true_zeros_and_more_of_them_with_a_larger_lambda(tmp_path: Path) -> None:
    """Without a sparsity asked for, lambda decides."""
    shares = []
    for strength in (1e-5, 1e-3, 1e-2):
        pruned, _ = stepped(
            "prune_weights", tmp_path / str(strength), method="l1", l1=strength, recovery=FAST
        )
        shares.append(share_of_zeros(pruned))

    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.2


def test_only_the_linears_named_are_pruned(tmp_path: Path) -> None:
    """By pattern; and the table only when asked for."""
    pruned, _ = stepped("prune_weights", tmp_path, sparsity=0.5, linears=("blocks.*.up",), table=True)

    zeros = {name: float((one == 0).float().mean()) for name, one in matrices(pruned).items()}
    assert all(share == (0.5 if name.endswith(".up") else 0.0) for name, share in zeros.items())
    assert float((pruned.module.table.weight == 0).float().mean()) == pytest.approx(0.5, abs=0.01)

    tuned, record = stepped(
        "prune_weights", tmp_path / "tuned", sparsity=0.9, linears=(), table=True, recovery=RECOVERY
    )
    assert record.figures["sparsity"] == pytest.approx(0.9, abs=0.01)
    assert record.figures["loss after"] < record.figures["loss pruned"]
    assert float((tuned.module.table.weight == 0).float().mean()) == pytest.approx(record.figures["sparsity"])


def test_magnitude_of_all_matrices_takes_the_smallest_wherever_they_are(tmp_path: Path) -> None:
    """Scope global: shares differ, and no weight that is left is smaller than one that went."""
    before = matrices(tiny())
    pruned, _ = stepped("prune_weights", tmp_path, sparsity=0.5, scope="global")

    after = matrices(pruned)
    largest_gone = max(float(before[name][one == 0].abs().max()) for name, one in after.items())
    smallest_left = min(float(one[one != 0].abs().min()) for one in after.values())
    assert largest_gone <= smallest_left
    assert len({int((one == 0).sum()) / one.numel() for one in after.values()}) > 1


def test_movement_keeps_the_best_point_that_has_all_its_zeros(tmp_path: Path) -> None:
    """Dense points before are better here: they are not what comes out."""
    short = LearningOptions(epochs=3, learning_rate=3e-3, evaluate_every=1, patience=99)

    pruned, record = stepped("prune_weights", tmp_path, method="movement", sparsity=0.95, recovery=short)

    (curve,) = [one for one in record.curves if one.name == "held-out loss, movement"]
    assert record.figures["loss before"] + 0.1 < min(loss for _, loss in curve.points)
    assert pruned.judge() == pytest.approx(min(loss for _, loss in curve.points), rel=1e-5)


def test_a_lambda_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    """L1 far too strong makes whole matrices zero, which is said."""
    with pytest.raises(BuildError, match="would be nothing but zeros"):
        stepped(
            "prune_weights",
            tmp_path,
            method="l1",
            l1=1.0,
            recovery=dataclasses.replace(FAST, learning_rate=0.1),
        )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sparsity": 0.999, "linears": ("blocks.0.*",)}, "would be nothing but zeros.*ask for less"),
        (
            {"sparsity": 0.5, "linears": ("layers.*",)},
            r"no linear is called layers\.\*; there are blocks.0.q",
        ),
    ],
)
def test_pruning_to_nothing_is_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    """With what would be gone, and what there is."""
    model = tiny()
    with torch.no_grad():  # one matrix far smaller than all others
        model.module.blocks[0].get_submodule("q").get_parameter("weight").mul_(1e-6)

    with pytest.raises(BuildError, match=sentence):
        stepped("prune_weights", tmp_path, model, scope="global", **options)


def test_two_of_four_of_a_width_without_groups_is_refused(tmp_path: Path) -> None:
    """With the linear's name and width."""
    narrow = TinyModel(dataclasses.replace(SIZES, inner=30))

    with pytest.raises(BuildError, match=r"blocks\.0\.down is 30 wide, 2:4 needs a multiple of 4"):
        stepped("prune_weights", tmp_path, narrow, pattern="2:4")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "sparsity is missing"),
        ({"sparsity": 1.0}, "sparsity is 1.0; use 0.001 to 0.999"),
        ({"sparsity": float("nan")}, "sparsity is nan"),
        ({"sparsity": 0.4, "pattern": "2:4"}, "sparsity is 0.4; pattern 2:4 is half zeros"),
        ({"sparsity": 0.4, "rounds": 3}, "nothing is learnt between them"),
        ({"sparsity": 0.4, "method": "movement"}, "recovery is missing"),
        ({"sparsity": 0.4, "method": "wanda", "table": True}, 'goes with method "magnitude" only'),
        ({"method": "l1", "l1": 0.0, "recovery": RECOVERY}, "l1 is 0.0"),
        ({"sparsity": 0.4, "calibration": 0}, "calibration is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_field_and_value(
    options: dict[str, Any], sentence: str
) -> None:
    """Before anything runs."""
    with pytest.raises(ValueError, match=sentence):
        PruneWeights(**options)


@given(st.floats(0.01, 0.99), st.integers(1, 20), st.sampled_from(["cubic", "one_shot"]))
def test_a_schedule_rises_and_ends_where_it_was_asked_to(final: float, rounds: int, kind: Any) -> None:
    """Never a round with fewer zeros, and the last is exact."""
    found = sparsities(final, rounds, kind)

    assert found[-1] == final
    assert all(0 < low <= high for low, high in itertools.pairwise(found))


@given(st.integers(1, 3000), st.data(), st.integers(1, 20), st.sampled_from([1, 4, 32]))
def test_rounds_of_a_cut_get_smaller_and_end_at_the_size_asked_for(
    have: int, data: st.DataObject, rounds: int, multiple: int
) -> None:
    """Each is a cut, and nothing but the last need be other than a multiple."""
    wanted = data.draw(st.integers(1, have))

    found = counts(have, wanted, rounds, multiple)

    assert found[-1] == wanted and len(found) <= rounds
    assert all(size % multiple == 0 for size in found[:-1])
    assert all(low > high for low, high in zip((have + 1, *found), found, strict=False))
