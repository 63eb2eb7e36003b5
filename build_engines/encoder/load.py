"""Stage 1 of an encoder: find the checkpoint, add the words it lacks, and turn the shop's texts into tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from build_engines.data.errors import DataError
from build_engines.encoder.checkpoint import WEIGHTS, checkpoint_files, find_checkpoint
from build_engines.encoder.recipe_parts import LoadEncoderPart
from build_engines.encoder.records import EncoderLoadRecord
from build_engines.encoder.small_parts import FLAG, TrainedSmallPart
from build_engines.encoder.states import CHECKPOINT
from build_engines.encoder.texts import SAMPLE_PAGES, read_texts, save_ids
from build_engines.models.encoder.batches import Ids
from build_engines.models.encoder.package import resolved_form
from build_engines.models.encoder.sentence import TOKENIZER_FILE, weights_folder
from build_engines.models.encoder.words import add_words, read_glossary
from build_engines.proof.leak import digest_of_ids, digests_of
from build_engines.stage import Work
from build_engines.states import Start
from server.artifacts.repository import file_sha256
from server.encoder_domain import InputKind, Truncate
from server.encoding.sentences import SentenceCodec, load_sentence_codec
from server.errors import InvalidRequest

if TYPE_CHECKING:
    from build_engines.tuning_loop import LossPoint

CALIBRATION, GATE, QUESTIONS, PASSAGES, LEARN = "calibration", "gate", "questions", "passages", "learn"
ANSWERS_FILE = "answers.npy"
SMALL_ORIGIN = (
    "trained small by the builder on the shop's own texts, from random weights: no pretrained encoder"
)
SAMPLE_QUESTIONS = SAMPLE_PAGES.parent / "sample_questions.jsonl"


def ids_path(folder: Path, name: str) -> Path:
    """Where the texts of one kind are, as tokens."""
    return folder / f"{name}.npz"


def sources(part: LoadEncoderPart) -> Mapping[str, str]:
    """SHA-256 of checkpoint and text files; a file that is not there has none (loading says so better)."""
    small = part.checkpoint.trained_small
    files = [part.checkpoint.glossary, part.texts.file, part.texts.retrieval]
    found: dict[str, str] = {}
    if small is not None:
        files += [small.pairs, small.examples]
    else:
        try:
            folder, _ = find_checkpoint(part.checkpoint)
        except DataError:
            return {}
        found = {path.relative_to(folder).as_posix(): file_sha256(path) for path in checkpoint_files(folder)}
        found["folder"] = str(folder)  # later stages go there
    if part.texts.sample_shop or (small is not None and small.sample_shop):
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
    notes: list[str] = []
    small = part.checkpoint.trained_small
    if small is not None:
        folder, origin = work.folder / CHECKPOINT, SMALL_ORIGIN
        notes += _trained(small, part.texts.retrieval, folder, work)
    else:
        folder, origin = find_checkpoint(part.checkpoint)
    notes.insert(0, origin)
    kept = str(folder) if small is None else ""
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
    digests = dict(sources(part))
    if small is not None:
        digests[WEIGHTS] = file_sha256(folder / WEIGHTS)
    return EncoderLoadRecord(
        checkpoint=kept,
        origin=origin,
        family=arch.family,
        texts=counts,
        sources={name: digests[name] for name in sorted(digests) if name != "folder"},
        flags=(FLAG,) if small is not None else (),
        notes=tuple(notes),
    )


def _trained(part: TrainedSmallPart, judges: Path | None, folder: Path, work: Work) -> list[str]:
    # Here and not above: torch is only wanted where something is learnt.
    import torch

    from build_engines.encoder.small import train_small
    from build_engines.encoder.small_texts import read_teaching

    if part.pairs is not None and judges is not None and file_sha256(part.pairs) == file_sha256(judges):
        raise DataError(
            part.pairs, "is learnt from and judged by", hint="give texts.retrieval questions of its own"
        )
    teaching = read_teaching(part)
    work.progress.say(f"  training a small encoder on {len(teaching.texts)} texts")

    def report(step: int, steps: int, point: LossPoint | None) -> None:
        if point is not None:
            work.progress.say(
                f"  step {step}: loss {point.loss:.3f}, held out {point.heldout_loss:.3f}, {point.seconds:.0f} s"
            )
        work.progress.step("training, step", step, steps)

    threads = torch.get_num_threads()
    torch.set_num_threads(
        1
    )  # steps are small, threads that wait for each other cost more than they bring; the same bits anywhere
    try:
        result = train_small(part, teaching, folder, checkpoint=work.scratch / "small.pt", progress=report)
    finally:
        torch.set_num_threads(threads)
    return [
        f"{len(teaching.texts)} texts learnt from, {len(teaching.judged)} held out; "
        f"held-out loss {result.best.heldout_loss:.3f} nats after {result.best.step} of {result.steps} steps, "
        f"{result.curve[-1].seconds:.0f} s"
    ]


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
        LEARN: [one for one in _ids(codec, texts.learn, InputKind.PLAIN) if one is not None],
    }
    # Two texts that differ in capitals are one to the encoder: what is judged is not calibrated on.
    judged = set(digests_of([*kept[GATE], *kept[QUESTIONS]]))
    kept[CALIBRATION] = [one for one in kept[CALIBRATION] if digest_of_ids(one) not in judged]
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
