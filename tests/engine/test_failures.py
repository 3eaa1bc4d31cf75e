"""Which failures of a file are tried again, and which are its end at once."""

import asyncio
import time
from collections import Counter

import pytest

from migration_app.engine import rounds
from migration_app.engine.digests import read_digests
from migration_app.engine.rounds import MOST_TRIES, Rounds
from migration_app.engine.transfer import Done
from migration_app.storages.base import Path
from migration_app.storages.errors import (
    AlreadyExists,
    IsAFolder,
    NameRefused,
    NoSpace,
    NotAFolder,
    NotFound,
    OperationFailed,
    PermissionDenied,
    StorageError,
    Unavailable,
)
from tests.engine.memory_storage import MemoryStorage
from tests.engine.trees import copy, errors, items_of

PERMANENT = (PermissionDenied, NameRefused, NotAFolder, IsAFolder, AlreadyExists)


class Refusing:
    """Refuses an operation on what a path is written to or read from, so many times."""

    def __init__(self, operation: str, error: StorageError, times: int) -> None:
        self.operation, self.error, self.times = operation, error, times
        self.asked: list[float] = []

    def __call__(self, operation: str, path: Path) -> StorageError | None:
        if operation != self.operation or not path.endswith(b"bad"):
            return None
        self.asked.append(time.monotonic())
        return self.error if len(self.asked) <= self.times else None


def transfer(refusing: Refusing, *, size: int = 10) -> dict[bytes, Done]:
    """Copy one file that is refused and some that are not."""
    source, destination = MemoryStorage(hook=refusing), MemoryStorage()
    for number in range(5):
        source.add(b"f%d" % number, b"x")
    source.add(b"bad", b"y" * size)
    done = asyncio.run(
        copy(source, destination, items_of(source.entry(path) for path in source.nodes if path))
    )
    assert {path for path in destination.nodes if path} == {
        path for path, one in done.items() if one.error is None
    }
    return done


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "BACK_OFF_S", 0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("times", range(1, MOST_TRIES))
@pytest.mark.parametrize("operation", ["open_reader", "read"])
def test_file_that_a_server_cannot_give_now_is_tried_again(operation: str, times: int) -> None:
    refusing = Refusing(operation, Unavailable("Busy."), times)
    done = transfer(refusing, size=2 * 2**20)
    assert errors(done) == {}
    assert done[b"bad"].tries == times + 1
    assert {one.tries for path, one in done.items() if path != b"bad"} == {1}


@pytest.mark.usefixtures("quick")
def test_file_that_a_server_can_never_give_now_fails_in_the_end_and_the_rest_goes_on() -> None:
    done = transfer(Refusing("open_reader", Unavailable("Busy."), 1000))
    assert errors(done) == {b"bad": "It cannot be read: Busy."}
    assert done[b"bad"].tries == MOST_TRIES


@pytest.mark.parametrize("error", PERMANENT)
def test_permanent_failure_is_the_end_of_its_file_at_once(error: type[StorageError]) -> None:
    refusing = Refusing("open_reader", error("No."), 1)
    done = transfer(refusing)
    assert list(errors(done)) == [b"bad"]
    assert (done[b"bad"].tries, len(refusing.asked)) == (1, 1)


def test_file_that_is_missing_is_not_looked_for_again() -> None:
    refusing = Refusing("open_reader", NotFound("No such file."), 1)
    assert errors(transfer(refusing)) == {b"bad": "It is not there any more."}
    assert len(refusing.asked) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [OperationFailed, NoSpace])
def test_failure_that_does_not_say_what_it_is_is_tried_again(error: type[StorageError]) -> None:
    done = transfer(Refusing("open_reader", error("Failure."), 1))
    assert errors(done) == {}
    assert done[b"bad"].tries == 2


def test_pauses_grow_and_differ() -> None:
    async def pauses() -> list[float]:
        found: Rounds[int] = Rounds(64)
        lengths = []
        for _ in range(8):
            assert found.puts_off(1, is_transient=True) or found.tries[1] == MOST_TRIES - 1
            found.get_on()
            asked: list[None] = []
            assert found.waits(lambda asked=asked: asked.append(None))  # type: ignore[misc]
            assert found._due_at is not None
            lengths.append(found._due_at - asyncio.get_running_loop().time())
            found.begin_next()
        return lengths

    one, other = asyncio.run(pauses()), asyncio.run(pauses())
    assert one != other
    for round_number, length in enumerate(one):
        usual = min(rounds.LONGEST_BACK_OFF_S, rounds.BACK_OFF_S * 2**round_number)
        assert 0.7 * usual < length <= 1.25 * usual


@pytest.mark.usefixtures("quick")
def test_other_files_do_not_wait_for_one_that_is_tried_again() -> None:
    """The pause comes when all else is over."""
    refusing = Refusing("open_reader", Unavailable("Busy."), 2)
    source, destination = MemoryStorage(hook=refusing), MemoryStorage()
    source.add(b"bad", b"y")
    for number in range(300):
        source.add(b"f%d" % number, b"x")
    asyncio.run(copy(source, destination, items_of(source.entry(path) for path in source.nodes if path)))
    asked = [path for name, path in source.calls if name == "open_reader"]
    assert asked[0] == b"bad"
    assert asked[-2:] == [b"bad", b"bad"]
    assert Counter(asked)[b"bad"] == 3


@pytest.mark.usefixtures("quick")
def test_file_that_is_read_back_is_tried_again_too() -> None:
    refusing = Refusing("read", Unavailable("Busy."), 2)
    source = MemoryStorage(hook=refusing)
    source.add(b"bad", b"y")

    async def digests() -> list[object]:
        return [found async for batch in read_digests(source, [source.entry(b"bad")]) for _, found in batch]

    assert all(isinstance(found, bytes) for found in asyncio.run(digests()))
