"""How many requests one endpoint gets at a time, and when it rests: Postfix's feedback per destination."""

from __future__ import annotations

INITIAL_WINDOW = 4
_REST_FIRST_SECONDS = 5.0
_REST_MOST_SECONDS = 300.0
_REST_SPREAD = 0.2
_FAILURES_BEFORE_REST = 3
_WHOLE = 1 - 1e-9
"""A window's worth of shares; six binary sixths add up to a little less than one."""


class Window:
    """The adaptive concurrency of one endpoint, between 1 and `cap`.

    An answer widens it by one at the end of a window's worth of answers, and only while the endpoint is kept busy; a
    failure that speaks against the endpoint narrows it by one at the beginning of a window's worth, so an overshoot is
    corrected at once. When a whole window's worth of attempts, and three in a row, have failed, the endpoint rests: no
    attempt for 5 s, doubling up to 5 min (give or take a fifth), and then one probe. The first answer opens the window
    at 1. Times are monotonic seconds.
    """

    __slots__ = (
        "_failed_cohorts",
        "_failure",
        "_failures_in_row",
        "_rests",
        "_success",
        "cap",
        "resting_until",
        "size",
    )

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.size = min(INITIAL_WINDOW, cap)
        self.resting_until: float | None = None
        """The end of the present or latest rest; None when the endpoint is not thought dead."""
        self._success = 0.0
        self._failure = 0.0
        self._failed_cohorts = 0.0
        self._failures_in_row = 0
        self._rests = 0

    def __repr__(self) -> str:
        return f"<Window {self.size}/{self.cap} resting_until={self.resting_until}>"

    def set_cap(self, cap: int) -> None:
        """Change the upper bound; takes effect at once."""
        self.cap = cap
        self.size = min(self.size, cap)

    def allows(self, busy: int, now: float) -> bool:
        """Say whether one more attempt may start while `busy` are under way."""
        if self.resting_until is None:
            return busy < self.size
        return busy == 0 and now >= self.resting_until

    @property
    def is_resting(self) -> bool:
        """Say whether the endpoint is thought dead: nothing but single probes until it answers."""
        return self.resting_until is not None

    def answered(self, busy: int) -> None:
        """Note that the endpoint took a request, acknowledged or not; `busy` counts that request."""
        self._failed_cohorts = 0.0
        self._failures_in_row = 0
        if self.resting_until is not None:
            self.resting_until = None
            self._rests = 0
            self.size = 1
            self._success = self._failure = 0.0
            return
        if self.size < self.cap and self.size < busy + INITIAL_WINDOW:
            self._success += 1 / self.size
            if self._success >= _WHOLE:
                self.size += 1
                self._success = 0.0
                self._failure = 0.0

    def failed(self, now: float, draw: float, *, started: float | None = None) -> bool:
        """Note a failure that speaks against the endpoint; return True if a rest begins.

        `draw` is random in [0, 1). `started` is when the attempt began, where known: one that was already under way
        when the rest began is not its probe, however long it took to fail.
        """
        self._failures_in_row += 1
        self._failed_cohorts += 1 / self.size
        self._success = 0.0
        self._failure -= 1 / self.size
        if self._failure < 0:
            self.size = max(1, self.size - 1)
            self._failure += 1
        if self.resting_until is not None and (now if started is None else started) < self.resting_until:
            return False
        dead = self._failed_cohorts >= _WHOLE and self._failures_in_row >= _FAILURES_BEFORE_REST
        if not dead and self.resting_until is None:
            return False
        rest = min(_REST_MOST_SECONDS, _REST_FIRST_SECONDS * 2 ** min(self._rests, 10))
        self._rests += 1
        self.resting_until = now + rest * (1 - _REST_SPREAD + 2 * _REST_SPREAD * draw)
        return True

    def open_gently(self) -> None:
        """Start over at one request at a time, as after enabling."""
        self.size = 1
        self.resting_until = None
        self._success = self._failure = self._failed_cohorts = 0.0
        self._failures_in_row = self._rests = 0
