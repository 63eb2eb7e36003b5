"""Which host of a fleet is asked: whatever happens, nobody is asked who is out, and whoever comes back is asked again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.engines.triton_hosts import MAX_FAILURES, Host, Hosts

MODEL, OTHER = ("shop", "1"), ("shop", "2")


class Fleet(RuleBasedStateMachine):
    """Requests set out, end well or badly, and looks find hosts there or away, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts = Hosts(["a:1", "b:1", "c:1"])
        self.under_way: list[Host] = []

    @rule(at=st.integers(0, 2), ready=st.sampled_from([(), (MODEL,), (OTHER,), (MODEL, OTHER)]))
    def look(self, at: int, ready: tuple[tuple[str, str], ...]) -> None:
        host = self.hosts.all[at]
        was_out = host.out
        assert self.hosts.seen(host, ready, "away") == (was_out and bool(ready))

    @rule()
    def ask(self) -> None:
        host = self.hosts.pick(MODEL)
        able = [one for one in self.hosts.all if not one.out and MODEL in one.ready]
        if host is None:
            assert not able
            return
        assert host in able and host.outstanding == min(one.outstanding for one in able)
        self.hosts.begin(host)
        self.under_way.append(host)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), how=st.sampled_from(["well", "badly", "away"]))
    def end(self, data: st.DataObject, how: str) -> None:
        host = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.hosts.end(host)
        if how == "well":
            self.hosts.succeeded(host)
        else:
            before, failures = host.out, host.failures
            out = self.hosts.failed(host, "broken", away=how == "away")
            assert out == (not before and (how == "away" or failures + 1 >= MAX_FAILURES))

    @invariant()
    def counts_are_those_of_what_is_under_way(self) -> None:
        for host in self.hosts.all:
            assert host.outstanding == sum(one is host for one in self.under_way)


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.integers(2, 6), st.integers(1, 60))
def test_equal_hosts_share_the_work(count: int, requests: int) -> None:
    """Of hosts that are equally idle none is asked twice before every other was asked."""
    hosts = Hosts([f"host-{number}:1" for number in range(count)])
    for host in hosts.all:
        hosts.seen(host, [MODEL])

    for _ in range(requests):
        host = hosts.pick(MODEL)
        assert host is not None
        hosts.begin(host)
        hosts.end(host)

    asked = [host.requests for host in hosts.all]
    assert max(asked) - min(asked) <= 1


def test_the_reason_why_nobody_is_asked_names_every_host() -> None:
    hosts = Hosts(["a:1", "b:1"])
    hosts.seen(hosts.all[0], [OTHER])
    hosts.seen(hosts.all[1], [], "connection refused")

    why = hosts.why_none(MODEL)

    assert "a:1: it has not this version ready" in why and "b:1: connection refused" in why
