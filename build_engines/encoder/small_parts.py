"""What a recipe says of an encoder that the builder trains itself ([checkpoint.trained_small]): plain values, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FLAG = "trained_small"
HEAD_WIDTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedSmallPart:
    """A small BERT of the shop's own texts, for where there are no pretrained weights.

    Attributes:
        sample_shop: the sample shop's pages, templates of questions and catalogue teach; its labelled questions never do.
        pairs: JSON lines of ``question`` and ``passage`` that teach; never the file of ``texts.retrieval``, which judges.
        examples: labelled texts that teach two ways of asking, CSV or JSON lines of ``text`` and ``intent``.
        layers, width: of the encoder; heads are ``HEAD_WIDTH`` wide.
        vocab_size: of its WordPiece tokenizer, at most.
        max_tokens: of a text, special tokens included.
        per_intent: generated questions of each intent and language (sample shop).
        titles: of the catalogue (sample shop).
        epochs: passes over the texts.
        batch_pairs: pairs a step; each is told from all others of the step.
        learning_rate: peak.
        temperature: that cosines are divided by.
        dropped_tokens: share of the tokens of a text that a step does not see.
        checkpoint_every: steps between checkpoints.
        seed: of everything.

    Raises:
        ValueError: nothing teaches, or two sources exclude each other.
    """

    sample_shop: bool = False
    pairs: Path | None = None
    examples: Path | None = None
    layers: int = 2
    width: int = 128
    vocab_size: int = 4000
    max_tokens: int = 256
    per_intent: int = 40
    titles: int = 100
    epochs: int = 6
    batch_pairs: int = 64
    learning_rate: float = 2e-3
    temperature: float = 0.07
    dropped_tokens: float = 0.1
    checkpoint_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what values say of each other."""
        if self.sample_shop == (self.pairs is not None or self.examples is not None):
            raise ValueError(
                "give either sample_shop = true or files to learn from (pairs, examples or both), not both and not neither"
            )
        if self.width % HEAD_WIDTH:
            raise ValueError(f"width is {self.width}; use a multiple of {HEAD_WIDTH}")
