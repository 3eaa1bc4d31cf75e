"""The samples of a job's rate."""

import doctest
import math

from hypothesis import given
from hypothesis import strategies as some

from sessions_app import curve


def test_examples_hold() -> None:
    assert doctest.testmod(curve).failed == 0


@given(some.lists(some.floats(0, 100_000), min_size=1, max_size=400).map(sorted))
def test_samples_are_few_and_reach_up_to_the_last_one(instants: list[float]) -> None:
    step_s, rates = 1.0, curve.Rates()
    for at_s in instants:
        step_s, rates = curve.noted(step_s, rates, at_s, 1000)
        assert len(rates) <= curve.MOST_SAMPLES
    assert len(rates) == math.floor(instants[-1] / step_s) + 1
    assert set(rates) <= {1000, None}
    assert rates[-1] == 1000
