"""What the continuous batcher is built from: one loaded version of a text model, and the limits it serves under.

Units: seconds, and tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from server.batching.token_cost import TokenCosts
from server.engines.causal import CausalEngine
from server.sampling.base import ConstraintCompiler, Sampler, TextWriter
from server.text_domain import GenerateRequest, TextModelInfo
from server.text_generator import TextCodec


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel:
    """One loaded version: what ``ContinuousBatcher`` serves and ``swap`` replaces. It closes none of it.

    Attributes:
        engine: used by one thread of the batcher only.
        sampler: ``sample`` is called on that thread, ``prepare`` on a second one.
        compiler: called on a pool of ``TextLimits.compile_threads`` threads.
        codec: its ``eos_ids`` end a text.
        writer: makes one ``TextWriter`` a text; called on the event loop.
        info: what ``ContinuousBatcher.info`` says.
        costs: what calls take, measured on this machine (``token_cost.measure``); None: learned from the first calls.
    """

    engine: CausalEngine
    sampler: Sampler
    compiler: ConstraintCompiler
    codec: TextCodec
    writer: Callable[[GenerateRequest], TextWriter]
    info: TextModelInfo
    costs: TokenCosts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLimits:
    """What the batcher promises and how far it goes for it.

    Attributes:
        max_texts: texts at once, waiting and running (> 0).
        first_token_s: objective for the first token; what would come later is refused (> 0).
        inter_token_s: objective between two tokens of a text; prompts are computed in chunks that keep it (> 0).
        max_step_tokens: prompt tokens a step may compute (> 0).
        min_chunk: prompt tokens a step computes at least when prompts wait, whatever the objective (> 0). A chunk of 16 takes
            60 % of the time of one of 60 on a CPU: four of them would delay everybody more than one.
        answer_tokens: answer tokens a text is given room for at first; it moves to a larger slot when it needs one (> 0).
        patience_s: a waiting text gains one level of priority each time this passes (> 0).
        hang_s: an engine that is this long in one step is taken for hung (> 0).
        max_compiles: constraints that may wait to be compiled (> 0).
        compile_threads: threads that compile constraints (> 0).

    Raises:
        ValueError: a limit is out of range; the message names it.
    """

    max_texts: int = 256
    first_token_s: float = 2.0
    inter_token_s: float = 0.15
    max_step_tokens: int = 512
    min_chunk: int = 64
    answer_tokens: int = 128
    patience_s: float = 5.0
    hang_s: float = 10.0
    max_compiles: int = 32
    compile_threads: int = 1

    def __post_init__(self) -> None:
        for name in ("max_texts", "max_step_tokens", "min_chunk", "answer_tokens", "max_compiles"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, must be > 0")
        if self.compile_threads < 1:
            raise ValueError(f"compile_threads = {self.compile_threads}, must be > 0")
        for name in ("first_token_s", "inter_token_s", "patience_s", "hang_s"):
            if not 0.0 < getattr(self, name) <= math.inf:
                raise ValueError(f"{name} = {getattr(self, name)}, must be > 0")
