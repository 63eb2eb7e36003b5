"""What another implementation makes of the same weights and texts: transformers, in float32, a text at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from build_engines.text.finetune import load_model
from build_engines.text.pairs import EncodedPair
from build_engines.text.scoring import Scores


@torch.no_grad()
def reference_scores(checkpoint: Path, family: str, pairs: Sequence[EncodedPair]) -> list[Scores]:
    """Log-probabilities of each answer's tokens.

    Raises:
        BuildError: transformers does not know the family, or cannot load the checkpoint.
    """
    model = load_model(checkpoint, family).eval()
    found = []
    for pair in pairs:
        ids_BT = torch.from_numpy(pair.ids[None, :])
        logits_TV = (
            model(input_ids=ids_BT[:, :-1], use_cache=False).logits[0, pair.prompt_tokens - 1 :].double()
        )
        wanted_T = ids_BT[0, pair.prompt_tokens :]
        logprobs_T = torch.log_softmax(logits_TV, dim=-1)[torch.arange(len(wanted_T)), wanted_T]
        found.append(Scores(logprobs_T.numpy(), logits_TV.argmax(dim=-1).numpy()))
    return found
