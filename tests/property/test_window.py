"""Under any sequence of answers and failures the window stays within its bounds and no rest is too long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from webhookd.core.window import Window

steps = st.lists(
    st.tuples(
        st.sampled_from(["answered", "failed", "failed", "failed", "cap", "open"]),
        st.integers(1, 40),
        st.floats(0, 20),
        st.floats(0, 1, exclude_max=True),
    ),
    max_size=80,
)


@given(st.integers(1, 40), steps)
def test_the_window_keeps_its_promises_under_any_sequence(cap, taken):
    window, now, in_row = Window(cap), 0.0, 0
    for step, number, pause, draw in taken:
        now += pause
        size_before, rest_before = window.size, window.resting_until
        match step:
            case "answered":
                window.answered(number)
                in_row = 0
                assert not window.is_resting
                assert window.size == 1 if rest_before is not None else window.size - size_before in (0, 1)
            case "failed":
                began = window.failed(now, draw)
                in_row += 1
                assert began == (window.resting_until != rest_before)
                assert size_before - window.size in (0, 1)
                if began:
                    assert in_row >= 3
                    assert window.resting_until is not None
                    assert 4 - 1e-6 <= window.resting_until - now <= 360 + 1e-6
            case "cap":
                window.set_cap(number)
            case _:
                window.open_gently()
                in_row = 0
        assert 1 <= window.size <= window.cap
        assert not window.allows(window.size, now)
        if window.resting_until is None:
            assert window.allows(window.size - 1, now)
        else:
            assert window.allows(0, now) == (now >= window.resting_until)
            assert not window.allows(1, now)
