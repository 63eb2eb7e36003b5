"""``python -m bench.sampling``: what choosing tokens costs, beside a decode step of given length.

Two kinds of rows: *flat* ones, whose logits are one normal distribution, so that thousands of tokens share the mass (random
weights, and the worst case); and *peaked* ones, with 200 likely tokens far above the rest, as a trained model has them.

Suffixes: ``_B`` rows, ``_V`` the vocabulary. Units: milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from server.sampling.numpy_sampler import NumpySampler
from server.text_domain import GenerateRequest, SamplingParams

STEP_MS = 45.0  # a decode step of 8 texts at this vocabulary, on the machine of the README

Logits = npt.NDArray[np.float32]


class Allowing:
    """A constraint that allows a share of the tokens, the same ones in each step."""

    def __init__(self, vocab_size: int, share: float) -> None:
        bits = np.random.default_rng(1).random((vocab_size + 31) // 32 * 32) < share
        self._words = np.packbits(bits, bitorder="little").view(np.uint32)

    def fill(self, allowed_V: npt.NDArray[np.uint32]) -> None:
        """Write the bits."""
        allowed_V[:] = self._words

    def accept(self, token_id: int) -> None:
        """Ignore it."""

    def done(self) -> bool:
        """Never."""
        return False


CASES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature 1": {},
    "temperature 0.7, top-p 0.9": {"temperature": 0.7, "top_p": 0.9},
    "temperature 0.7, top-k 50, top-p 0.9": {"temperature": 0.7, "top_k": 50, "top_p": 0.9},
    "temperature 0.8, min-p 0.05": {"temperature": 0.8, "min_p": 0.05},
    "top-k 20 with all penalties": {
        "temperature": 0.6, "top_k": 20, "repetition_penalty": 1.05, "presence_penalty": 0.2, "frequency_penalty": 0.2,
    },
    "greedy, 5 logprobs": {"temperature": 0.0, "top_logprobs": 5},
    "temperature 0.7, one token in 1,000 allowed": {"temperature": 0.7, "share": 0.001},
    "temperature 0.7, top-p 0.9, 60 % allowed": {"temperature": 0.7, "top_p": 0.9, "share": 0.6},
}  # fmt: skip


def logits(kind: str, rows: int, vocab_size: int) -> Logits:
    """``logits_BV`` of a kind."""
    rng = np.random.default_rng(0)
    made_BV = rng.normal(0.0, 2.0, (rows, vocab_size)).astype(np.float32)
    if kind == "peaked":
        for row in made_BV:
            row[rng.choice(vocab_size, 200, replace=False)] = 28.0 - np.sort(rng.exponential(3.0, 200))
    return made_BV


def measure(logits_BV: Logits, case: dict[str, Any], repeats: int) -> tuple[float, float]:
    """Median and least CPU milliseconds of one ``sample``, masks made beforehand as the batcher does.

    Of CPU, because it is one thread that never waits, and neighbours on the machine are no cost of it.
    """
    rows, vocab_size = logits_BV.shape
    sampling = {name: value for name, value in case.items() if name != "share"}
    sampler = NumpySampler(vocab_size)
    states = [
        sampler.open(
            GenerateRequest(
                prompt_ids=tuple(range(200)), max_tokens=1, sampling=SamplingParams(seed=row, **sampling)
            ),
            Allowing(vocab_size, case["share"]) if "share" in case else None,
        )
        for row in range(rows)
    ]
    took_ms = []
    for _ in range(repeats):
        given_BV = logits_BV.copy()
        sampler.prepare(states)
        began_s = time.thread_time()
        sampler.sample(given_BV, states)
        took_ms.append((time.thread_time() - began_s) * 1e3)
    return statistics.median(took_ms), min(took_ms)


def measure_all(rows: int = 8, vocab_size: int = 151_936, repeats: int = 60) -> dict[str, Any]:
    """All cases: "flat" and "peaked", median and least milliseconds."""
    made = {kind: logits(kind, rows, vocab_size) for kind in ("flat", "peaked")}
    cases = {
        name: {kind: measure(logits_BV, case, repeats) for kind, logits_BV in made.items()}
        for name, case in CASES.items()
    }
    return {"rows": rows, "vocab_size": vocab_size, "cases": cases}


def table(results: dict[str, Any], step_ms: float = STEP_MS) -> str:
    """As Markdown."""
    lines = [
        f"{results['rows']} rows, {results['vocab_size']:,} tokens, median (least) CPU ms, share of a step of {step_ms:g} ms",
        "",
        "| | flat | peaked |",
        "|---|---|---|",
    ]
    for name, kinds in results["cases"].items():
        cells = [
            f"{median:.2f} ({least:.2f}), {100 * median / step_ms:.1f} %" for median, least in kinds.values()
        ]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--step-ms", type=float, default=STEP_MS, help="decode step to compare with")
    parser.add_argument("--repeats", type=int, default=60)
    args = parser.parse_args()
    print(table(measure_all(args.rows, args.vocab, args.repeats), args.step_ms))


if __name__ == "__main__":
    main()
