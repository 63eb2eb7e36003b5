"""Stage 1 of an encoder: find the checkpoint, add the words it lacks, and turn the shop's texts into tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from build_engines.data.errors import DataError
from build_engines.encoder.checkpoint import WEIGHTS, checkpoint_files, find_checkpoint
from build_engines.encoder.recipe_parts import LoadEncoderPart
from build_engines.encoder.records import EncoderLoadRecord
from build_engines.encoder.states import CHECKPOINT
from build_engines.encoder.texts import SAMPLE_PAGES, read_texts, save_ids
from build_engines.models.encoder.batches import Ids
from build_engines.models.encoder.package import resolved_form
from build_engines.models.encoder.sentence import TOKENIZER_FILE, weights_folder
from build_engines.models.encoder.words import add_words, read_glossary
from build_engines.stage import Work
from build_engines.states import Start
from server.artifacts.repository import file_sha256
from server.encoder_domain import InputKind, Truncate
from server.encoding.sentences import SentenceCodec, load_sentence_codec
from server.errors import InvalidRequest

CALIBRATION, GATE, QUESTIONS, PASSAGES = "calibration", "gate", "questions", "passages"
ANSWERS_FILE = "answers.npy"
SAMPLE_QUESTIONS = SAMPLE_PAGES.parent / "sample_questions.jsonl"


def ids_path(folder: Path, name: str) -> Path:
    """Where the texts of one kind are, as tokens."""
    return folder / f"{name}.npz"


def sources(part: LoadEncoderPart) -> Mapping[str, str]:
    """SHA-256 of checkpoint and text files; a file that is not there has none (loading says so better)."""
    try:
        folder, _ = find_checkpoint(part.checkpoint)
    except DataError:
        return {}
    found = {path.relative_to(folder).as_posix(): file_sha256(path) for path in checkpoint_files(folder)}
    found["folder"] = str(folder)  # later stages go there
    files = [part.checkpoint.glossary, part.texts.file, part.texts.retrieval]
    if part.texts.sample_shop:
        files += [*sorted(SAMPLE_PAGES.glob("*/*.md")), SAMPLE_QUESTIONS]
        files += sorted((SAMPLE_PAGES.parent / "sample_intents").glob("*.txt"))
    found.update({str(path.name): file_sha256(path) for path in files if path is not None and path.is_file()})
    return found


def run(start: Start, part: LoadEncoderPart, work: Work) -> EncoderLoadRecord:
    """Find, add, encode.

    Raises:
        DataError: checkpoint or texts cannot be used; names file, line and what to do.
        BuildError: the checkpoint is not supported; names the field that says so.
    """
    folder, origin = find_checkpoint(part.checkpoint)
    notes = [origin]
    kept = str(folder)
    if part.checkpoint.glossary is not None:
        added = add_words(folder, read_glossary(part.checkpoint.glossary), work.folder / CHECKPOINT)
        notes.append(f"{added} words of {part.checkpoint.glossary.name} added")
        kept, folder = "", work.folder / CHECKPOINT
    arch, form = resolved_form(folder, part.form.options("fp32"))
    codec = load_sentence_codec(
        weights_folder(folder) / TOKENIZER_FILE,
        vocab_size=arch.vocab_size,
        max_tokens=form.max_tokens,
        prefixes={InputKind(kind): text for kind, text in form.prefixes.items()},
    )
    counts = _encode(part, codec, work)
    notes.append(", ".join(f"{count} {name}" for name, count in counts.items()))
    for note in notes:
        work.progress.say(f"  {note}")
    digests = sources(part)
    return EncoderLoadRecord(
        checkpoint=kept,
        origin=origin,
        family=arch.family,
        texts=counts,
        sources={name: digests[name] for name in sorted(digests) if name != "folder"},
        notes=tuple(notes),
    )


def weights_digest(record: EncoderLoadRecord) -> str:
    """SHA-256 of the weights that the checkpoint came with."""
    return next((sha for name, sha in record.sources.items() if name.endswith(WEIGHTS)), "")


def _encode(part: LoadEncoderPart, codec: SentenceCodec, work: Work) -> dict[str, int]:
    texts = read_texts(part.texts)
    asked = texts.retrieval
    passages = [one for one in _ids(codec, asked.passages, InputKind.PASSAGE) if one is not None]
    if len(passages) != len(asked.passages):
        raise DataError(
            part.texts.retrieval,
            f"{len(asked.passages) - len(passages)} of {len(asked.passages)} passages hold nothing that the encoder can read",
            hint="give passages in its language, or a glossary in [checkpoint]",
        )
    answered = [
        (ids, answer)
        for ids, answer in zip(_ids(codec, asked.questions, InputKind.QUERY), asked.answers, strict=True)
        if ids is not None
    ]
    kept = {
        CALIBRATION: [one for one in _ids(codec, texts.calibration, InputKind.PLAIN) if one is not None],
        GATE: [one for one in _ids(codec, texts.gate, InputKind.PLAIN) if one is not None],
        QUESTIONS: [ids for ids, _ in answered],
        PASSAGES: passages,
    }
    for name, ids in kept.items():
        save_ids(ids_path(work.folder, name), ids)
    np.save(work.folder / ANSWERS_FILE, np.array([answer for _, answer in answered], np.int64))
    return {name: len(ids) for name, ids in kept.items()}


def _ids(codec: SentenceCodec, texts: Sequence[str], kind: InputKind) -> list[Ids | None]:
    found: list[Ids | None] = []
    for text in texts:
        try:
            (tokens,) = codec.encode([text], kind, Truncate.END)
            found.append(tokens.ids)
        except InvalidRequest:  # nothing in it can be read
            found.append(None)
    return found
