"""What a decoder's teacher writes: prompts of the training pairs, greedy answers of a checkpoint, and pairs made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from build_engines.compression.teacher_answers import Ids
from build_engines.errors import BuildError
from build_engines.text.pairs import EncodedPair
from build_engines.text.tokenizer import TOKENIZER_FILE

if TYPE_CHECKING:
    from build_engines.compression.families.decoder import Decoder


class DecoderAnswers:
    """See ``Answering``."""

    def __init__(self, decoder: Decoder) -> None:
        from tokenizers import Tokenizer

        self.decoder = decoder
        self._tokenizer = Tokenizer.from_file(str(decoder.data.checkpoint / TOKENIZER_FILE))
        self._end = int(decoder.data.train[0].ids[-1])  # every answer ends with it

    def prompts(self) -> Sequence[Ids]:
        """Of the training pairs."""
        return [pair.ids[: pair.prompt_tokens] for pair in self.decoder.data.train]

    def prompt_text(self, prompt: Ids) -> str:
        """With the template's own marks, as a completion is asked for."""
        text: str = self._tokenizer.decode(prompt.tolist(), skip_special_tokens=False)
        return text

    def answer_ids(self, text: str) -> Ids:
        """Without special tokens of its own, the end of text behind."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return np.array([*ids, self._end], np.int64) if ids else np.zeros(0, np.int64)

    def answered(self, answers: Mapping[int, Ids]) -> Decoder:
        """The same network with other training pairs."""
        from build_engines.compression.families.decoder import Decoder

        prompts = self.prompts()
        most = self.decoder.network.arch.max_positions
        pairs = tuple(
            EncodedPair(ids=np.concatenate([prompts[place], ids]), prompt_tokens=len(prompts[place]))
            for place, ids in sorted(answers.items())
            if len(ids) and len(prompts[place]) + len(ids) <= most
        )
        if not pairs:
            raise BuildError("distil: none of the teacher's answers can be learnt: all are empty or too long")
        return Decoder(self.decoder.network, replace(self.decoder.data, train=pairs))

    def writer(self, folder: Path) -> Callable[[Sequence[Ids], int], list[Ids]]:
        """By transformers, with a cache of keys and values; an answer that does not end is none."""
        from build_engines.text.finetune import load_model

        family = str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type"))
        model: Any = load_model(folder, family).eval()
        end = self._end

        @torch.no_grad()
        def write(prompts: Sequence[Ids], most: int) -> list[Ids]:
            longest = max(map(len, prompts))
            ids_BT = torch.full((len(prompts), longest), end)
            mask_BT = torch.zeros_like(ids_BT)
            for row, prompt in enumerate(prompts):
                ids_BT[row, longest - len(prompt) :] = torch.from_numpy(prompt)
                mask_BT[row, longest - len(prompt) :] = 1
            written = model.generate(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                do_sample=False,
                max_new_tokens=most,
                eos_token_id=end,
                pad_token_id=end,
            )
            return [_until(row[longest:].numpy(), end) for row in written]

        return write


def _until(ids: Ids, end: int) -> Ids:
    ends = np.flatnonzero(ids == end)
    return ids[: int(ends[0]) + 1].astype(np.int64) if len(ends) and ends[0] else np.zeros(0, np.int64)
