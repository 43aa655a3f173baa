"""When the next attempt is due."""

from __future__ import annotations

from webhookd.core.settings import RetryGrowth, RetryList, RetryPlan

FAULT_DELAY_MS = 5_000
"""As no retry is spent, nothing else would bound how often a delivery is tried while our own machine is at fault."""


def delays(plan: RetryPlan) -> tuple[float, ...]:
    """Return the delay before each retry, in seconds, without jitter."""
    match plan:
        case RetryList(delays_seconds):
            return delays_seconds
        case RetryGrowth():
            return tuple(_grown(plan, retry) for retry in range(plan.retries))


def delay_seconds(plan: RetryPlan, retries_used: int) -> float | None:
    """Return how long to wait after the attempt that follows `retries_used` retries, None when none are left."""
    match plan:
        case RetryList(delays_seconds):
            return delays_seconds[retries_used] if retries_used < len(delays_seconds) else None
        case RetryGrowth():
            return _grown(plan, retries_used) if retries_used < plan.retries else None


def retry_at_ms(plan: RetryPlan, retries_used: int, *, now_ms: int, jitter: float, draw: float) -> int | None:
    """Return the due moment of the next retry (UTC ms), None when none are left.

    `draw` is a random number in [0, 1); the delay is lengthened by up to the share `jitter`, never shortened.
    """
    delay = delay_seconds(plan, retries_used)
    return None if delay is None else now_ms + round(1000 * delay * (1 + jitter * draw))


def longest_ms(plan: RetryPlan, *, jitter: float) -> int:
    """Return the longest that a retry may wait, jitter included, in milliseconds."""
    return max(FAULT_DELAY_MS, round(1000 * max(delays(plan), default=0.0) * (1 + jitter)))


def _grown(plan: RetryGrowth, retry: int) -> float:
    try:
        return min(plan.max_seconds, plan.first_seconds * plan.factor**retry)
    except OverflowError:
        return plan.max_seconds
