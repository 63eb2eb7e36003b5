"""From a job to what the generator is asked, and from its ends to the figures of an answer.

Units: tokens; seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from server.errors import InvalidRequest
from server.http_api.openai.answers import CachedOut, UsageOut
from server.http_api.openai.jobs import ChatJob, Job
from server.http_api.openai.prompts import TextPrompts
from server.http_api.openai.tools import call_form
from server.text_domain import Finished, GenerateRequest, Usage
from server.text_generator import TextCodec, TextGenerator

LONG_CHARS = 1024  # prompts longer than this become tokens on another thread
# One after the other: encoding takes some hundred bytes a character, which the C library keeps.
_ENCODING = ThreadPoolExecutor(1, thread_name_prefix="encode-prompts")


async def tokens(job: Job, generator: TextGenerator) -> tuple[list[tuple[int, ...]], TextCodec]:
    """The tokens of a job's prompts, and the codec that made them; long prompts are encoded on another thread.

    Raises:
        InvalidRequest: the prompt is too long to fit whatever its tokens are, the template refuses the conversation, or shows no tools where there are some, or the prompt is of
            tokens that nobody here knows.
    """
    if isinstance(job.prompt, TextPrompts) and not generator.info().counts_tokens:
        job.prompt.refuse_ids()
    while True:
        codec = generator.codec
        if job.prompt.chars > LONG_CHARS:
            if generator.info().counts_tokens:
                job.prompt.check_length(codec.longest_token_bytes, generator.info().max_context)
            prompts = await asyncio.get_running_loop().run_in_executor(_ENCODING, job.prompt.encode, codec)
        else:
            prompts = job.prompt.encode(codec)
        if generator.codec is codec:  # else another version has come meanwhile, maybe with other tokens
            break
    if isinstance(job, ChatJob) and job.tools.parse and generator.info().counts_tokens:
        form = call_form(codec.decode(prompts[0], skip_special_tokens=False))
        if form is None:
            raise InvalidRequest(
                "tools are given, but this model's chat template says nothing of calls, or asks for a form of them that is "
                "not known here; leave them out, or set tool_choice to none",
                field="tools",
                limit="none",
            )
        job.calls_as(form)
    return prompts, codec


def requests(
    job: Job,
    prompts: Sequence[tuple[int, ...]],
    generator: TextGenerator,
    arrived_at_s: float,
    deadline_at_s: float,
    caller: str = "",
) -> list[GenerateRequest]:
    """What the generator is asked: ``n`` times each prompt.

    Fairness is between keys, where there are keys: were it between the users that a caller names, naming many would get it
    more than its share.

    Raises:
        InvalidRequest: prompt and answer do not fit into the context; says both numbers.
    """
    asked, info = job.asked, generator.info()
    wrong = next((token for token in asked.sampling.logit_bias if token >= info.vocab_size), None)
    if wrong is not None and info.counts_tokens:
        raise InvalidRequest(
            f"logit_bias has the token {wrong}; the model's are 0 .. {info.vocab_size - 1}",
            field="logit_bias",
            limit=f"0 .. {info.vocab_size - 1}",
        )
    requests = []
    for prompt in prompts:
        most = asked.max_tokens or job.default_tokens or info.max_context
        if info.counts_tokens:
            most = _fitting(job.prompt.field, len(prompt), asked.max_tokens, most, info.max_context)
        request = GenerateRequest(
            prompt_ids=prompt,
            max_tokens=most,
            sampling=asked.sampling,
            stop=asked.stop,
            stop_token_ids=asked.stop_token_ids,
            ignore_eos=asked.ignore_eos,
            constraint=asked.constraint,
            tenant=caller or asked.tenant,
            deadline_at_s=deadline_at_s,
            arrived_at_s=arrived_at_s,
        )
        requests += _choices(request, asked.n)
    return requests


def _choices(request: GenerateRequest, n: int) -> list[GenerateRequest]:
    if n == 1 or request.sampling.seed is None:
        return [request] * n
    seed = request.sampling.seed  # several texts with one seed must not all be the same text
    return [
        replace(
            request, sampling=replace(request.sampling, seed=(seed + i + (1 << 63)) % (1 << 64) - (1 << 63))
        )
        for i in range(n)
    ]


def _fitting(job_field: str, prompt: int, asked: int | None, most: int, context: int) -> int:
    room = context - prompt
    if room < 1:
        raise InvalidRequest(
            f"the prompt has {prompt} tokens, the model's context is {context} with the answer in it; send less",
            field=job_field,
            limit=f"{context - 1} tokens",
        )
    if asked is not None and asked > room:
        raise InvalidRequest(
            f"the prompt has {prompt} tokens and max_tokens is {asked}, together more than the context of {context}; "
            f"ask for at most {room}",
            field="max_tokens",
            limit=f"{room} tokens",
        )
    return min(most, room)


def usage(ends: dict[int, Finished], n: int) -> UsageOut:
    """Tokens of all texts; the prompt of several choices counts once."""
    prompts: list[Usage] = [ends[index].usage for index in sorted(ends) if index % n == 0]
    asked = sum(usage.prompt_tokens for usage in prompts)
    answered = sum(end.usage.completion_tokens for end in ends.values())
    cached = sum(usage.cached_tokens for usage in prompts)
    return UsageOut(asked, answered, asked + answered, CachedOut(cached))


def server_timing(ends: Sequence[Finished]) -> bytes:
    """The ``Server-Timing`` header of a whole answer: its last text's."""
    last = max(ends, key=lambda end: end.total_s)
    return b"queue;dur=%.3f, first_token;dur=%.3f, total;dur=%.3f" % (
        last.queue_s * 1e3,
        last.first_token_s * 1e3,
        last.total_s * 1e3,
    )
