"""Constraints by llguidance: schema, expression, choice or grammar to the tokens that may come next.

A constraint is compiled with its first mask, so that what is too complex is refused before it has a slot. The masks after
it are bounded one by one by the same fuel, and all of a text together by a budget of CPU time: an ambiguous grammar costs
more with every token, and everybody else's next token waits for it. Special tokens stand for no text: no constraint is met by one, but for the end of the text,
which is allowed where the constraint may end and at no other place.

Compiled constraints are kept: catalogues send the same schema thousands of times.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from server.errors import InvalidRequest
from server.sampling.base import Mask
from server.sampling.grammar_limits import FIELD, JSON_FORM, grammar_of
from server.text_domain import Constraint, ConstraintKind, GenerateRequest
from server.text_generator import TextCodec

KEPT = 64
MAX_COMPILE_S = 1.0  # of CPU; what takes that long makes slow masks as well
FREE_S = 0.5  # of CPU that the masks of a text may take, whatever its length
TOKEN_S = 1e-3  # and this much more for every token; a mask of a schema takes a tenth
_SHOWN_CHARS = 300
_ENDLESS = "no text meets it: a rule or reference leads back to itself without an end, or nothing may follow"


def _limits() -> LLParserLimits:
    """Fuel, about 14,000 a millisecond, and lexer states of 2 kB."""
    return LLParserLimits(
        max_items_in_row=2100,  # a choice of 2,048 is one row
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=50_000,
        step_max_items=20_000,
        max_lexer_states=20_000,
        max_grammar_size=100_000,
        verbose_errors=False,
    )


class GrammarCodec(TextCodec, Protocol):
    """A codec that knows its special tokens.

    Attributes:
        special_ids: tokens that stand for no text.
    """

    special_ids: frozenset[int]

    def special_text(self, token_id: int) -> str:
        """How a special token is written."""


class GrammarMask:
    """A ``Mask``: where one text is in its constraint.

    Args:
        matcher: of this text alone.
        tokens: that it knows.
        hidden: a token that the model has not, and that is told to nobody; None: there is none.
        kind: of the constraint, for what is told of it.
        cpu_s: CPU time of the calling thread.
    """

    def __init__(
        self,
        matcher: LLMatcher,
        tokens: int,
        hidden: int | None,
        kind: ConstraintKind,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._matcher = matcher
        self._kind = kind
        self._cpu_s = cpu_s
        self._spent_s = 0.0
        self._accepted = 0
        self._refused: InvalidRequest | None = None
        self._own = np.zeros((tokens + 31) // 32, np.uint32)
        self._hidden = hidden

    def fill(self, allowed_V: npt.NDArray[np.uint32]) -> None:
        """Write the tokens allowed next; none where the constraint became too complex to go on: ``refused`` says it."""
        own = self._own
        if self._refused is None:
            began_s = self._cpu_s()
            self._matcher.unsafe_compute_mask_ptr(own.ctypes.data, own.nbytes)
            self._charge(began_s)
            if self._matcher.is_error():
                self._refuse(self._matcher.get_error())
        if self._refused is not None:
            own[:] = 0
        elif self._hidden is not None:
            own[self._hidden // 32] &= ~(np.uint32(1) << np.uint32(self._hidden % 32))
        shared = min(len(own), len(allowed_V))
        allowed_V[:shared] = own[:shared]
        allowed_V[shared:] = 0

    def accept(self, token_id: int) -> None:
        """This token was chosen.

        Raises:
            ValueError: it was not allowed, or the constraint became too complex with it.
        """
        began_s = self._cpu_s()
        taken = self._matcher.consume_token(token_id)
        self._accepted += 1
        if not taken:
            said = self._matcher.get_error()
            # Of a token that the mask has not, the client's grammar is not to blame.
            if not self._own[token_id // 32] >> np.uint32(token_id % 32) & np.uint32(1):
                raise ValueError(f"token {token_id} was not allowed: {said[:_SHOWN_CHARS]}")
            self._refuse(said)
            raise ValueError(f"the constraint cannot be followed: {said[:_SHOWN_CHARS]}")
        self._charge(began_s)

    @property
    def refused(self) -> InvalidRequest | None:
        """Why the constraint cannot be followed any further, for the one who sent it; None: it can."""
        return self._refused

    def _charge(self, began_s: float) -> None:
        self._spent_s += self._cpu_s() - began_s
        budget_s = FREE_S + TOKEN_S * self._accepted
        if self._spent_s > budget_s:
            self._refuse(
                f"following it took {self._spent_s:.2f} s of CPU time in {self._accepted} tokens, the limit is "
                f"{FREE_S:g} s and {TOKEN_S * 1e3:g} ms a token"
            )

    def _refuse(self, problem: str) -> None:
        if self._refused is None:
            self._refused = _refused(self._kind, f"{problem} (after {self._accepted} tokens of the text)")

    def done(self) -> bool:
        """Whether nothing but the end of the text may follow."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()


class GrammarCompiler:
    """A ``ConstraintCompiler`` for one codec; may be called on several threads.

    Args:
        codec: tokens of the model.
        keep: compiled constraints that are kept.

    Raises:
        ValueError: the tokens cannot be used for grammars; says why.
    """

    def __init__(self, codec: GrammarCodec, *, keep: int = KEPT) -> None:
        # A model without an end of text gets one that its logits do not have: its texts end where nothing may follow.
        ends = sorted(codec.eos_ids) or [codec.vocab_size]
        tokens = _Tokens(codec, ends)
        self._tokenizer = LLTokenizer(TokenizerWrapper(tokens), n_vocab=len(tokens.tokens), eos_token=ends)
        self._tokens = len(tokens.tokens)
        self._hidden = None if codec.eos_ids else codec.vocab_size
        self._keep = keep
        self._kept: OrderedDict[tuple[ConstraintKind, str], LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, request: GenerateRequest) -> Mask | None:
        """A mask for the request's constraint, None without one.

        Raises:
            InvalidRequest: it does not compile, or is too large; says where.
        """
        constraint = request.constraint
        if constraint is None:
            return None
        key = constraint.kind, constraint.text
        with self._lock:
            matcher = self._kept.get(key)
            if matcher is not None:
                self._kept.move_to_end(key)
                return self._mask(matcher, constraint.kind)
        matcher = self._compiled(constraint)
        with self._lock:
            self._kept[key] = matcher
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
            return self._mask(matcher, constraint.kind)

    def _mask(self, matcher: LLMatcher, kind: ConstraintKind) -> GrammarMask:
        return GrammarMask(matcher.deep_copy(), self._tokens, self._hidden, kind)

    def _compiled(self, constraint: Constraint) -> LLMatcher:
        kind, text = grammar_of(constraint)
        try:
            if kind is ConstraintKind.JSON_SCHEMA:
                grammar = LLMatcher.grammar_from_json_schema(text, defaults=JSON_FORM)
            elif kind is ConstraintKind.REGEX:
                grammar = LLMatcher.grammar_from_regex(text)
            else:
                grammar = LLMatcher.grammar_from_lark(text)
        except ValueError as error:
            raise _refused(constraint.kind, str(error)) from error
        began_s = time.thread_time()
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_limits())
        first = np.zeros((self._tokens + 31) // 32, np.uint32)
        if not matcher.is_error():
            matcher.unsafe_compute_mask_ptr(first.ctypes.data, first.nbytes)
        if matcher.is_error():
            raise _refused(constraint.kind, matcher.get_error())
        took_s = time.thread_time() - began_s
        if took_s > MAX_COMPILE_S:
            raise _refused(
                constraint.kind, f"compiling it took {took_s:.1f} s, the limit is {MAX_COMPILE_S} s"
            )
        if not first.any():
            raise _refused(constraint.kind, "no text can begin like this")
        return matcher


class _Tokens:
    """What ``LLTokenizer`` asks of a tokenizer."""

    def __init__(self, codec: GrammarCodec, ends: Sequence[int]) -> None:
        self.eos_token_id = ends[0]
        self.bos_token_id = None
        self.tokens = [
            codec.special_text(token).encode() if token in codec.special_ids else codec.token_bytes(token)
            for token in range(codec.vocab_size)
        ]
        if not codec.eos_ids:
            self.tokens.append(b"<|end of text|>")
        self.special_token_ids = sorted(codec.special_ids | set(ends))
        self._codec = codec

    def __call__(self, text: Any) -> list[int]:
        read = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return self._codec.encode(read, add_special_tokens=False)


def _refused(kind: ConstraintKind, problem: str) -> InvalidRequest:
    problem = problem.replace("<non-verbose/>", "").replace("NoExtensionBias", _ENDLESS)
    shown = " ".join(problem.split())[:_SHOWN_CHARS]
    return InvalidRequest(
        f"the {kind.value} constraint cannot be used: {shown}; correct or simplify it",
        field=FIELD,
        limit=f"a {kind.value} that llguidance compiles and follows",
    )
