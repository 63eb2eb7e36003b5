"""Pairs as arrays on disk: what ``load`` leaves, and what every later stage reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from build_engines.text.pairs import EncodedPair


def pairs_path(folder: Path, side: str) -> Path:
    """Where a side of the split lies in the stage's folder."""
    return folder / f"{side}.npz"


def save_pairs(path: Path, pairs: Sequence[EncodedPair]) -> None:
    """Write pairs as one ``.npz``."""
    ids = np.concatenate([pair.ids for pair in pairs]) if pairs else np.zeros(0, np.int64)
    np.savez(
        path,
        ids=ids.astype(np.int32),
        lengths=np.array([len(pair.ids) for pair in pairs], np.int64),
        prompt_tokens=np.array([pair.prompt_tokens for pair in pairs], np.int64),
    )


def load_pairs(path: Path) -> list[EncodedPair]:
    """Read what ``save_pairs`` wrote."""
    with np.load(path) as file:
        ids, lengths = file["ids"].astype(np.int64), file["lengths"]
        prompts = file["prompt_tokens"].tolist()
    ends = np.cumsum(lengths)
    return [
        EncodedPair(ids=ids[start:end], prompt_tokens=prompt)
        for start, end, prompt in zip((ends - lengths).tolist(), ends.tolist(), prompts, strict=True)
    ]
