"""One attempt on its way: over a kept connection by callbacks alone, over a new one with a task for the dial."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from webhookd.core.attempt import NO_PHASES, AttemptError, ErrorClass, Outcome, Phases
from webhookd.core.delivery import Work
from webhookd.core.envelope import as_sent
from webhookd.core.ports import Clock
from webhookd.core.settings import EndpointDefinition
from webhookd.net.client import Connection
from webhookd.net.failures import AttemptFailedError, StaleConnectionError
from webhookd.net.guard import Deadlines, Dialer, PhaseClock
from webhookd.net.limits import TimeLimits
from webhookd.net.pool import Pool
from webhookd.net.response import Answer
from webhookd.net.retry_after import parse_retry_after
from webhookd.net.routes import Route, Routes

BODY_SECONDS = 2.0
"""Longest wait for an excerpt of the body once the headers are complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What all attempts of a sender share; `open` are its connections, `bodies` the limits on reading an excerpt."""

    clock: Clock
    dialer: Dialer
    pool: Pool
    routes: Routes = field(default_factory=Routes)
    limits: TimeLimits = field(default_factory=TimeLimits)
    bodies: TimeLimits = field(default_factory=TimeLimits)
    open: set[Connection] = field(default_factory=set)


class Attempt:
    """One request for `work`: `prepare` and `depart` send it, and `ended` hears once what came of it, unless cancelled.

    That is an Outcome, or the exception that is a fault of ours: whatever fails in here costs this attempt alone.
    """

    __slots__ = (
        "_begun",
        "_connection",
        "_definition",
        "_dial",
        "_ended",
        "_head",
        "_is_late",
        "_limits",
        "_payload",
        "_phases",
        "_route",
        "_rules",
        "_seconds",
        "_sent_at",
        "_ways",
        "_work",
    )

    _route: Route
    _head: bytes
    _payload: bytes

    def __init__(
        self,
        ways: Ways,
        work: Work,
        definition: EndpointDefinition,
        ended: Callable[[Outcome | Exception], None],
    ) -> None:
        self._begun = monotonic()
        self._ways = ways
        self._work = work
        self._definition = definition
        self._ended: Callable[[Outcome | Exception], None] | None = ended
        self._rules = ways.dialer.rules
        self._connection: Connection | None = None
        self._dial: asyncio.Task[None] | None = None
        self._phases: PhaseClock | None = None
        self._limits = ways.limits
        self._seconds = definition.rules.timeout_seconds
        self._is_late = False
        self._sent_at = 0.0

    def cancel(self) -> None:
        """Drop the request and its connection; nobody hears of it any more."""
        if self._ended is None:
            return
        self._leave()
        if self._connection is not None:
            self._connection.drop()
        if self._dial is not None:
            self._dial.cancel()

    def prepare(self, timestamp_seconds: int) -> Connection | None:
        """Write the request, and return the kept connection it may depart on; without one it goes its own way."""
        if self._ended is None:
            return None
        ways, work, definition = self._ways, self._work, self._definition
        ways.limits.enter(self, self._seconds, self._begun)
        try:
            route = self._route = ways.routes.find(definition)
            try:
                event = as_sent(work.event, definition.rules.body)
            except ValueError as error:
                # Accepted before the endpoint's body was changed; whether it is changed back is not for us to say.
                raise AttemptFailedError(ErrorClass.INTERNAL, str(error)) from error
            payload = self._payload = event.payload
            headers = route.plan.render(
                event, attempt_number=work.attempt_count + 1, timestamp_seconds=timestamp_seconds
            )
            self._head = b"%b%d\r\n%b\r\n" % (route.prefix, len(payload), headers)
            # What was checked under rules replaced meanwhile must not serve under the new ones.
            self._rules = ways.dialer.rules
            connection = self._connection = ways.pool.take(route.origin, self._begun)
        except AttemptFailedError as failure:
            self.failed(failure)
            return None
        except Exception as error:  # noqa: BLE001 - whoever began the attempt hears of it
            self._tell(error)
            return None
        if connection is None:
            self._go_by_new()
        return connection

    def depart(self, now: float, *, is_clean: bool) -> None:
        """Send the request at `now`; a kept connection that is not clean has been spoilt, and is replaced."""
        connection = self._connection
        if self._ended is None or connection is None:
            return
        if not is_clean:
            connection.drop()
            self._go_by_new()
            return
        self._sent_at = now
        try:
            connection.ask(self, self._head, self._payload)
        except (AttemptFailedError, StaleConnectionError) as failure:
            self.failed(failure)
        except Exception as error:  # noqa: BLE001 - as above
            connection.drop()
            self._tell(error)

    def out_of_time(self) -> None:
        if self._ended is None:
            return
        # A dial has the same deadline and knows better where it stands.
        self._is_late = True
        if self._connection is not None:
            self._connection.out_of_time(self._definition.rules.timeout_seconds)

    def body_begun(self, now: float) -> None:
        if now + BODY_SECONDS < self._begun + self._seconds:
            self._limits.leave(self, self._seconds)
            self._limits, self._seconds = self._ways.bodies, BODY_SECONDS
            self._limits.enter(self, BODY_SECONDS, now)

    def answered(self, answer: Answer, now: float, *, reusable: bool) -> None:
        connection, ways = self._connection, self._ways
        try:
            if connection is None:
                raise AssertionError("answered before there was a connection")  # noqa: TRY301 - it is told as any fault
            if reusable and self._rules is ways.dialer.rules:
                ways.pool.put(self._route.origin, connection, now)
            else:
                connection.drop()
            outcome: Outcome | Exception = self._outcome(answer, connection, now)
        except Exception as error:  # noqa: BLE001 - as above
            outcome = error
        self._tell(outcome)

    def failed(self, error: AttemptFailedError | StaleConnectionError) -> None:
        if isinstance(error, StaleConnectionError):
            self._go_by_new()
            return
        self._tell(
            Outcome(
                duration_ms=(monotonic() - self._begun) * 1000,
                error=AttemptError(kind=error.kind, text=error.text, no_way=error.no_way),
                phases=NO_PHASES if self._phases is None else self._phases.phases(),
            )
        )

    def _outcome(self, answer: Answer, connection: Connection, now: float) -> Outcome:
        first_byte_ms = (connection.first_byte_at - self._sent_at) * 1000
        retry_after = answer.retry_after
        if self._phases is None:
            phases = Phases(first_byte_ms=first_byte_ms)
        else:
            self._phases.first_byte_ms = first_byte_ms
            phases = self._phases.phases()
        return Outcome(
            duration_ms=(now - self._begun) * 1000,
            status=answer.status,
            phases=phases,
            excerpt=self._route.redactor.clean(answer.excerpt),
            retry_after_seconds=None
            if retry_after is None or answer.status not in {429, 503}
            else parse_retry_after(retry_after, now_ms=self._ways.clock.now_ms()),
        )

    def _tell(self, outcome: Outcome | Exception) -> None:
        ended = self._ended
        if ended is not None:
            self._leave()
            ended(outcome)

    def _leave(self) -> None:
        self._ended = None
        self._limits.leave(self, self._seconds)

    def _go_by_new(self) -> None:
        """Go on over a new connection; only the dial needs a task."""
        self._connection = None
        self._phases = PhaseClock()
        self._dial = asyncio.get_running_loop().create_task(self._over_new(self._phases))

    async def _over_new(self, phases: PhaseClock) -> None:
        route, ways = self._route, self._ways
        rules = route.definition.rules
        deadlines = Deadlines(
            connect_seconds=rules.connect_timeout_seconds,
            total_seconds=rules.timeout_seconds,
            total_at=self._begun + rules.timeout_seconds,
        )
        try:
            connection = await ways.dialer.dial(route.target, route.definition.tls, deadlines, phases)
            ways.open.add(connection)
            connection.lost.add_done_callback(lambda _: ways.open.discard(connection))
            self._connection = connection
            self._sent_at = monotonic()
            connection.ask(self, self._head, self._payload)
        except AttemptFailedError as failure:
            self.failed(failure)
            return
        except Exception as error:  # noqa: BLE001 - as above
            if self._connection is not None:
                self._connection.drop()
            self._tell(error)
            return
        if self._is_late:
            asyncio.get_running_loop().call_soon(self.out_of_time)
