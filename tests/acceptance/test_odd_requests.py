"""Requests that are seldom sent, over the wire."""

import http.client
import json
import socket
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import local
from tests.product import Answer, Product
from tests.trees import small_tree

MIB = 1024 * 1024


def chunked(product: Product, path: str, body: bytes, kind: str, **headers: str) -> Answer:
    """Post a body piece by piece, without saying how long it is."""

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), 60_000):
            yield body[at : at + 60_000]

    link = http.client.HTTPConnection("127.0.0.1", product.port, timeout=30)
    try:
        link.request("POST", path, pieces(), {"Content-Type": kind} | headers, encode_chunked=True)
        response = link.getresponse()
        return Answer(response.status, response.headers, response.read().decode())
    finally:
        link.close()


def test_chunked_json_is_read(product, tmp_path):
    body = json.dumps({"server_config": local(small_tree(tmp_path / "site"))}).encode()
    answer = chunked(product, "/api/scan", body, "application/json")
    assert answer.status == 202, answer
    # A byte under the limit, most of it blanks.
    answer = chunked(product, "/api/scan", body + b" " * (MIB - len(body)), "application/json")
    assert answer.status == 202, answer


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("path", ["/api/scan", "/theme"])
def test_chunked_body_over_the_limit_is_413(product, path, kind):
    assert chunked(product, path, b" " * (MIB + 1), kind).status == 413


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", "csrfmiddlewaretoken={0}&theme=dark"),
        (
            "multipart/form-data; boundary=x",
            '--x\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n{0}\r\n'
            '--x\r\nContent-Disposition: form-data; name="theme"\r\n\r\ndark\r\n--x--\r\n',
        ),
    ],
)
def test_chunked_form_is_read(product, kind, body):
    token = "t" * 32
    content = body.format(token).encode()
    answer = chunked(product, "/theme", content, kind, Cookie=f"haulier_csrf={token}")
    assert answer.status == 302, answer
    assert "haulier_theme=dark" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize("path", ["/", "/ws/nothing", "/api/events", "/nothing"])
def test_web_socket_is_refused_without_a_word_in_the_log(product, path):
    before = product.printed()
    with socket.create_connection(("127.0.0.1", product.port), timeout=10) as link:
        link.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{product.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert b" 404 " in link.recv(1000).splitlines()[0]
    assert product.get("/health").status == 200
    assert product.printed() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/"), ("DELETE", "/jobs"), ("PATCH", "/new/scan"), ("PUT", "/sign-in"), ("DELETE", "/health")],
)
def test_method_that_an_address_does_not_take_is_405(product, method, path):
    answer = product.request(method, path)
    assert answer.status == 405
    assert "GET" in answer.headers["Allow"]
    assert f"does not take {method}." in str(answer.body)
    assert product.request(method, "/nothing").status == 404
