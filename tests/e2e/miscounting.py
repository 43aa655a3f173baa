"""A receiver for the benchmarks that acknowledges everything, and counts one request not at all or twice.

To a benchmark that is the same as a delivery that was recorded and never made, or made twice:
`python -m tests.e2e.miscounting lost | doubled`, followed by the arguments of `bench.receiver`.
"""

from __future__ import annotations

import sys

from bench.receiver import Tally, main

_THE_ONE = 7


class Losing(Tally):
    """Does not count the seventh request after each reset."""

    lost = False

    def take(self, head: bytes, body: bytes) -> None:
        """Count one request."""
        if self.requests == _THE_ONE and not self.lost:
            self.lost = True
        else:
            super().take(head, body)

    def reset(self) -> None:
        """Forget all."""
        self.lost = False
        super().reset()


class Doubling(Tally):
    """Counts the seventh request after each reset twice."""

    def take(self, head: bytes, body: bytes) -> None:
        """Count one request."""
        super().take(head, body)
        if self.requests == _THE_ONE:
            super().take(head, body)


if __name__ == "__main__":
    main({"lost": Losing, "doubled": Doubling}[sys.argv[1]], sys.argv[2:])
