"""When the attempts of a delivery would be made, worked out for people to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from webhookd.config.forms import show_duration, spell_duration
from webhookd.core.schedule import delays
from webhookd.core.settings import HOUR, MINUTE, DeliveryRules

_MOST_LINES = 40
_LINES_BEFORE_GAP = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The attempts of a delivery that always fails, without jitter and as if an attempt took no time.

    `steps` are (delay before the attempt, age of the delivery at it) in seconds, from the first attempt on. Of these,
    `made` attempts come to pass; those after them would be later than `give_up_after_seconds`.
    """

    steps: tuple[tuple[float, float], ...]
    made: int
    jitter: float
    give_up_after_seconds: float

    @property
    def total_seconds(self) -> float:
        """The age of the delivery at its last attempt."""
        return self.steps[self.made - 1][1]

    @property
    def longest_seconds(self) -> float:
        """The same where jitter lengthens every delay by all it may."""
        return min(self.total_seconds * (1 + self.jitter), self.give_up_after_seconds)

    def show(self) -> dict[str, object]:
        """Return the timeline as a JSON object; durations are text beside their seconds."""
        return {
            "attempts": [
                {
                    "number": number,
                    "after": _spell_delay(delay),
                    "after_seconds": delay,
                    "at": spell_duration(at),
                    "at_seconds": at,
                    "made": number <= self.made,
                }
                for number, (delay, at) in enumerate(self.steps, 1)
            ],
            "attempts_made": self.made,
            "retries_made": self.made - 1,
            "total": spell_duration(self.total_seconds),
            "total_seconds": self.total_seconds,
            "total_with_jitter": spell_duration(self.longest_seconds),
            "total_with_jitter_seconds": self.longest_seconds,
            "cut_by_give_up_after": self.made < len(self.steps),
        }

    def lines(self) -> Iterator[str]:
        """Yield the timeline in words, at most about `_MOST_LINES` lines of it."""
        yield "attempt 1 at once"
        shown = range(2, self.made + 1)
        gap = range(0)
        if len(shown) > _MOST_LINES:
            gap = range(_LINES_BEFORE_GAP, self.made)
        for number in shown:
            if number not in gap:
                delay, at = self.steps[number - 1]
                yield f"attempt {number} after {_spell_delay(delay)} (at +{spell_duration(at)})"
            elif number == gap.start:
                yield f"… {len(gap)} more …"
        if self.made < len(self.steps):
            yield self._cut()
        yield self._total()

    def _cut(self) -> str:
        delay, at = self.steps[self.made]
        first, last = self.made + 1, len(self.steps)
        limit = f"past give_up_after ({spell_duration(self.give_up_after_seconds)})"
        if first == last:
            return f"attempt {first} after {_spell_delay(delay)} would be at +{spell_duration(at)}, {limit}: not made"
        return f"attempts {first} to {last} would be at +{spell_duration(at)} and later, {limit}: not made"

    def _total(self) -> str:
        attempts = "1 attempt" if self.made == 1 else f"{self.made} attempts"
        retries = {1: "no retries", 2: "1 retry"}.get(self.made, f"{self.made - 1} retries")
        total = f"total: {attempts} ({retries}) over {spell_duration(self.total_seconds)}"
        if self.jitter and self.total_seconds:
            total += f", up to {spell_duration(_rounded(self.longest_seconds))} with jitter"
        return total


def _spell_delay(seconds: float) -> str:
    # Schedules are thought of in hours up to two days: "after 24h", where an age would say 1d.
    return show_duration(seconds) if seconds % HOUR == 0 else spell_duration(seconds)


def _rounded(seconds: float) -> float:
    return round(seconds) if seconds >= MINUTE else seconds


def timeline(rules: DeliveryRules) -> Timeline:
    """Return when attempts would be made by `rules`."""
    waits = (0.0, *delays(rules.retry))
    ages = tuple(accumulate(waits))
    return Timeline(
        steps=tuple(zip(waits, ages, strict=True)),
        made=sum(age <= rules.give_up_after_seconds for age in ages),
        jitter=rules.jitter,
        give_up_after_seconds=rules.give_up_after_seconds,
    )
