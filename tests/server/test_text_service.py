"""The text product: one outcome a request, one deadline a flight, whatever the generator does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.batching.admission import Admission
from server.errors import Code, DeadlineExceeded, EngineFault, NotFound, NotReady, Overloaded, ServeError
from server.service import Ticket
from server.telemetry_interface import NullTelemetry
from server.text_domain import (
    Chunk,
    Failed,
    Finished,
    FinishReason,
    GenerateRequest,
    TextEvent,
    TextModelInfo,
    Usage,
)
from server.text_generator import Sink
from server.text_service import TextRequestLimits, TextService
from tests.server.fake_text import ByteCodec, FakeText

USAGE = Usage(prompt_tokens=1, completion_tokens=1)
END = Finished(reason=FinishReason.STOP, usage=USAGE, queue_s=0.0, first_token_s=0.0, total_s=0.0)
REQUEST = GenerateRequest(prompt_ids=(1,), max_tokens=4)


class Counts(NullTelemetry):
    def __init__(self) -> None:
        self.done: list[tuple[str, str, str, str]] = []
        self.missed: list[str] = []
        self.refused: list[str] = []

    def request_done(self, endpoint: str, protocol: str, outcome: str, tier: str, seconds: float) -> None:
        self.done.append((endpoint, protocol, outcome, tier))

    def deadline_missed(self, stage: str) -> None:
        self.missed.append(stage)

    def rejected(self, reason: str) -> None:
        self.refused.append(reason)


class Text:
    """A text under a test's hand."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.cancels = 0

    def cancel(self) -> None:
        self.cancels += 1


class Hand:
    """A generator that does nothing but what the test tells it to."""

    def __init__(self, name: str = "writer", refuse_at: int = -1) -> None:
        self.codec = ByteCodec()
        self.texts: list[Text] = []
        self.name = name
        self.refuse_at = refuse_at

    def info(self) -> TextModelInfo:
        return TextModelInfo(
            name=self.name, version="1", engine="hand", precision="fp32", vocab_size=9, max_context=9
        )

    def submit(self, request: GenerateRequest, sink: Sink) -> Text:
        if len(self.texts) == self.refuse_at:
            raise Overloaded("writer", 1, 1, 2.0)
        self.texts.append(Text(sink))
        return self.texts[-1]

    def ready(self) -> tuple[bool, str]:
        return True, ""


def service(*generators: Hand, limit: int = 8, clock: Callable[[], float] | None = None) -> TextService:
    return TextService(
        generators,
        Admission("texts", limit),
        TextRequestLimits(),
        Counts(),
        **({"clock": clock} if clock else {}),
    )


def begin(
    product: TextService, generator: Hand, count: int, deadline_s: float = 60.0
) -> tuple[list[tuple[int, TextEvent]], object]:
    told: list[tuple[int, TextEvent]] = []
    flight = product.generate(
        generator,
        [REQUEST] * count,
        product.clock() + deadline_s,
        lambda index, event: told.append((index, event)),
    )
    return told, flight


async def test_the_first_failure_ends_the_others() -> None:
    """Texts that go on are cancelled, and nothing is told after the failure."""
    hand = Hand()
    product = service(hand)
    told, _ = begin(product, hand, 3)

    hand.texts[0].sink(END)
    hand.texts[1].sink(Failed(EngineFault("boom"), USAGE))
    hand.texts[2].sink(Chunk("late", (1,)))

    assert [type(event) for _, event in told] == [Finished, Failed]
    assert [text.cancels for text in hand.texts] == [0, 0, 1]
    assert not product.flights


async def test_all_or_none_are_begun() -> None:
    """Where the third of four is refused, the first two are cancelled and the caller gets the refusal."""
    hand = Hand(refuse_at=2)
    product = service(hand)

    with pytest.raises(Overloaded):
        begin(product, hand, 4)

    assert [text.cancels for text in hand.texts] == [1, 1] and not product.flights


async def test_a_hung_engine_is_ended_at_the_deadline() -> None:
    """The flight's own timer tells the caller, cancels the text, and counts one missed deadline."""
    hand = Hand()
    product = service(hand)
    told, _ = begin(product, hand, 2, deadline_s=0.0)
    while not told:
        await asyncio.sleep(0)

    (index, event), *rest = told
    assert isinstance(event, Failed) and isinstance(event.error, DeadlineExceeded) and index == 0 and not rest
    assert [text.cancels for text in hand.texts] == [1, 1]
    assert product.telemetry.missed == ["engine"]  # type: ignore[attr-defined]


async def test_a_deadline_that_the_generator_finds_counts_once() -> None:
    """Whoever finds it, a missed deadline is one."""
    hand = Hand()
    product = service(hand)
    told, _ = begin(product, hand, 1, deadline_s=0.0)
    hand.texts[0].sink(Failed(DeadlineExceeded("too late", stage="queue"), USAGE))
    for _ in range(3):
        await asyncio.sleep(0)

    assert len(told) == 1 and product.telemetry.missed == ["queue"]  # type: ignore[attr-defined]


async def test_ending_all_tells_everyone_why() -> None:
    """What is on its way at the end of the drain gets NotReady."""
    hand = Hand()
    product = service(hand)
    first, _ = begin(product, hand, 1)
    second, _ = begin(product, hand, 2)
    product.end_all()

    for told in (first, second):
        ((_, event),) = told
        assert isinstance(event, Failed) and isinstance(event.error, NotReady)
    assert [text.cancels for text in hand.texts] == [1, 1, 1]


async def test_a_ticket_gives_its_permit_back_once() -> None:
    """However often it is ended, one permit and one outcome."""
    product = service(limit=1)
    ticket = product.admit("chat_completions", "http")
    refused = product.admit("chat_completions", "http")

    assert isinstance(ticket, Ticket) and isinstance(refused, Overloaded)
    ticket.end("ok", "model")
    ticket.end("cancelled")
    assert product.admission.in_flight == 0
    assert product.telemetry.done == [  # type: ignore[attr-defined]
        ("chat_completions", "http", "overloaded", "none"),
        ("chat_completions", "http", "ok", "model"),
    ]


def test_models_are_found_by_name() -> None:
    """By their own; the only one by none; else a refusal that lists them."""
    one, two = Hand("a"), Hand("b")

    assert service(one).generator("") is one
    assert service(one, two).generator("b") is two
    for product, name in ((service(one, two), ""), (service(one), "c"), (service(), "")):
        with pytest.raises(NotFound) as caught:
            product.generator(name)
        assert caught.value.field == "model"


def test_what_is_not_ready_says_why() -> None:
    """The reason of each model, with its name; and it is listed as not ready."""
    text = FakeText()
    text.why = "its engine hangs"
    product = TextService([text], Admission("texts", 1), TextRequestLimits(), NullTelemetry())

    assert product.reasons() == ["writer: its engine hangs"]
    assert [(model.name, model.ready) for model in product.models()] == [("writer", False)]


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["chunk", "finish", "fail", "cancel", "end"])),
        max_size=12,
    ),
)
def test_every_flight_ends_exactly_once(count: int, steps: list[tuple[int, str]]) -> None:
    """In any order of events: one end at most, nothing after it, and no text is left running when it came."""

    async def play() -> None:
        hand = Hand()
        product = service(hand)
        told, flight = begin(product, hand, count)
        ended: set[int] = set()
        for place, what in steps:
            place %= count
            before = len(told)
            was_over = flight.ended  # type: ignore[attr-defined]
            if what == "cancel":
                flight.cancel()  # type: ignore[attr-defined]
            elif what == "end":
                product.end_all()
            elif place not in ended and not hand.texts[place].cancels:
                sink = hand.texts[place].sink
                ended |= {place} if what != "chunk" else set()
                event: TextEvent = Chunk("x", (1,))
                if what == "finish":
                    event = END
                elif what == "fail":
                    event = Failed(EngineFault("boom"), USAGE)
                sink(event)
            assert not was_over or len(told) == before
        failures = [event for _, event in told if isinstance(event, Failed)]
        assert len(failures) <= 1
        if flight.ended:  # type: ignore[attr-defined]
            assert flight not in product.flights
            assert all(text.cancels == 1 or place in ended for place, text in enumerate(hand.texts))
            assert all(text.cancels <= 1 for text in hand.texts)
        flight.cancel()  # type: ignore[attr-defined]

    asyncio.run(play())


def test_an_error_of_ours_is_shown_and_any_other_is_not() -> None:
    """The text of a stranger stays in the log."""
    product = service()
    known: ServeError = NotReady("starting")
    hidden = product.as_serve_error(ValueError("secret"))

    assert product.as_serve_error(known) is known
    assert hidden.code is Code.INTERNAL and "secret" not in hidden.message
    assert isinstance(hidden.__cause__, ValueError)
