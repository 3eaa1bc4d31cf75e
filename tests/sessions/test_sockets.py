"""WebSockets against the real product: the same events as the streams, under the same checks."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.product import until
from tests.sessions.engine import Engine

pytestmark = pytest.mark.slow

FRIEND = "http://friend.example:3000"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("engine")) as found:
        found.start()
        yield found


@pytest.fixture
def own_engine(tmp_path: Path) -> Iterator[Engine]:
    """One for a test that ends or kills it."""
    with Engine(tmp_path) as found:
        found.start()
        yield found


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One that asks who is there."""
    with Engine(tmp_path_factory.mktemp("locked"), HAULIER_CORS_ORIGINS=FRIEND) as found:
        found.start(no_login=False)
        yield found
        assert "Traceback" not in found.printed()


def messages(socket: ClientConnection, *, until_event: str) -> list[str]:
    """What comes, as it came, until an event of a name has come."""
    found: list[str] = []
    while not found or f'"event":"{until_event}"' not in found[-1]:
        found.append(str(socket.recv(timeout=30)))
    return found


def refusal(engine: Engine, path: str, **headers: str) -> tuple[int, Any]:
    """The status and the body of the answer to a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused, engine.open_socket(path, headers):
        pass
    response = refused.value.response
    return response.status_code, json.loads(response.body)


def bearer(engine: Engine, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {engine.token()}"}


def test_socket_of_a_job_gives_what_its_stream_gives_byte_for_byte(engine):
    job = engine.submit(shards=2, steps=3, pause_s=0.01)
    engine.wait_for(job)
    with engine.open_socket(f"/ws/sessions/{job}") as socket:
        heard = messages(socket, until_event="complete")
    with engine.read_sse(f"/api/sessions/{job}/events") as stream:
        lines = stream.raw_lines(until="complete")
    frames = re.findall(r"id: (\d+)\nevent: (\w+)\ndata: (.*)\n\n", "".join(lines))
    assert len(heard) > 4
    assert heard == [f'{{"id":{number},"event":"{event}","data":{data}}}' for number, event, data in frames]


def test_socket_of_all_jobs_hears_what_is_new_with_progress_that_has_no_id(engine):
    engine.wait_for(engine.submit(steps=1))
    with engine.open_socket("/ws/events") as socket:
        job = engine.submit(shards=1, steps=20, pause_s=0.05)
        heard = [json.loads(text) for text in messages(socket, until_event="complete")]
    assert {message["data"]["job_id"] for message in heard} == {job}
    events = [message for message in heard if message["event"] != "progress"]
    progress = [message for message in heard if message["event"] == "progress"]
    assert [message["data"]["seq"] for message in events] == list(range(1, len(events) + 1))
    assert events[0]["event"] == "job_created"
    assert progress
    assert not any("id" in message or "seq" in message["data"] for message in progress)


@pytest.mark.parametrize("name", ["after", "lastEventId"])
def test_socket_goes_on_after_the_id_that_was_seen_last(engine, name):
    job = engine.submit(steps=1)
    engine.wait_for(job)
    with engine.open_socket(f"/ws/sessions/{job}") as socket:
        heard = messages(socket, until_event="complete")
    for path in (f"/ws/sessions/{job}", "/ws/events"):
        last = json.loads(heard[1])["id"]
        with engine.open_socket(f"{path}?{name}={last}") as socket:
            assert messages(socket, until_event="complete") == heard[2:]


def test_no_event_is_lost_or_doubled_over_kills_of_the_web_process(own_engine):
    job = own_engine.submit(shards=6, steps=60, pause_s=0.05)
    heard: list[dict[str, Any]] = []
    kills = 0
    while not heard or heard[-1]["event"] != "complete":
        last = heard[-1]["id"] if heard else 0
        try:
            with own_engine.open_socket(f"/ws/sessions/{job}?after={last}") as socket:
                fresh = 0
                for text in socket:
                    message = json.loads(text)
                    if "id" in message:
                        heard.append(message)
                        fresh += 1
                    if message["event"] == "complete":
                        break
                    if kills < 3 and (fresh >= 2 or message["event"] == "progress"):
                        kills += 1
                        until(lambda: own_engine.children("web"))[0].kill()
        except (OSError, ConnectionClosed, InvalidStatus):
            continue
    assert kills == 3
    assert [message["data"]["seq"] for message in heard] == list(range(1, len(heard) + 1))
    ids = [message["id"] for message in heard]
    assert ids == sorted(set(ids))


def test_socket_stays_open_after_the_end_of_a_run_and_closes_when_the_job_is_deleted(engine):
    job = engine.submit(steps=1, error="The demo was told to fail.")
    engine.wait_for(job, "failed")
    with engine.open_socket(f"/ws/sessions/{job}") as socket:
        messages(socket, until_event="failed")
        assert engine.post(f"/api/sessions/{job}/retry").status == 200
        again = [json.loads(text) for text in messages(socket, until_event="failed")]
        assert again[-1]["data"]["run"] == 2
        assert engine.delete(f"/api/sessions/{job}").status == 200
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
    assert closed.value.rcvd.code == 1001
    assert refusal(engine, f"/ws/sessions/{job}")[0] == 404


def test_stopped_server_says_that_it_goes_away(own_engine):
    with own_engine.open_socket("/ws/events") as socket:
        own_engine.stop()
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
    assert closed.value.rcvd.code == 1001
    assert "Traceback" not in own_engine.printed()


def test_signs_of_life_are_put_up_with_and_chatter_is_not(engine):
    with engine.open_socket("/ws/events") as socket:
        for _ in range(50):
            socket.send("ping")
        job = engine.submit(steps=1)
        assert job in messages(socket, until_event="complete")[0]
        with suppress(ConnectionClosed):
            for _ in range(200):
                socket.send(b"more")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
        assert closed.value.rcvd.code == 1008
    with engine.open_socket("/ws/events") as socket:
        socket.send("x" * 5000)
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=30)


@pytest.mark.parametrize("scheme", ["Bearer", "Token"])
def test_token_opens_a_socket(locked, scheme):
    job = locked.submit(steps=1)
    with locked.open_socket(f"/ws/sessions/{job}", bearer(locked, scheme)) as socket:
        assert '"seq":1' in messages(socket, until_event="complete")[0]


@pytest.mark.parametrize("origin", [None, "own", FRIEND])
def test_session_opens_a_socket_from_our_own_pages_and_those_of_friends(locked, origin):
    job = locked.submit(steps=1)
    headers = {"Cookie": f"haulier_session={locked.session()}"}
    if origin is not None:
        headers["Origin"] = locked.url if origin == "own" else origin
    with locked.open_socket("/ws/events?after=0", headers) as socket:
        assert '"seq":1' in messages(socket, until_event="complete")[0]
    with locked.open_socket(f"/ws/sessions/{job}", headers) as socket:
        assert '"seq":1' in messages(socket, until_event="complete")[0]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://friend.example:3000"]
)
def test_pages_of_other_sites_open_no_socket(locked, engine, origin):
    session = {"Cookie": f"haulier_session={locked.session()}"}
    for product, headers in ((locked, session), (locked, bearer(locked)), (engine, {})):
        status, body = refusal(product, "/ws/events", Origin=origin, **headers)
        assert (status, body) == (403, {"error": "Requests of other web sites are refused."})
    status, _ = refusal(engine, "/ws/events", **{"Sec-Fetch-Site": "cross-site"})
    assert status == 403


def test_what_is_wrong_with_a_handshake_is_told_before_it_is_accepted(locked):
    token, theirs = bearer(locked), locked.submit(user="bob", steps=1)
    unknown = "00000000-0000-4000-8000-000000000000"
    assert refusal(locked, "/ws/events")[0] == 401
    assert refusal(locked, "/ws/events", Cookie="haulier_session=made-up")[0] == 401
    assert refusal(locked, "/ws/events", Authorization="Bearer wrong") == (
        401,
        {"error": "The API token is not valid."},
    )
    for path in (
        f"/ws/sessions/{theirs}",
        f"/ws/sessions/{unknown}",
        "/ws/sessions/1",
        "/ws/x",
        "/",
        "/api/events",
    ):
        status, body = refusal(locked, path, **token)
        assert (status, set(body)) == (404, {"error"}), path
    for query in ("after=x", "after=-1", "after=1e3", f"after={'9' * 19}", "lastEventId=%00"):
        status, body = refusal(locked, f"/ws/events?{query}", **token)
        assert (status, list(body["fields"])) == (400, ["Last-Event-ID"]), query
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
        "Sec-WebSocket-Version": "13",
    }
    foreign = locked.get("/ws/events", token | handshake | {"Host": "evil.example"})
    assert (foreign.status, set(foreign.body)) == (400, {"error"})
    plain = locked.get("/ws/events", token)
    assert (plain.status, plain.headers["Upgrade"]) == (426, "websocket")
    assert plain.body == {"error": "This address is for WebSockets."}
    assert all(psutil.pid_exists(child.pid) for child in locked.children("web"))
