"""How many connections are open to a server, by all workers."""

import time
import uuid

import pytest
from django.utils import timezone

from migration_app import endpoints
from migration_app.models import Endpoint, ServerLoad
from migration_app.runners import slots
from migration_app.runners.slots import Slots, TooFewAllowed
from migration_app.storages.base import Address
from sessions_app.models import User, Worker
from tests.product import until

A, B, C = (uuid.UUID(int=number) for number in (1, 2, 3))
KEY = "sftp://web.example.org:22"
ADDRESS = Address("sftp", "Web.example.org")


class Process(Slots):
    """A worker with its connections."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        Worker.objects.create(id=name, host="here", pid=1, queues="work", seen_at=timezone.now())

    def take_for(self, job: uuid.UUID, *sides: Endpoint) -> bool:
        return not self.take(self.name, job, sides)

    def end(self) -> None:
        self.give_back()
        self._threads.submit(lambda: None).result()


@pytest.fixture
def side(owner: User, transactional_db: None) -> Endpoint:
    return Endpoint(
        owner=owner, protocol="sftp", host="web.EXAMPLE.org", port=22, options={"max_connections": 1}
    )


@pytest.fixture
def workers(side: Endpoint) -> list[Process]:
    return [Process(name) for name in ("one", "two", "three")]


def held() -> dict[str, int]:
    found: dict[str, int] = ServerLoad.objects.get(key=KEY).holders
    return found


def test_all_workers_share_what_a_server_allows(side, workers):
    one, two, _ = workers
    assert one.take_for(A, side)
    assert not two.take_for(A, side)
    assert two.take(two.name, A, [side]) == (
        "Waits for a free connection to web.EXAMPLE.org: 1 may be open at once."
    )
    one.end()
    assert two.take_for(A, side)
    assert held() == {"two": 1}


def test_usual_limit_and_that_of_the_stored_connection(owner, side, workers):
    stored = Endpoint.objects.create(
        owner=owner, name="web", protocol="sftp", host="web.example.org", options={}
    )
    side.options, side.connection = {"max_connections": 9}, stored
    assert endpoints.most_connections(side) == endpoints.MOST_CONNECTIONS == 4
    stored.options = {"max_connections": 2}
    assert endpoints.most_connections(side) == 2
    assert workers[0].take_for(A, side, side)
    assert not workers[1].take_for(A, side)


def test_connection_that_is_kept_counts_until_it_is_closed(side, workers):
    one, two, _ = workers
    assert one.take_for(A, side)
    one.note(ADDRESS, 1)
    one.end()
    assert held() == {"one": 1}
    assert not two.take_for(B, side)
    one.note(ADDRESS, -1)
    until(lambda: held() == {})
    assert two.take_for(B, side)


def test_shard_keeps_what_it_has_whoever_waits(side, workers):
    one, two, _ = workers
    assert one.take_for(A, side)
    assert not two.take_for(B, side)
    assert one.take_for(A, side)
    assert one.is_wanted(by_others_than=A)
    assert not one.is_wanted(by_others_than=B)


def test_whoever_waits_longest_is_served_first(side, workers, monkeypatch):
    monkeypatch.setattr(slots, "TURN_S", 0)
    one, two, three = workers
    assert one.take_for(A, side)
    assert not two.take_for(B, side)
    assert not three.take_for(C, side)
    one.end()
    assert not one.take_for(A, side)
    assert not three.take_for(C, side)
    assert two.take_for(B, side)
    two.end()
    assert not one.take_for(A, side)
    assert three.take_for(C, side)


def test_next_shard_of_a_job_follows_in_the_same_turn(side, workers, monkeypatch):
    monkeypatch.setattr(slots, "TURN_S", 0)
    one, two, three = workers
    assert one.take_for(A, side)
    assert not two.take_for(B, side)
    one.end()
    monkeypatch.setattr(slots, "TURN_S", 60)
    ServerLoad.objects.update(served={})
    assert not one.take_for(A, side)
    assert two.take_for(B, side)
    two.end()
    # Its next piece comes to another worker, before the one that waits.
    assert three.take_for(B, side)
    three.end()
    monkeypatch.setattr(slots, "TURN_S", 0)
    assert not three.take_for(B, side)
    assert one.take_for(A, side)


def test_job_that_does_not_ask_any_more_holds_up_nobody(side, workers, monkeypatch):
    one, two, three = workers
    assert one.take_for(A, side)
    assert not two.take_for(B, side)
    one.end()
    monkeypatch.setattr(slots, "STALE_S", 0.05)
    time.sleep(0.1)
    assert three.take_for(C, side)


def test_worker_that_is_gone_holds_nothing(side, workers):
    one, two, _ = workers
    assert one.take_for(A, side)
    Worker.objects.filter(pk="one").delete()
    assert two.take_for(A, side)
    assert held() == {"two": 1}


def test_all_sides_are_taken_or_none(owner, side, workers):
    one, two, _ = workers
    other = Endpoint(owner=owner, protocol="sftp", host="db.example.org", options={})
    here = Endpoint(owner=owner, protocol="local")
    assert one.take_for(A, side)
    assert not two.take_for(B, other, side, here)
    assert ServerLoad.objects.get(key="sftp://db.example.org:22").holders == {}


def test_more_than_is_ever_allowed_is_said_at_once(side, workers):
    with pytest.raises(TooFewAllowed, match=r"needs 2 connections to web\.EXAMPLE\.org at once, and only 1"):
        workers[0].take_for(A, side, side)
    assert not ServerLoad.objects.exists()


def test_no_more_are_opened_than_the_server_took(side, workers, monkeypatch):
    side.options = {"max_connections": 4}
    one, two, three = workers
    assert all(worker.take_for(A, side) for worker in workers)
    assert three.refused("three", side) == 2
    three.end()
    assert not three.take_for(A, side)
    assert two.refused("two", side) == 1
    two.end()
    assert not two.take_for(A, side)
    one.end()
    # Nobody else has one: it was not for their number.
    assert two.refused("two", side) == 0
    assert two.take_for(A, side)
    two.end()
    # What needs two at once cannot do with one.
    assert two.take_for(A, side, side)
    two.end()
    assert three.take_for(A, side)
    assert not one.take_for(A, side)
    monkeypatch.setattr(slots, "REMEMBERED_S", 0)
    assert one.take_for(A, side)


def test_same_name_behind_a_jump_host_is_another_server(owner, side, workers):
    one, two, _ = workers
    behind = Endpoint(
        owner=owner,
        protocol="sftp",
        host="web.example.org",
        options={"max_connections": 1, "jump": {"host": "bastion.example.org", "username": "me"}},
    )
    assert one.take_for(A, side)
    assert two.take_for(B, behind)


def test_folders_of_this_machine_are_not_counted(owner, side, workers):
    here = Endpoint(owner=owner, protocol="local")
    assert all(one.take_for(A, here, here) for one in workers)
    workers[0].note(Address("local"), 1)
    workers[0].note(Address("local"), -1)
    workers[0].end()
    assert not ServerLoad.objects.exists()
