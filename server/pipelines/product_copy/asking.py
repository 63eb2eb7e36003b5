"""From a copy request to what a text engine is asked for: the whole answer, or one part of it again.

The chat template decides what a model sees: one for conversations is told the rules, that of a model which was trained on
``copy_prompt`` itself passes it through. A part
is written again after the same prompt and the parts that stand already, so that nothing of it need be read twice by an
engine that keeps prefixes; its grammar is one string.

Units: tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from server.copy_domain import CopyRequest, CopyText, Language
from server.errors import InvalidRequest
from server.pipelines.product_copy.parts import answer_so_far
from server.pipelines.product_copy.prompt import CHAT_RULES, copy_prompt, copy_schema, copy_target
from server.text_domain import Constraint, ConstraintKind, GenerateRequest, SamplingParams, TextModelInfo
from server.text_generator import TextCodec

# How bold each try of a part is. The second is nearly greedy, which is where a model keeps closest to what it reads; the
# third is bolder again, because the second may have said the same.
TEMPERATURES = (0.5, 0.2, 0.8)
TOP_P = 0.9
MIN_ANSWER_TOKENS = 48
_TOKENS_PER_CHAR = {Language.EN: 0.45, Language.ZH: 1.6}
_TOKENS_PER_WORD = {Language.EN: 3.0, Language.ZH: 2.0}
_AGAIN = (
    "Write another {name} for this copy, of at most {chars} characters, that states only what the record says. "
    'Answer with one JSON object: {{"text": "..."}}'
)
_FRAME_TOKENS = 40  # keys, quotes and brackets


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What does not change between the tries of one request.

    Attributes:
        prompt_ids: of the prompt.
        max_context: tokens of prompt and answer together.
        counts_tokens: see ``TextModelInfo``.
        deadline_at_s, arrived_at_s: of the whole request, on the monotonic clock.
        priority, tenant: see ``GenerateRequest``.
    """

    request: CopyRequest
    prompt_ids: tuple[int, ...]
    max_context: int
    counts_tokens: bool
    deadline_at_s: float
    arrived_at_s: float
    priority: int
    tenant: str

    def whole(self, variant: int) -> GenerateRequest:
        """Ask for one whole piece of copy."""
        limits = self.request.limits
        chars = limits.headline_chars + limits.description_chars + limits.bullets * limits.bullet_chars
        constraint = Constraint(kind=ConstraintKind.JSON_SCHEMA, text=copy_schema(limits))
        asked = self._ask(self.prompt_ids, chars, constraint, self._seed(variant, "", 0), TEMPERATURES[0])
        return replace(asked, arrived_at_s=self.arrived_at_s)

    def again(
        self, codec: TextCodec, variant: int, name: str, standing: CopyText, attempt: int, chars: int
    ) -> GenerateRequest:
        """Ask for one part again.

        Args:
            codec: of the model.
            variant: which piece of copy.
            name: of the part.
            standing: the parts that stand; the one that is asked for and those after it are not looked at.
            attempt: 1 is the first repetition.
            chars: how long it may be.
        """
        temperature = TEMPERATURES[min(attempt, len(TEMPERATURES) - 1)]
        seed = self._seed(variant, name, attempt)
        chars = max(1, chars)
        if not self.counts_tokens:  # an engine elsewhere takes turns, and no answer begun
            told = _AGAIN.format(name=name.partition("[")[0].removesuffix("s"), chars=chars)
            turns = [*_messages(self.request), {"role": "assistant", "content": copy_target(standing)}]
            ids = codec.encode_chat([*turns, {"role": "user", "content": told}])
            constraint = Constraint(kind=ConstraintKind.JSON_SCHEMA, text=_text_schema(chars))
            return self._ask(tuple(ids), chars, constraint, seed, temperature)
        so_far, opening = answer_so_far(standing, name)
        begun = codec.encode(so_far, add_special_tokens=False)
        # No escapes: a quote inside is not worth the ways in which it can be cut off.
        string = rf'[^"\\\x00-\x1f]{{1,{chars}}}"'
        constraint = Constraint(kind=ConstraintKind.REGEX, text=opening.replace("[", r"\[") + string)
        return self._ask((*self.prompt_ids, *begun), chars, constraint, seed, temperature)

    def _ask(
        self, prompt_ids: tuple[int, ...], chars: int, constraint: Constraint, seed: int, temperature: float
    ) -> GenerateRequest:
        language, words = self.request.language, self.request.max_words
        tokens = chars * _TOKENS_PER_CHAR[language]
        if words is not None:
            tokens = min(tokens, 2 * words * _TOKENS_PER_WORD[language])
        most = int(tokens) + _FRAME_TOKENS
        if self.counts_tokens:
            most = min(most, self.max_context - len(prompt_ids))
        return GenerateRequest(
            prompt_ids=prompt_ids,
            max_tokens=max(1, most),
            sampling=SamplingParams(temperature=temperature, top_p=TOP_P, seed=seed),
            constraint=constraint,
            priority=self.priority,
            tenant=self.tenant,
            deadline_at_s=self.deadline_at_s,
        )

    def _seed(self, variant: int, name: str, attempt: int) -> int:
        """Another for each try, and the same for the same try: FNV-1a, which no interpreter salts."""
        value = 0xCBF29CE484222325
        for byte in f"{self.request.seed}/{variant}/{name}/{attempt}".encode():
            value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        return value >> 33  # engines elsewhere take 31 bits


def prompt_tokens(codec: TextCodec, info: TextModelInfo, request: CopyRequest) -> tuple[int, ...]:
    """Tokens of the prompt: by the model's chat template where it has one, else as it is.

    Raises:
        InvalidRequest: it leaves no room for an answer; says both numbers.
    """
    try:
        ids = codec.encode_chat(_messages(request))
    except InvalidRequest:  # no template, or none for a system message
        ids = codec.encode(copy_prompt(request))
    if info.counts_tokens and len(ids) + MIN_ANSWER_TOKENS > info.max_context:
        raise InvalidRequest(
            f"the product's record takes {len(ids)} tokens, and {info.name} has room for {info.max_context} with the "
            f"copy; shorten its description",
            field="product",
            limit=f"{info.max_context - MIN_ANSWER_TOKENS} tokens",
        )
    return tuple(ids)


def text_written_again(text: str) -> str:
    """The part in what was written for ``Asking.again``; empty when there is none."""
    try:
        told = json.loads(text)
    except ValueError:  # cut off, or talk around it
        _, opened, rest = text.partition('"')
        return rest.partition('"')[0] if opened else ""
    if isinstance(told, dict):
        told = told.get("text", "")
    return told if isinstance(told, str) else ""


def _messages(request: CopyRequest) -> list[dict[str, str]]:
    return [{"role": "system", "content": CHAT_RULES}, {"role": "user", "content": copy_prompt(request)}]


def _text_schema(chars: int) -> str:
    return json.dumps(
        {
            "type": "object",
            "properties": {"text": {"type": "string", "minLength": 1, "maxLength": chars}},
            "required": ["text"],
            "additionalProperties": False,
        }
    )
