"""Who learns and who judges: a division by intent and by group, and the refusal of a text that would be on two sides.

Train learns, validation chooses (L2, the best epoch, temperature, threshold), test is only told. A text that is in two of them
makes figures that nobody will see again in the shop, so it is refused, or left out of the side that learns, and counted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from build_engines.data.errors import DataError
from build_engines.intents.examples import Example, text_key
from build_engines.intents.head import OUT_OF_SCOPE

OnLeak = Literal["refuse", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitShares:
    """How examples of one file are divided ([intents.split]).

    Attributes:
        validation_share, test_share: of the groups of each intent; the rest is learnt from. A side that has a file of its own
            takes nothing.
        on_leak: a text that is on two sides stops the build, or is left out of the side that learns.
        seed: of the division.

    Raises:
        ValueError: a share is out of range, or nothing is left to learn from.
    """

    validation_share: float = 0.1
    test_share: float = 0.1
    on_leak: OnLeak = "refuse"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the shares."""
        for name in ("validation_share", "test_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use a share from 0 to below 1")
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave nothing to learn from")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentSets:
    """Examples by what they are for; none of the texts is in two of them, and every intent is in ``train``."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]


def divide(
    examples: Sequence[Example], share: float, *, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Keep the rest, and give ``share`` of each intent's groups away; the order of the examples is kept.

    An intent with two groups or more gives at least one and keeps at least one.
    """
    if share <= 0:
        return tuple(examples), ()
    groups: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at, example in enumerate(examples):
        # A group with several intents is divided by its name alone, so that all of it goes one way.
        groups[example.intent][example.group or f"\0{at}"].append(at)
    given: set[int] = set()
    given_names: set[str] = set()
    kept_names: set[str] = set()
    for number, intent in enumerate(sorted(groups)):
        names = sorted(groups[intent])
        order = np.random.default_rng([seed, number]).permutation(len(names))
        wanted = min(max(1, round(share * len(names))), len(names) - 1)
        shuffled = [names[place] for place in order.tolist()]
        first = [name for name in shuffled if name in given_names]
        free = [name for name in shuffled if name not in given_names and name not in kept_names]
        chosen = first + free[: max(0, wanted - len(first))]
        given_names.update(chosen)
        kept_names.update(set(names) - set(chosen))
        given.update(at for name in chosen for at in groups[intent][name])
    kept = tuple(example for at, example in enumerate(examples) if at not in given)
    return kept, tuple(example for at, example in enumerate(examples) if at in given)


def intent_sets(
    train: Sequence[Example],
    validation: Sequence[Example] | None,
    test: Sequence[Example] | None,
    shares: SplitShares,
) -> tuple[IntentSets, tuple[str, ...]]:
    """Divide what was not given, and see that no text is on two sides.

    Args:
        train: what there is to learn from.
        validation: from a file of its own; None: taken from ``train``.
        test: the same.
        shares: see there.

    Returns:
        The sets, and a sentence for each thing that was done.

    Raises:
        DataError: an intent cannot be learnt or judged, or a text is on two sides and the recipe does not say to drop it.
    """
    rest: tuple[Example, ...] = tuple(train)
    notes: list[str] = []
    left = 1.0
    if test is None:
        rest, test = divide(rest, shares.test_share, seed=shares.seed)
        left -= shares.test_share
    if validation is None:
        share = shares.validation_share / left
        rest, taken = divide(rest, share, seed=shares.seed + 1)
        validation = taken
    rest, validation, dropped = _apart(rest, tuple(validation), tuple(test), shares.on_leak)
    notes += [f"{dropped} examples left out of the sides that learn or choose: they are judged by"] * bool(
        dropped
    )
    _check(rest, validation, tuple(test))
    return IntentSets(train=rest, validation=validation, test=tuple(test)), tuple(notes)


def _apart(
    train: tuple[Example, ...], validation: tuple[Example, ...], test: tuple[Example, ...], on_leak: OnLeak
) -> tuple[tuple[Example, ...], tuple[Example, ...], int]:
    tested = {text_key(example.text) for example in test}
    chosen_by = {text_key(example.text) for example in validation}
    both = [example for example in validation if text_key(example.text) in tested]
    learnt = [example for example in train if text_key(example.text) in tested | chosen_by]
    if not both and not learnt:
        return train, validation, 0
    if on_leak == "refuse":
        raise DataError(
            None,
            f"{len(learnt) + len(both)} texts are learnt from and judged by, such as {(learnt + both)[0].text[:60]!r}",
            hint='take them out of one file, or set on_leak = "drop" in [intents.split] to leave them out of the side that learns',
        )
    kept = tuple(example for example in train if text_key(example.text) not in tested | chosen_by)
    return (
        kept,
        tuple(e for e in validation if text_key(e.text) not in tested),
        len(train) - len(kept) + len(both),
    )


def _check(train: Sequence[Example], validation: Sequence[Example], test: Sequence[Example]) -> None:
    learnt = {example.intent for example in train} - {OUT_OF_SCOPE}
    if len(learnt) < 2:
        raise DataError(None, f"{len(learnt)} intents can be learnt", hint="give examples of two or more")
    for name, side in (("validation", validation), ("test", test)):
        unknown = {example.intent for example in side} - learnt - {OUT_OF_SCOPE}
        if unknown:
            raise DataError(
                None,
                f"the {name} examples have intents that are not learnt: {', '.join(sorted(unknown)[:5])}",
                hint="give examples of them to learn from, or correct the labels",
            )
        if not any(example.intent != OUT_OF_SCOPE for example in side):
            raise DataError(
                None,
                f"there are no {name} examples",
                hint="give more examples, a file of them, or a larger share",
            )


def balanced_weights(counts_C: Sequence[int], power: float) -> list[float]:
    """What an example of each intent counts: ``count ** -power``, one on average over the examples.

    Args:
        counts_C: examples of each intent (>= 1).
        power: 0 counts examples alike, 1 counts intents alike; 0.5 lies between.
    """
    raw = [count**-power for count in counts_C]
    mean = math.fsum(weight * count for weight, count in zip(raw, counts_C, strict=True)) / sum(counts_C)
    return [weight / mean for weight in raw]
