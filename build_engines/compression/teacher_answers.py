"""Sequence-level distillation: the student learns what its teacher writes to the same prompts.

The teacher is the model before the chain, a checkpoint folder (both write here, greedily), or an OpenAI-compatible server. What
it wrote is kept by prompt (``teacher_cache``), so a run that was killed asks for what is missing only.

Source:
    Kim and Rush, "Sequence-Level Knowledge Distillation", 2016.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from build_engines.compression.learning import TaskLearner
from build_engines.compression.model import Compressible
from build_engines.compression.named_files import content_digest
from build_engines.compression.step import StepWork
from build_engines.compression.teacher_cache import AnswerCache
from build_engines.errors import BuildError

if TYPE_CHECKING:
    from build_engines.compression.distil import DistilOptions

Ids = npt.NDArray[np.int64]
CACHE_FILE = "answers.sqlite"
GROUP = 16  # prompts that are asked, and kept, together
LEAST_SHARE = 0.5  # of prompts that must have got an answer


class Answering(Protocol):
    """What a family that writes offers to this step."""

    def prompts(self) -> Sequence[Ids]:
        """Of the training examples, in their order."""

    def prompt_text(self, prompt: Ids) -> str:
        """As a server reads it."""

    def answer_ids(self, text: str) -> Ids:
        """A server's answer as tokens, the end of text behind."""

    def answered(self, answers: Mapping[int, Ids]) -> Compressible:
        """The same network, learning these answers to its examples and no others; judged as before.

        Raises:
            BuildError: none is left.
        """

    def writer(self, folder: Path) -> Callable[[Sequence[Ids], int], list[Ids]]:
        """Greedy answers of the checkpoint in a folder to some prompts, of at most so many tokens."""


@runtime_checkable
class Writes(Protocol):
    """A ``Compressible`` that writes."""

    def answering(self) -> Answering:
        """See there."""


def taught_by_answers(
    model: Compressible, options: DistilOptions, work: StepWork
) -> tuple[TaskLearner, int, str]:
    """A learner of the teacher's answers, how many they are, and who the teacher is.

    Raises:
        BuildError: the family does not write, the teacher is missing, does not answer, or answers too little.
    """
    if not isinstance(model, Writes):
        raise BuildError(f"distil: answers is true, and a {model.family} writes none; leave it out")
    answering = model.answering()
    prompts = list(answering.prompts())[: options.answer_examples or None]
    who, ask = _teacher(answering, options, work)
    cache = AnswerCache(work.scratch / CACHE_FILE, f"{who}/{options.answer_tokens}")
    try:
        answers = _all(prompts, cache, ask, options.answer_tokens, work)
    finally:
        cache.close()
    if len(answers) < LEAST_SHARE * len(prompts):
        raise BuildError(
            f"distil: {who} answered {len(answers)} of {len(prompts)} prompts within {options.answer_tokens} tokens; raise "
            "answer_tokens, or name another teacher"
        )
    return TaskLearner(answering.answered(answers)), len(answers), who


def _all(
    prompts: Sequence[Ids],
    cache: AnswerCache,
    ask: Callable[[Sequence[Ids], int], list[Ids]],
    most: int,
    work: StepWork,
) -> dict[int, Ids]:
    known = cache.get([one.tobytes() for one in prompts])
    missing = sorted(
        (place for place, found in enumerate(known) if found is None), key=lambda place: len(prompts[place])
    )
    done = len(prompts) - len(missing)
    answers = {
        place: np.asarray(found["ids"], np.int64) for place, found in enumerate(known) if found is not None
    }
    for group in _grouped(missing):
        written = ask([prompts[place] for place in group], most)
        cache.put({prompts[place].tobytes(): {"ids": ids} for place, ids in zip(group, written, strict=True)})
        answers |= dict(zip(group, written, strict=True))
        done += len(group)
        work.progress.step("teacher's answers", done, len(prompts))
    return {place: ids for place, ids in answers.items() if len(ids)}


def _grouped(places: Sequence[int]) -> Iterator[list[int]]:
    left = iter(places)
    while group := list(itertools.islice(left, GROUP)):
        yield group


def _teacher(
    answering: Answering, options: DistilOptions, work: StepWork
) -> tuple[str, Callable[[Sequence[Ids], int], list[Ids]]]:
    if options.endpoint:
        from build_engines.compression.teacher_endpoint import Endpoint

        server = Endpoint(
            address=options.endpoint,
            model=options.endpoint_model,
            key_variable=options.endpoint_key_variable,
            chat=options.endpoint_chat,
            timeout_s=options.endpoint_timeout_s,
        )

        def ask(prompts: Sequence[Ids], most: int) -> list[Ids]:
            texts = server.answers([answering.prompt_text(one) for one in prompts], most)
            return [np.zeros(0, np.int64) if text is None else answering.answer_ids(text) for text in texts]

        return server.identity, ask
    folder = options.teacher
    if folder is None:
        folder = work.scratch / "teacher"
        if not (folder / "config.json").is_file():
            work.parent.save(folder)
    elif not folder.is_dir():
        raise BuildError(f"distil: teacher {folder} is not there; name a checkpoint folder that can write")
    return content_digest(folder), answering.writer(folder)
