"""The series of text generation: what a ``TextRecorder`` is told, appended and folded at the scrape.

They are made when the first text model is, so a server without one shows none of them.

Units: seconds, and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.telemetry_series import Counters, Gauges, Histograms, Labels
from server.text_telemetry import REFUSALS, StepReport

# A first token takes a prompt's computation: 5 ms .. 60 s. Between tokens it is a step: 1 ms .. 2 s.
FIRST_TOKEN_BUCKETS_S = (
    0.005, 0.010, 0.020, 0.030, 0.050, 0.075, 0.100, 0.150, 0.200, 0.300, 0.500, 0.750, 1.0, 1.5, 2.0, 3.0, 5.0,
    10.0, 30.0, 60.0,
)  # fmt: skip
STEP_BUCKETS_S = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.010, 0.015, 0.020, 0.030, 0.050, 0.075, 0.100, 0.150, 0.200, 0.300, 0.500,
    1.0, 2.0,
)  # fmt: skip
SMALL_BUCKETS_S = tuple(1e-5 * 2**i for i in range(14))  # 10 us .. 82 ms
TEXT_BUCKETS_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
TOKEN_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKEN_KINDS = ("prompt", "cached", "output")
Family = Histograms | Counters | Gauges


class TextSeries:
    """All families of text generation."""

    def __init__(self) -> None:
        model = ("model",)
        self.first_token = Histograms(
            "vitrine_time_to_first_token_seconds",
            "Time from a text's arrival to its first token; the queue is in it.",
            model,
            FIRST_TOKEN_BUCKETS_S,
        )
        self.inter_token = Histograms(
            "vitrine_inter_token_seconds", "Time between two tokens of a text.", model, STEP_BUCKETS_S
        )
        self.step = Histograms(
            "vitrine_text_step_seconds", "Time of one step of the text engine, in all.", model, STEP_BUCKETS_S
        )
        self.engine = Histograms(
            "vitrine_text_engine_seconds", "Of a step, time inside the engine.", model, STEP_BUCKETS_S
        )
        self.schedule = Histograms(
            "vitrine_text_schedule_seconds", "Of a step, time to decide it.", model, SMALL_BUCKETS_S
        )
        self.mask = Histograms(
            "vitrine_grammar_mask_seconds",
            "Time to make the grammar masks of a step, beside the engine; steps without one are left out.",
            model,
            SMALL_BUCKETS_S,
        )
        self.batch_tokens = Histograms(
            "vitrine_text_batch_tokens", "Tokens computed in one step.", model, TOKEN_BUCKETS
        )
        self.text = Histograms(
            "vitrine_text_duration_seconds",
            "Time from a text's arrival to its end.",
            ("model", "outcome"),
            TEXT_BUCKETS_S,
        )
        self.tokens = Counters(
            "vitrine_tokens",
            "Tokens: of prompts computed, of prompts taken from a cached prefix, of answers.",
            ("model", "kind"),
        )
        self.asked = Counters(
            "vitrine_prefix_asked_tokens", "Prompt tokens looked up in the prefix cache.", model
        )
        self.hit = Counters("vitrine_prefix_hit_tokens", "Prompt tokens found in the prefix cache.", model)
        self.preemptions = Counters(
            "vitrine_text_preemptions", "Texts that lost their slot to a more urgent one.", model
        )
        self.refusals = Counters(
            "vitrine_text_refused", "Texts refused before any work.", ("model", "reason")
        )
        self.slots = Gauges("vitrine_kv_slots_in_use", "KV slots that belong to a text.", model)
        self.waiting = Gauges("vitrine_texts_waiting", "Texts that have no slot yet.", model)

    def families(self) -> Sequence[Family]:
        """All of them."""
        return (
            self.first_token, self.inter_token, self.step, self.engine, self.schedule, self.mask, self.batch_tokens,
            self.text, self.tokens, self.asked, self.hit, self.preemptions, self.refusals, self.slots, self.waiting,
        )  # fmt: skip


class SeriesTextRecorder:
    """A ``TextRecorder`` of one model; a step costs some appends to lists."""

    def __init__(self, series: TextSeries, model: str) -> None:
        labels = (model,)
        self._series = series
        self._model = model
        self._labels: Labels = labels
        self._first = series.first_token.buffer(labels)
        self._inter = series.inter_token.buffer(labels)
        self._steps = series.step.buffer(labels)
        self._engine = series.engine.buffer(labels)
        self._schedule = series.schedule.buffer(labels)
        self._mask = series.mask.buffer(labels)
        self._batch = series.batch_tokens.buffer(labels)
        self._kinds = tuple((model, kind) for kind in TOKEN_KINDS)
        self._slots = 0
        self._waiting = 0
        for kind in self._kinds:
            series.tokens.add(kind, 0)
        for counter in (series.asked, series.hit, series.preemptions):
            counter.add(labels, 0)
        for reason in REFUSALS:
            series.refusals.add((model, reason), 0)
        series.slots.source(model, lambda: [(labels, float(self._slots))])
        series.waiting.source(model, lambda: [(labels, float(self._waiting))])

    def step_done(self, report: StepReport) -> None:
        """The engine made a step; a report without engine calls is of tokens that came from elsewhere."""
        series, labels = self._series, self._labels
        if report.calls:
            self._steps.append(report.seconds)
            self._engine.append(report.engine_s)
            self._schedule.append(report.schedule_s)
            self._batch.append(report.batch_tokens)
            if report.mask_s:
                self._mask.append(report.mask_s)
        self._first.extend(report.first_tokens_s)
        self._inter.extend(report.inter_tokens_s)
        prompt, cached, output = self._kinds
        series.tokens.add(prompt, report.prompt_tokens)
        series.tokens.add(cached, report.cached_tokens)
        series.tokens.add(output, report.output_tokens)
        if report.prefix_asked:
            series.asked.add(labels, report.prefix_asked)
            series.hit.add(labels, report.prefix_hit)
        if report.preemptions:
            series.preemptions.add(labels, report.preemptions)
        self._slots = report.slots_in_use
        self._waiting = report.waiting

    def text_refused(self, reason: str) -> None:
        """A text was refused before any work."""
        self._series.refusals.add((self._model, reason))

    def text_ended(self, outcome: str, *, total_s: float, output_tokens: int) -> None:
        """An admitted text has ended."""
        self._series.text.observe((self._model, outcome), total_s)
