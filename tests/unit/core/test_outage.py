"""When failures everywhere are taken for our own network being down, and when it is tried again."""

from __future__ import annotations

import pytest

from webhookd.core.attempt import AttemptError, ErrorClass, Outcome
from webhookd.core.outage import FEWEST_HOSTS, Outage, Sign, sign_of

ANSWER = Outcome(duration_ms=1.0, status=200)


def failed(kind: ErrorClass, *, no_way: bool | None = None) -> Outcome:
    return Outcome(duration_ms=1.0, error=AttemptError(kind=kind, text="scripted", no_way=no_way))


NO_ROUTE = failed(ErrorClass.LOCAL)
TIMED_OUT = failed(ErrorClass.TIMEOUT)
NO_NAME_SERVER = failed(ErrorClass.DNS, no_way=True)


class Network:
    """An Outage and the moment it is asked at."""

    def __init__(self) -> None:
        self.outage = Outage()
        self.now = 100.0

    def tries(self, *numbers: int, outcome: Outcome = NO_ROUTE, host: str = "") -> list[bool]:
        """Let endpoints be tried one after the other; return which of these are not held against them."""
        return [
            self.outage.landed(
                f"https://{host or f'host-{number}.example'}/{number}",
                outcome,
                now=self.now,
                started=self.now,
                probe=False,
            )
            for number in numbers
        ]

    def probes(self, outcome: Outcome) -> None:
        assert self.outage.allows(self.now)
        probe = self.outage.started(self.now)
        self.outage.landed("https://probe.example/", outcome, now=self.now, started=self.now, probe=probe)

    @property
    def is_down(self) -> bool:
        return self.outage.began_at is not None


def down() -> Network:
    network = Network()
    network.tries(*range(FEWEST_HOSTS))
    assert network.is_down
    return network


@pytest.mark.parametrize(
    ("outcome", "sign"),
    [
        (ANSWER, Sign.LIFE),
        (Outcome(duration_ms=1.0, status=503), Sign.LIFE),
        (failed(ErrorClass.TLS), Sign.LIFE),
        (failed(ErrorClass.PROTOCOL), Sign.LIFE),
        (failed(ErrorClass.PROTOCOL, no_way=True), Sign.NO_WAY),
        (NO_ROUTE, Sign.NO_WAY),
        (failed(ErrorClass.LOCAL, no_way=False), Sign.UNCLEAR),
        (NO_NAME_SERVER, Sign.NO_WAY),
        (failed(ErrorClass.DNS), Sign.UNCLEAR),
        (failed(ErrorClass.CONNECT), Sign.UNCLEAR),
        (failed(ErrorClass.CONNECT, no_way=True), Sign.NO_WAY),
        (TIMED_OUT, Sign.UNCLEAR),
    ],
)
def test_an_outcome_says_this_of_our_own_network(outcome, sign):
    assert sign_of(outcome) is sign


def test_it_takes_twenty_endpoints():
    network = Network()
    network.tries(*range(FEWEST_HOSTS - 1))
    network.tries(*range(FEWEST_HOSTS - 1))
    assert not network.is_down
    network.tries(FEWEST_HOSTS)
    assert network.is_down


@pytest.mark.parametrize(("without", "is_down"), [(9, False), (10, True)])
def test_it_takes_half_of_those_that_were_tried(without, is_down):
    network = Network()
    network.tries(*range(20 - without), outcome=TIMED_OUT)
    network.tries(*range(20 - without, 20))
    assert network.is_down is is_down


def test_as_long_as_one_answers_nothing_is_paused():
    network = Network()
    for number in range(200):
        network.tries(number)
        if number % 15 == 0:
            network.tries(1000, outcome=ANSWER)
    assert not network.is_down


def test_an_answer_protects_for_two_seconds():
    """An event to forty endpoints of which one answers at once, and the others fail after it."""
    network = Network()
    network.tries(1000, outcome=ANSWER)
    network.now += 1.9
    network.tries(*range(40))
    assert not network.is_down
    network.now += 0.1
    network.tries(0)
    assert network.is_down


def test_what_is_longer_ago_than_ten_seconds_does_not_count():
    network = Network()
    for number in range(100):
        network.tries(number)
        network.now += 10.0 / 18
    assert not network.is_down


@pytest.mark.parametrize("outcome", [NO_NAME_SERVER, NO_ROUTE])
def test_twenty_endpoints_at_one_host_are_one_witness(outcome):
    network = Network()
    network.tries(*range(100), outcome=outcome, host="gone.example")
    assert not network.is_down
    network.tries(*range(100), outcome=outcome)
    assert network.is_down


def test_addresses_that_are_forbidden_say_nothing():
    network = Network()
    network.tries(*range(100, 200), outcome=failed(ErrorClass.BLOCKED))
    network.tries(*range(FEWEST_HOSTS))
    assert network.is_down


def test_while_it_is_down_probes_go_out_one_at_a_time_and_ever_later():
    network, waits = down(), []
    for _ in range(7):
        waits.append(network.outage.probe_at - network.now)
        assert not network.outage.allows(network.outage.probe_at - 0.001)
        network.now = network.outage.probe_at
        assert network.outage.allows(network.now)
        assert network.outage.started(network.now)
        assert not network.outage.allows(network.now + 4.9)
        network.outage.landed("https://a.example/", NO_ROUTE, now=network.now, started=network.now, probe=True)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def test_who_has_not_been_found_out_of_reach_waits_for_no_more_than_the_probe_that_is_out():
    network = down()
    assert network.outage.allows(network.now, is_cut_off=False)
    due, sent = network.outage.probe_at, network.now
    assert network.outage.started(sent)
    assert not network.outage.allows(sent + 1, is_cut_off=False)
    network.outage.landed("https://a.example/", NO_ROUTE, now=sent + 1, started=sent, probe=True)
    assert network.outage.allows(sent + 1, is_cut_off=False)
    assert network.outage.probe_at == due


def test_a_probe_that_hangs_keeps_the_next_one_waiting_for_five_seconds():
    network = down()
    assert network.outage.started(network.now)
    assert not network.outage.allows(network.now + 4.9, is_cut_off=False)
    assert network.outage.allows(network.now + 5.0, is_cut_off=False)


def test_a_probe_that_finds_life_ends_it_and_the_next_one_begins_at_five_seconds_again():
    network = down()
    for _ in range(3):
        network.now = network.outage.probe_at
        network.probes(NO_ROUTE)
    network.now = network.outage.probe_at
    network.probes(ANSWER)
    assert not network.is_down
    assert network.outage.allows(network.now)
    network.now += 2.0
    network.tries(*range(FEWEST_HOSTS))
    assert network.outage.probe_at - network.now == 5.0


def test_a_probe_that_is_refused_proves_nothing():
    network = down()
    network.now = network.outage.probe_at
    network.probes(failed(ErrorClass.CONNECT))
    assert network.is_down


def test_an_answer_to_a_request_from_before_ends_it_too():
    network = down()
    network.tries(1, outcome=ANSWER)
    assert not network.is_down


def test_what_came_to_nothing_while_it_was_down_is_held_against_nobody():
    network = Network()
    assert network.tries(0, outcome=TIMED_OUT) == [False]
    network.tries(*range(1, 1 + 2 * FEWEST_HOSTS))
    assert network.is_down
    assert network.tries(50, 51, outcome=TIMED_OUT) == [True, True]
    assert network.tries(50, outcome=NO_NAME_SERVER) == [True]
    began = network.now
    network.now = network.outage.probe_at
    network.probes(ANSWER)
    url = "https://a.example/"
    late = {"now": network.now + 5, "probe": False}
    assert network.outage.landed(url, TIMED_OUT, started=began, **late)
    assert not network.outage.landed(url, TIMED_OUT, started=network.now + 1, **late)


@pytest.mark.parametrize("kind", [ErrorClass.BLOCKED, ErrorClass.INTERNAL])
def test_what_has_nothing_to_do_with_it_counts_as_always(kind):
    assert down().tries(3, outcome=failed(kind)) == [False]
