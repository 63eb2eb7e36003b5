"""Admission: bounded, refused at once, with a hint that comes from how fast permits come back."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.batching.admission import RETRY_MAX_S, RETRY_MIN_S, Admission
from server.errors import InvalidRequest, NotReady, Overloaded

pytestmark = pytest.mark.timeout(60)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def refusal(admission: Admission, cost: int = 1) -> float:
    """Seconds that a refused caller is told to wait."""
    with pytest.raises(Overloaded) as caught:
        admission.acquire(cost)
    assert caught.value.retry_after_s is not None
    return caught.value.retry_after_s


def busy(clock: Clock, rate: float, seconds: float = 10.0) -> Admission:
    """An admission of 10 that has drained ``rate`` permits a second, and is full."""
    admission = Admission("rec", 10, clock)
    admission.acquire(10)
    for _ in range(int(rate * seconds)):
        clock.now += 1 / rate
        admission.release()
        admission.acquire()
    return admission


def test_no_more_than_the_limit_is_in_flight() -> None:
    """The eleventh of ten is refused; a released permit is free again."""
    admission = Admission("rec", 10)
    admission.acquire(9)

    refusal(admission, 2)
    admission.acquire()
    refusal(admission)
    admission.release(10)

    assert admission.in_flight == 0
    admission.acquire(10)


def test_the_hint_is_the_measured_drain() -> None:
    """At ten permits a second, the first refused is told 0.1 s, the fourth 0.4 s."""
    admission = busy(Clock(), rate=10.0)

    hints = [refusal(admission) for _ in range(4)]

    assert hints == pytest.approx([0.1, 0.2, 0.3, 0.4], rel=0.05)


def test_the_line_of_the_refused_moves_on() -> None:
    """Later, at the same rate, those told to wait are no longer counted."""
    clock = Clock()
    admission = busy(clock, rate=10.0)
    for _ in range(4):
        refusal(admission)

    for _ in range(8):
        clock.now += 0.1
        admission.release()
        admission.acquire()

    assert refusal(admission) == pytest.approx(0.1, rel=0.05)


def test_a_stalled_engine_makes_the_hint_longer() -> None:
    """When nothing comes back any more, callers are sent away for longer, up to a bound."""
    clock = Clock()
    admission = busy(clock, rate=100.0)
    before = refusal(admission)

    clock.now += 20.0
    after = refusal(admission)
    clock.now += 1e6

    assert before < 0.1
    assert after > 10.0 * before
    assert refusal(admission) <= RETRY_MAX_S


def test_idle_time_is_not_slowness() -> None:
    """After a quiet night the first refused shopper is told what was measured in the evening."""
    clock = Clock()
    admission = busy(clock, rate=2.0)
    admission.release(10)
    clock.now += 36_000.0
    admission.acquire(10)

    rate = admission.drain_rate

    assert 1.9 < rate < 10.0


def test_the_first_refusal_has_an_answer_too() -> None:
    """Before anything was measured the hint is within bounds."""
    admission = Admission("rec", 1)
    admission.acquire()

    assert RETRY_MIN_S <= refusal(admission) <= 2.0


def test_more_than_the_limit_at_once_is_the_callers_mistake() -> None:
    """Trying again would never help, so it is not a 429; nonsense costs are bugs."""
    admission = Admission("rec", 4)

    with pytest.raises(InvalidRequest, match="limit is 4"):
        admission.acquire(5)
    with pytest.raises(ValueError, match="cost = 0"):
        admission.acquire(0)
    with pytest.raises(ValueError, match="limit = 0"):
        Admission("rec", 0)
    assert admission.in_flight == 0


def test_a_second_release_is_refused_or_harmless() -> None:
    """Permits never go negative: a raw release without a permit raises, a ``Permit`` releases once."""
    admission = Admission("rec", 4)
    with pytest.raises(ValueError, match="released 1 of 0"):
        admission.release()

    with admission.take(3) as permit:
        assert admission.in_flight == 3
        permit.release()
        permit.release()

    assert admission.in_flight == 0


async def test_draining_refuses_and_waits_for_the_rest() -> None:
    """After ``stop`` nobody enters; ``wait_idle`` says whether everyone came out."""
    admission = Admission("rec", 4)
    admission.acquire(2)
    admission.stop()

    with pytest.raises(NotReady):
        admission.acquire()
    assert not await admission.wait_idle(0.0)
    waiting = asyncio.create_task(admission.wait_idle(30.0))
    await asyncio.sleep(0)
    admission.release()
    admission.release()

    async with asyncio.timeout(5):
        assert await waiting
        assert await admission.wait_idle(float("nan"))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.integers(1, 6)),
        st.tuples(st.just("release"), st.integers(0, 9)),
        st.tuples(st.just("pass"), st.floats(-1e3, 1e6, allow_nan=False)),
    ),
    max_size=60,
)


@given(steps)
def test_permits_are_conserved(script: list[tuple[str, float]]) -> None:
    """Whatever comes and goes, and however the clock jumps: in flight is what was taken, hints are in bounds."""
    clock = Clock()
    admission = Admission("rec", 8, clock)
    held: list[int] = []

    for verb, amount in script:
        if verb == "pass":
            clock.now += amount
        elif verb == "acquire":
            try:
                admission.acquire(int(amount))
                held.append(int(amount))
            except Overloaded as refused:
                assert sum(held) + amount > 8
                assert refused.retry_after_s is not None
                assert RETRY_MIN_S <= refused.retry_after_s <= RETRY_MAX_S
        elif held:
            admission.release(held.pop(int(amount) % len(held)))
        assert admission.in_flight == sum(held) <= 8


def test_open_permits_follow_the_rate_at_which_they_come_back() -> None:
    """Under load as many are let in as drain within the target; never fewer than the floor, never above the limit."""
    clock = Clock()
    admission = Admission("rec", 400, clock, target_wait_s=0.025, floor=32)
    opened = {}
    for rate in (200, 4000, 100_000):
        admission.acquire()
        for _ in range(int(rate * 10)):  # ten seconds at a steady rate, everything taken: a queue that stands
            clock.now += 1 / rate
            admission.release()
            while admission.refusal() is None:
                admission.acquire()
        opened[rate] = admission.open
        admission.release(admission.in_flight)
        clock.now += 1.0

    assert opened == {200: 32, 4000: pytest.approx(100, abs=3), 100_000: 400}


def test_a_burst_after_a_quiet_moment_gets_twice_as_many_permits() -> None:
    """What drains soon is let in; when as much is still in flight a tenth of a second later, it is not."""
    clock = Clock()
    admission = Admission("rec", 400, clock, target_wait_s=0.025, floor=32)
    for _ in range(8000):
        admission.acquire()
        clock.now += 1 / 4000
        admission.release()
    quiet = admission.open
    for _ in range(quiet):
        admission.acquire()

    for _ in range(int(0.2 * 4000)):  # as many come as go
        clock.now += 1 / 4000
        admission.release()
        if admission.refusal() is None:
            admission.acquire()

    assert quiet == pytest.approx(200, abs=6)
    assert admission.open == pytest.approx(100, abs=3)


def test_a_call_for_many_gets_in_beside_small_ones() -> None:
    """A batch call needs room for its first batches, not for all of it, and what it takes counts in full."""
    clock = Clock()
    admission = Admission("rec", 400, clock, target_wait_s=0.025, floor=32)
    for _ in range(8000):  # two seconds at 4,000 a second: about two hundred are open
        admission.acquire()
        clock.now += 1 / 4000
        admission.release()
    for _ in range(160):
        admission.acquire()

    admission.acquire()  # the call's own permit ...
    admission.acquire(200, held=1)  # ... and its batch

    assert admission.in_flight == 361
    with pytest.raises(Overloaded):
        admission.acquire()
    with pytest.raises(Overloaded):
        admission.acquire(200)  # above the limit in all
