"""A line that measures nothing real: figures that follow from the settings, so that the right answer is known."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from build_engines.search.outcome import Outcome
from build_engines.search.part import Rung, SearchPart


def part_of(text: str) -> SearchPart:
    """[search] as TOML."""
    return msgspec.convert(tomllib.loads(text), type=SearchPart)


PART = part_of("""
trials = 10
startup_trials = 4
seed = 1
[objective]
max_loss = 0.02
decided = false
p99_ms = 5.0
take = "smallest"
[[vary]]
set = "network.dim"
choices = [16, 32, 64, 128]
[[vary]]
set = "quantize.precision"
choices = ["fp32", "int8"]
[[rungs]]
set = { "train.epochs" = 1 }
examples = 10
keep = 0.5
""")


@dataclass(slots=True)
class FakeLine:
    """Wider is better and larger; INT8 is four times smaller and costs half a per cent. The smallest that holds: 64 in INT8."""

    asked: list[tuple[tuple[str, ...], int]] = field(default_factory=list)
    before: Callable[[int], None] = lambda count: None

    def reference(self, number: int) -> Outcome:
        return self._outcome((), 9, 128, int8=False)

    def measure(self, sets: Sequence[str], rung: Rung, place: int) -> Outcome:
        self.before(len(self.asked))
        self.asked.append((tuple(sets), place))
        values = dict(one.split("=", 1) for one in sets)
        return self._outcome(
            tuple(sets), place, int(values["network.dim"]), int8=values["quantize.precision"] == '"int8"'
        )

    def _outcome(self, sets: tuple[str, ...], place: int, dim: int, *, int8: bool) -> Outcome:
        loss = {16: 0.2, 32: 0.05, 64: 0.01, 128: 0.0}[dim] + (0.005 if int8 else 0.0)
        return Outcome(
            sets=sets,
            rung=place,
            loss=loss,
            interval=(loss - 0.01, loss + 0.01),
            metric="ndcg@10",
            before=0.1,
            after=0.1 * (1 - loss),
            examples=100,
            p99_s=dim * 1e-5,
            p99_interval_s=(dim * 0.9e-5, dim * 1.1e-5),
            size_bytes=dim * 1000 // (4 if int8 else 1),
            memory_bytes=dim * 2000,
            seconds=0.1,
        )
