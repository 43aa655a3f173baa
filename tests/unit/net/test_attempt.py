"""An attempt whose dial ends when its time is over."""

import asyncio
from time import monotonic

from tests.kit.builders import endpoint, work
from tests.kit.clock import VirtualClock
from webhookd.core.attempt import ErrorClass
from webhookd.core.settings import DeliveryRules
from webhookd.net.attempt import Attempt, Ways
from webhookd.net.client import Connection
from webhookd.net.departures import Departures
from webhookd.net.pool import Pool

RULES = DeliveryRules(timeout_seconds=0.02, connect_timeout_seconds=5)


class Wire:
    """A transport on which nothing ever comes back."""

    def get_extra_info(self, _name):
        return self

    def fileno(self):
        return -1

    def is_closing(self):
        return False

    def get_write_buffer_size(self):
        return 0

    def write(self, data):
        pass

    def abort(self):
        pass


class LateDialer:
    """Comes back with a connection just after the deadline, as one may that was made right before it."""

    rules = None

    async def dial(self, _target, _tls, deadlines, _phases):
        # Twice the deadline, so that its timer has fired.
        await asyncio.sleep(deadlines.total_at - monotonic() + 0.02)
        connection = Connection(asyncio.get_running_loop())
        connection.connection_made(Wire())
        return connection


async def test_a_connection_that_came_too_late_does_not_leave_the_attempt_without_an_end():
    ended = asyncio.get_running_loop().create_future()
    ways = Ways(clock=VirtualClock(), dialer=LateDialer(), pool=Pool(1))
    Departures(ways.clock).add(Attempt(ways, work(), endpoint(rules=RULES), ended.set_result))
    outcome = await asyncio.wait_for(ended, 5)
    assert outcome.error.kind is ErrorClass.TIMEOUT
    assert len(ways.limits) == 0
