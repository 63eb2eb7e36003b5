"""Stage 1 of a text model: look at the checkpoint, and turn pairs into tokens on four sides of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from build_engines.data.copy_corpus import CORPUS_VERSION
from build_engines.data.errors import DataError
from build_engines.stage import Work
from build_engines.states import Start
from build_engines.text.checkpoint import TextCheckpoint, checkpoint_files, open_checkpoint
from build_engines.text.pair_arrays import pairs_path, save_pairs
from build_engines.text.pair_files import read_pairs
from build_engines.text.pairs import EncodedPair, TextPair, encode_pairs
from build_engines.text.recipe_parts import LoadTextPart, TextDataPart, TextSplitPart
from build_engines.text.records import TextLoadRecord
from build_engines.text.sample_pairs import sample_pairs
from server.artifacts.repository import file_sha256
from server.pipelines.product_copy.prompt import PROMPT_VERSION

SIDES = ("train", "validation", "calibration", "gate")
MIN_GATE_PAIRS = 8


def sources(part: LoadTextPart) -> Mapping[str, str]:
    """SHA-256 of checkpoint and data files; a file that is not there has none (loading says so better)."""
    found = {path.name: file_sha256(path) for path in checkpoint_files(part.checkpoint.folder)}
    found["folder"] = str(part.checkpoint.folder.resolve())  # later stages go there
    if part.data.pairs is None:
        found["generator"] = f"{CORPUS_VERSION}/{PROMPT_VERSION}"
    elif part.data.pairs.is_file():
        found[part.data.pairs.name] = file_sha256(part.data.pairs)
    return found


def run(start: Start, part: LoadTextPart, work: Work) -> TextLoadRecord:
    """Read, encode, divide.

    Raises:
        DataError: checkpoint or pairs cannot be used; names file, line and what to do.
    """
    checkpoint = open_checkpoint(part.checkpoint.folder)
    pairs, notes = _pairs(part.data, chat=checkpoint.chat)
    encoded = _encoded(checkpoint, pairs, part.data.max_tokens)
    left_out = sum(1 for one in encoded if one is None)
    if left_out:
        notes.append(f"{left_out} of {len(pairs)} pairs left out: longer than {part.data.max_tokens} tokens")
    sides = _divided(pairs, encoded, part.split)
    if len(sides["gate"]) < MIN_GATE_PAIRS or not sides["calibration"]:
        raise DataError(
            part.data.pairs,
            f"{len(sides['gate'])} pairs are left for the gate and {len(sides['calibration'])} for calibration",
            hint=f"give more pairs, or larger shares in [split] ({MIN_GATE_PAIRS} and 1 are needed)",
        )
    for name, kept in sides.items():
        save_pairs(pairs_path(work.folder, name), kept)
    notes.append(", ".join(f"{name} {len(kept)}" for name, kept in sides.items()) + " pairs")
    for note in notes:
        work.progress.say(f"  {note}")
    return TextLoadRecord(
        checkpoint=str(part.checkpoint.folder.resolve()),
        family=str(checkpoint.config.get("model_type", "")),
        parameters=checkpoint.parameters,
        eos_ids=checkpoint.eos_ids,
        vocab_size=int(checkpoint.config.get("vocab_size", checkpoint.codec.vocab_size)),
        pairs={name: len(kept) for name, kept in sides.items()},
        sources={name: digest for name, digest in sources(part).items() if name != "folder"},
        notes=tuple(notes),
    )


def _pairs(part: TextDataPart, *, chat: bool) -> tuple[list[TextPair], list[str]]:
    if part.sample_copy is not None:
        return sample_pairs(part.sample_copy, chat=chat), ["generated copy of the sample shop"]
    assert part.pairs is not None, "TextDataPart has one source"
    pairs, bad = read_pairs(part.pairs, part.rows, chat=chat)
    note = f"{part.pairs.name}: {len(pairs)} pairs"
    return pairs, [note + (f", {bad} lines left out" if bad else "")]


def _encoded(
    checkpoint: TextCheckpoint, pairs: Sequence[TextPair], max_tokens: int
) -> list[EncodedPair | None]:
    def encode_answer(text: str) -> list[int]:
        return checkpoint.codec.encode(text, add_special_tokens=False)

    def prompt_ids(prompt: str | tuple[tuple[str, str], ...]) -> list[int]:
        if isinstance(prompt, str):
            return checkpoint.codec.encode(prompt)
        return checkpoint.encode_chat([{"role": role, "content": text} for role, text in prompt])

    return encode_pairs(pairs, prompt_ids, encode_answer, eos_id=checkpoint.eos_ids[0], max_tokens=max_tokens)


def _divided(
    pairs: Sequence[TextPair], encoded: Sequence[EncodedPair | None], part: TextSplitPart
) -> dict[str, list[EncodedPair]]:
    # A group's side is a hash of its name: a pair more or less moves nobody else.
    bounds = (
        ("gate", part.gate_share),
        ("calibration", part.gate_share + part.calibration_share),
        ("validation", part.gate_share + part.calibration_share + part.validation_share),
    )
    sides: dict[str, list[EncodedPair]] = {name: [] for name in SIDES}
    for pair, one in zip(pairs, encoded, strict=True):
        if one is not None:
            place = _place(pair.group, part.seed)
            sides[next((name for name, bound in bounds if place < bound), "train")].append(one)
    sides["gate"] = sides["gate"][: part.max_gate_pairs]
    sides["calibration"] = sides["calibration"][: part.max_calibration_pairs]
    return sides


def _place(group: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}/{group}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
