"""Many who listen at once, while the web process is killed: the same run as `script/bench --listeners`, smaller."""

import argparse
import socket
import time

import psutil
import pytest

from tests.bench.listeners import listeners_table, measure_listeners
from tests.product import until
from tests.sessions.engine import Engine

pytestmark = pytest.mark.slow

EVENTS = 20_000
_FILL = """
import django, sys
django.setup()
from uuid import UUID
from django.db import transaction
from sessions_app import events
from sessions_app.runners import NewEvent
with transaction.atomic():
    lines = (NewEvent("log", {"level": "info", "message": "x" * 500}) for _ in range(int(sys.argv[2])))
    events.append(UUID(sys.argv[1]), list(lines))
"""


def test_streams_and_sockets_of_several_accounts_hear_each_event_once_and_in_order_over_three_kills(tmp_path):
    options = argparse.Namespace(listeners=60, accounts=3, steps=20, workers=2)
    found = measure_listeners(options, tmp_path)
    assert (found["streams"], found["sockets"], found["kills"]) == (60, 12, 3)
    # 4 jobs of 80 steps for each account, and half of its 24 listeners hear all.
    assert found["events"] > 3 * 4 * 80
    assert found["heard"] > found["events"] * 12
    assert (found["lost"], found["doubled"], found["out_of_order"]) == (0, 0, 0)
    assert found["success"] is True
    assert "0 lost, 0 doubled, 0 out of order" in listeners_table(found)


def test_clients_that_take_nothing_cost_little_memory_and_are_let_go(tmp_path):
    handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    handshake += "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
    with Engine(tmp_path) as engine:
        job = engine.submit(steps=1)
        engine.start()
        engine.wait_for(job)
        engine.python("-c", _FILL, job, str(EVENTS))
        web = engine.children("web")[0]
        assert len(set(web.rlimit(psutil.RLIMIT_NOFILE))) == 1
        stream, sockets = f"/api/sessions/{job}/events", f"/ws/sessions/{job}"
        # One that takes everything, before and after: what it costs to read the log does not count.
        heard = _read_all(engine, stream)
        resting = web.memory_info().rss
        links = []
        for path, more in [(stream, "")] * 10 + [(sockets, handshake)] * 10:
            link = socket.create_connection(("127.0.0.1", engine.port), timeout=60)
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
            links.append(link)
        for link in links:
            assert link.recv(1)
        time.sleep(5)
        assert web.memory_info().rss - resting < 64 * 2**20
        assert _read_all(engine, stream) == heard
        until(lambda: len(_clients(web)) == 0, seconds=90)
        for link in links:
            link.close()


def _read_all(engine, path):
    with engine.read_sse(path) as stream:
        seqs = []
        for frame in stream:
            seqs.append(frame.data["seq"])
            if frame.data["seq"] > EVENTS:
                break
    assert seqs == list(range(1, len(seqs) + 1))
    return len(seqs)


def _clients(web):
    return [link for link in web.net_connections("tcp") if link.status == "ESTABLISHED"]
