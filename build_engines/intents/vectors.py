"""What an encoder makes of texts, through the very graph that is packaged: FP32, texts of like length together.

A text that holds nothing the encoder can read (a language that its vocabulary does not have) gets no vector: it is out of
scope by definition, and told by how many there are.

Suffixes: N texts, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from build_engines.intents.calibration import Floats
from build_engines.models.causal.checkpoint import Checkpoint
from build_engines.models.encoder.architecture import EncoderArchitecture
from build_engines.models.encoder.batches import Ids, padded
from build_engines.models.encoder.graph import EMBEDDING, INPUT_IDS, LENGTHS, EncoderForm, build_graph
from build_engines.models.encoder.layout import BUFFERS, find_layout
from build_engines.models.encoder.options import EncoderOptions
from build_engines.models.encoder.package import TOKENIZER_FILE, resolved_form
from build_engines.models.encoder.sentence import SentenceForm, weights_folder
from build_engines.onnx_writer import model_bytes
from server.encoder_domain import InputKind, Truncate
from server.encoding.sentences import SentenceCodec, load_sentence_codec
from server.errors import InvalidRequest

MAX_TOKENS = 64  # of a question that is learnt from or judged by; what is longer is cut
_BATCH_TOKENS = 2048  # of one run, padding included


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSource:
    """An encoder to put a head on.

    Attributes:
        checkpoint: folder, in Hugging Face or sentence-transformers form.
        options: how it will be packaged; the variant is not looked at.
    """

    checkpoint: Path
    options: EncoderOptions

    def form(self) -> tuple[EncoderArchitecture, SentenceForm]:
        """What its files and the options say."""
        return resolved_form(self.checkpoint, self.options)

    def codec(self, max_tokens: int = MAX_TOKENS) -> SentenceCodec:
        """Its tokenizer, as the server reads it."""
        arch, sentence = self.form()
        return load_sentence_codec(
            weights_folder(self.checkpoint) / TOKENIZER_FILE,
            vocab_size=arch.vocab_size,
            max_tokens=min(max_tokens, sentence.max_tokens),
            prefixes={InputKind(kind): text for kind, text in sentence.prefixes.items()},
        )


def token_ids(codec: SentenceCodec, texts: Sequence[str]) -> list[Ids | None]:
    """Tokens of each text as a question, cut where it is too long; None: nothing in it can be read."""
    found: list[Ids | None] = []
    for text in texts:
        try:
            (tokens,) = codec.encode([text], InputKind.QUERY, Truncate.END)
            found.append(tokens.ids)
        except InvalidRequest:
            found.append(None)
    return found


def encoder_graph(source: EncoderSource) -> bytes:
    """The FP32 graph with the output ``embedding``."""
    arch, sentence = source.form()
    with Checkpoint(weights_folder(source.checkpoint), left_out=BUFFERS) as tensors:
        form = EncoderForm(
            pooling=sentence.pooling,
            normalize=sentence.normalize,
            dim=sentence.dim,
            max_tokens=sentence.max_tokens,
        )
        return model_bytes(build_graph(arch, find_layout(arch, tensors), tensors, form))


def open_graph(graph: bytes | Path, threads: int = 1) -> ort.InferenceSession:
    """A session on the CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph), options, providers=["CPUExecutionProvider"]
    )


def run_texts(
    session: ort.InferenceSession, ids: Sequence[Ids | None], output: str = EMBEDDING
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """One output for each text, float32 ``[N, ...]`` (zeros where there is nothing to read), and which were read ``[N]``."""
    read_N = np.array([one is not None for one in ids], np.bool_)
    order = sorted((at for at, one in enumerate(ids) if one is not None), key=lambda at: _length(ids[at]))
    rows: list[tuple[int, Floats]] = []
    while order:
        batch: list[int] = []
        while order and _length(ids[order[0]]) * (len(batch) + 1) <= max(
            _BATCH_TOKENS, _length(ids[order[0]])
        ):
            batch.append(order.pop(0))
        ids_BT, lengths_B = padded([one for at in batch if (one := ids[at]) is not None])
        (answer_BX,) = session.run([output], {INPUT_IDS: ids_BT, LENGTHS: lengths_B})
        rows += zip(batch, answer_BX, strict=True)
    width = rows[0][1].shape[0] if rows else 0
    values_ND = np.zeros((len(ids), width), np.float32)
    for at, row_D in rows:
        values_ND[at] = row_D
    return values_ND, read_N


def _length(ids: Ids | None) -> int:
    return 0 if ids is None else len(ids)
