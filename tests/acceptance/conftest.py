"""The whole product against a server that gives SFTP and no shell, as many hosts do."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.product import Product
from tests.servers.openssh import OpenSshServer
from tests.trees import lived_in_site

Json = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """One for all tests of a file, as starting it takes longer than most of them."""
    with Product(tmp_path_factory.mktemp("product")) as found:
        found.start()
        yield found


@pytest.fixture
def own_product(tmp_path: Path) -> Iterator[Product]:
    """One for a test that ends or kills it."""
    with Product(tmp_path / "product") as found:
        found.start()
        yield found


@pytest.fixture
def host() -> Iterator[OpenSshServer]:
    with OpenSshServer(has_shell=False) as found:
        yield found


@pytest.fixture(scope="session")
def wordpress(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real site; no test changes it."""
    return lived_in_site(tmp_path_factory.mktemp("site") / "wordpress")


@pytest.fixture
def sftp(host: OpenSshServer) -> Callable[[Path], Json]:
    """The Conn object of a folder on the host."""

    return partial(sftp_on, host)


def sftp_on(host: OpenSshServer, root: Path) -> Json:
    """The Conn object of a folder on a host."""
    return host.conn(root)


def local(root: Path) -> Json:
    """The Conn object of a folder of this machine."""
    return {"protocol": "local", "root_path": str(root)}


def submit(product: Product, path: str, body: Json, **headers: str) -> str:
    """Post a request and give the id of its job."""
    answer = product.post(path, body, headers)
    assert answer.status == 202, answer
    return str(answer.body["id"])


def log_of(product: Product, job: Json) -> list[str]:
    """What the log of a job that has ended says."""
    messages: list[str] = []
    with product.read_sse(f"/api/sessions/{job['id']}/events") as stream:
        for frame in stream:
            if frame.event == "log":
                messages.append(frame.data["message"])
            if frame.event in ("complete", "failed", "cancelled"):
                break
    return messages
