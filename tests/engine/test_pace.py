"""Limits of a transfer's rate and of how much it does at once."""

import asyncio
import time

import pytest

from migration_app.engine.pace import Pace
from migration_app.engine.transfer import transfer_items
from tests.engine.memory_storage import MemoryStorage
from tests.engine.trees import items_of

MB = 10**6


class Clock:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(pace: Pace, clock: Clock, *, seconds: float, step_s: float, piece: int) -> int:
    """What a reader gets that always wants more and looks every `step_s`."""
    size, until = 0, clock.now + seconds
    while clock.now < until:
        while not pace.wait_s():
            pace.take(piece)
            size += piece
        clock.now += step_s
    return size


@pytest.mark.parametrize("rate", [0.02 * MB, 1 * MB, 50 * MB])
@pytest.mark.parametrize("step_s", [0.001, 0.03, 0.2])
def test_rate_is_kept_however_often_somebody_looks(rate: float, step_s: float) -> None:
    clock = Clock()
    pace = Pace(rate, clock=clock)
    size = taken(pace, clock, seconds=10, step_s=step_s, piece=min(pace.largest_piece, 261_120))
    assert size == pytest.approx(10 * rate, rel=0.05)


def test_rate_can_be_changed_while_it_is_kept() -> None:
    clock = Clock()
    pace = Pace(2 * MB, clock=clock)
    first = taken(pace, clock, seconds=10, step_s=0.01, piece=100_000)
    pace.rate = 0.5 * MB
    second = taken(pace, clock, seconds=10, step_s=0.01, piece=100_000)
    assert (first, second) == (pytest.approx(20 * MB, rel=0.05), pytest.approx(5 * MB, rel=0.05))


def test_time_in_which_nothing_was_asked_for_is_not_saved_up() -> None:
    clock = Clock()
    pace = Pace(1 * MB, clock=clock)
    clock.now += 3600
    assert taken(pace, clock, seconds=10, step_s=0.01, piece=100_000) < 10.5 * MB


def test_wait_is_as_long_as_the_debt_lasts() -> None:
    clock = Clock()
    pace = Pace(1000, clock=clock)
    pace.take(500)
    assert pace.wait_s() == pytest.approx(0.5)
    clock.now += 0.4
    assert pace.wait_s() == pytest.approx(0.1)
    clock.now += 0.2
    assert pace.wait_s() == 0


def test_without_a_rate_nothing_waits() -> None:
    pace = Pace(0, clock=Clock())
    pace.take(10**12)
    assert pace.wait_s() == 0


@pytest.mark.parametrize("size", [1000, 300_000])
def test_transfer_is_not_faster_than_its_pace_and_whole(size: int) -> None:
    source, destination = MemoryStorage(latency_s=0.002), MemoryStorage(latency_s=0.002)
    for number in range(600_000 // size):
        source.add(b"%d" % number, bytes([number % 251]) * size)
    items = items_of(source.entry(path) for path in source.nodes if path)

    async def go() -> None:
        async for _ in transfer_items(source, destination, items, pace=Pace(1 * MB)):
            pass

    started = time.monotonic()
    asyncio.run(go())
    assert time.monotonic() - started > 0.5
    assert destination.nodes == source.nodes


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_files_are_open_than_may_be_under_way(at_once: int) -> None:
    source, destination = MemoryStorage(latency_s=0.002), MemoryStorage(latency_s=0.002)
    for number in range(30):
        source.add(b"%d" % number, b"x" * 3000)
    items = items_of(source.entry(path) for path in source.nodes if path)

    async def go() -> None:
        async for _ in transfer_items(source, destination, items, at_once=at_once):
            pass

    asyncio.run(go())
    assert (source.most_open, destination.most_open) == (at_once, at_once)
    assert destination.nodes == source.nodes


def test_time_for_which_somebody_waits_is_counted_once() -> None:
    clock = Clock()
    pace = Pace(1000, clock=clock)
    pace.take(500)
    assert pace.wait_s() > 0
    clock.now += 0.3
    assert pace.wait_s() > 0
    assert pace.take_held_s() == pytest.approx(0.3)
    clock.now += 0.4
    assert pace.wait_s() == 0
    clock.now += 5
    assert pace.take_held_s() == pytest.approx(0.4)
    assert pace.take_held_s() == 0
