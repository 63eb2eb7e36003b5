"""What a text engine is asked for and what comes back; knows no wire, no array and no tokenizer.

A generation is a row of ``Chunk`` events and then exactly one ``Finished`` or ``Failed``. Units: tokens, and seconds on
the monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from server.errors import ServeError

TEXT_TASK = "text_generation"  # of manifests and lists of models


class FinishReason(StrEnum):
    """Why a generation ended without an error; the words are OpenAI's."""

    STOP = "stop"
    LENGTH = "length"


class ConstraintKind(StrEnum):
    """How a ``Constraint`` is written."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    LARK = "lark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What the text must match.

    Attributes:
        kind: how ``text`` is read; ``CHOICE`` is a JSON list of strings.
        text: the schema (JSON), expression, choices or grammar.
    """

    kind: ConstraintKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen; the defaults sample from the model as it is.

    Attributes:
        temperature: 0 is greedy.
        top_k: 0 is off.
        top_p: in (0, 1]; 1 is off.
        min_p: in [0, 1]; 0 is off.
        repetition_penalty: over prompt and answer (> 0); 1 is off.
        presence_penalty, frequency_penalty: over the answer, in [-2, 2]; OpenAI's.
        seed: same seed and prompt, same text, whatever else runs; None: not repeatable, unless it is greedy.
        logit_bias: token id to what is added, in [-100, 100].
        top_logprobs: how many alternatives are told a token; None: no logprobs at all, 0: of the chosen token only.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    top_logprobs: int | None = None

    @property
    def repeatable(self) -> bool:
        """Whether the same prompt must give the same text, whatever else runs."""
        return self.seed is not None or self.temperature == 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One text to write.

    Attributes:
        prompt_ids: tokens of the prompt, at least one.
        max_tokens: tokens to write at most (>= 1).
        sampling: how each is chosen.
        stop: strings that end the text and are not part of it.
        stop_token_ids: further tokens that end it.
        ignore_eos: write on after the model's own end of text.
        constraint: what the text must match.
        priority: 0 is served first; live traffic is 0, bulk work 9.
        tenant: whose it is, for fairness.
        deadline_at_s: when the whole answer is of no use any more.
        first_token_at_s: when the first token is of no use any more.
        arrived_at_s: when its request arrived, from which its times are counted; None: when it is submitted.
    """

    prompt_ids: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams = SamplingParams()
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    constraint: Constraint | None = None
    priority: int = 0
    tenant: str = ""
    deadline_at_s: float = math.inf
    first_token_at_s: float = math.inf
    arrived_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token with its log-probability (natural, after penalties, before temperature) and its alternatives."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """What was written since the last one.

    Attributes:
        text: whole characters only; may be empty while a character or a possible stop string is unfinished.
        token_ids: tokens sampled since the last chunk.
        logprobs: of those tokens, when asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one generation; ``cached_tokens`` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of a generation that went well.

    Attributes:
        reason: why.
        usage: what it took.
        queue_s: from arrival until its first prompt token was computed.
        first_token_s: from arrival until its first token.
        total_s: from arrival until now.
        stop: the stop string or token that ended it, if one did.
    """

    reason: FinishReason
    usage: Usage
    queue_s: float
    first_token_s: float
    total_s: float
    stop: str | int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a generation that did not."""

    error: ServeError
    usage: Usage


TextEvent = Chunk | Finished | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModelInfo:
    """What is served.

    Attributes:
        name, version: of the model.
        engine: runner, for example ``"onnxruntime"`` or ``"upstream"``.
        precision: of the weights.
        vocab_size: tokens.
        max_context: tokens of prompt and answer together.
        created_s: Unix time of its publication.
        counts_tokens: whether its codec's tokens are the model's. If not, the engine is elsewhere, the length of a prompt
            is not known here, and ``max_tokens`` of ``max_context`` or more means what fits.
    """

    name: str
    version: str
    engine: str
    precision: str
    vocab_size: int
    max_context: int
    created_s: int = 0
    counts_tokens: bool = True
