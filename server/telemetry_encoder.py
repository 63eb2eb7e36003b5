"""The series of sentence encoding; made when the first encoder is, so a server without one shows none of them.

Units: seconds, and tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from server.encoder_telemetry import BULK, LIVE
from server.telemetry_series import Counters, Gauges, Histograms

# A short question takes a millisecond or two, a full batch some tens: 0.2 ms .. 5 s.
ENCODE_BUCKETS_S = (
    0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.010, 0.015, 0.020, 0.030, 0.050, 0.100, 0.200, 0.500,
    1.0, 2.0, 5.0,
)  # fmt: skip
# Waiting may be nothing at all: 50 us .. 26 s.
QUEUE_BUCKETS_S = tuple(5e-5 * 2**i for i in range(20))
TEXT_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TOKEN_BUCKETS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
KINDS = (LIVE, BULK)
Family = Histograms | Counters | Gauges


class EncoderSeries:
    """All families of sentence encoding."""

    def __init__(self) -> None:
        model = ("model",)
        self.queue = Histograms(
            "vitrine_encoder_queue_seconds",
            "Time that one request waited for its batches, by kind: live or bulk.",
            ("model", "kind"),
            QUEUE_BUCKETS_S,
        )
        self.engine = Histograms(
            "vitrine_encoder_engine_seconds", "Time the encoder took for one batch.", model, ENCODE_BUCKETS_S
        )
        self.batch_texts = Histograms(
            "vitrine_encoder_batch_texts", "Texts in one batch.", model, TEXT_BUCKETS
        )
        self.batch_tokens = Histograms(
            "vitrine_encoder_batch_tokens",
            "Tokens computed in one batch, padding included.",
            model,
            TOKEN_BUCKETS,
        )
        self.tokens = Counters(
            "vitrine_encoder_tokens",
            "Tokens computed, by what they were: text or padding; the padding share is the second of both.",
            ("model", "kind"),
        )
        self.inputs = Counters(
            "vitrine_encoder_inputs", "Texts to encode, by kind: live or bulk.", ("model", "kind")
        )
        self.truncated = Counters(
            "vitrine_encoder_truncated", "Texts whose end was left out, as their caller allowed.", model
        )
        self.waiting = Gauges("vitrine_encoder_texts_waiting", "Texts that wait for a batch.", model)

    def families(self) -> Sequence[Family]:
        """All of them."""
        return (
            self.queue, self.engine, self.batch_texts, self.batch_tokens, self.tokens, self.inputs, self.truncated,
            self.waiting,
        )  # fmt: skip


class SeriesEncoderRecorder:
    """An ``EncoderRecorder`` of one model; a batch costs some appends to lists.

    Args:
        series: to add to.
        model: its name.
        missed: what counts deadlines that were missed, by stage.
        left: what counts callers who left, by stage.
    """

    def __init__(
        self, series: EncoderSeries, model: str, missed: Callable[[str], None], left: Callable[[str], None]
    ) -> None:
        self._series = series
        self._model = model
        self.deadline_missed, self.cancelled = missed, left
        self._queue = {kind: series.queue.buffer((model, kind)) for kind in KINDS}
        self._engine = series.engine.buffer((model,))
        self._texts = series.batch_texts.buffer((model,))
        self._tokens = series.batch_tokens.buffer((model,))
        self._waiting = 0
        for kind in ("text", "padding"):
            series.tokens.add((model, kind), 0)
        for kind in KINDS:
            series.inputs.add((model, kind), 0)
        series.truncated.add((model,), 0)
        series.waiting.source(model, lambda: [((model,), float(self._waiting))])

    def batch_done(self, *, texts: int, tokens: int, padded_tokens: int, engine_s: float) -> None:
        """A batch was computed."""
        self._engine.append(engine_s)
        self._texts.append(texts)
        self._tokens.append(padded_tokens)
        self._series.tokens.add((self._model, "text"), tokens)
        if padded_tokens > tokens:
            self._series.tokens.add((self._model, "padding"), padded_tokens - tokens)

    def request_done(self, kind: str, *, queue_s: float) -> None:
        """All texts of a request have been encoded."""
        self._queue[kind].append(queue_s)

    def inputs_read(self, kind: str, *, texts: int, truncated: int) -> None:
        """Texts became tokens."""
        self._series.inputs.add((self._model, kind), texts)
        if truncated:
            self._series.truncated.add((self._model,), truncated)

    def waiting(self, texts: int) -> None:
        """How many texts wait."""
        self._waiting = texts
