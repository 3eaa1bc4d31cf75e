"""A browser, the product, and what is wrong on a page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.product import ENDED, Product
from tests.servers.openssh import OpenSshServer
from tests.servers.slow_link import SlowLink

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser of the module's: while it is there no other event loop can run in this thread, and no ORM."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """The product without login."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        product.start(workers=2)
        yield product


@pytest.fixture
def product(served: Product) -> Iterator[Product]:
    """The product without a job."""
    yield served
    for job in served.get("/api/sessions/active").body:
        served.delete(f"/api/sessions/{job['id']}")
    served.delete("/api/sessions")


@dataclass
class Faults:
    """What no page may show: errors in the console, a broken policy among them, and requests to other hosts."""

    found: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """Parts of messages that the test itself brings about."""

    def watch(self, context: BrowserContext) -> None:
        """Listen to all of a context's pages."""
        context.on("console", self._console)
        context.on("weberror", lambda error: self.found.append(str(error.error)))
        context.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.found.append(f"{message.text} ({message.location['url']})")

    def _request(self, request: Request) -> None:
        if urlsplit(request.url).hostname not in ("127.0.0.1", None):
            self.found.append(f"a request to {request.url}")

    def unexpected(self) -> list[str]:
        """All but what is expected."""
        return [text for text in self.found if not any(part in text for part in self.expected)]


@pytest.fixture
def faults() -> Iterator[Faults]:
    faults = Faults()
    yield faults
    assert not faults.unexpected()


@pytest.fixture
def new_context(chromium: Browser, faults: Faults) -> Iterator[Callable[..., BrowserContext]]:
    """Makes browser profiles of their own; each is watched, and closed with the test."""
    contexts = []

    def new(**options: Any) -> BrowserContext:
        context = chromium.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        faults.watch(context)
        contexts.append(context)
        return context

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_context: Callable[..., BrowserContext]) -> Page:
    """A page in a profile of its own."""
    return new_context().new_page()


@pytest.fixture
def slow_link(openssh_without_shell: OpenSshServer) -> Iterator[SlowLink]:
    """A line to the OpenSSH server, at first of 60 kB/s; without a shell, which lists a whole tree in a few kB."""
    with SlowLink(openssh_without_shell.port, bytes_per_s=60_000) as link:
        yield link


@dataclass
class Yard:
    """Trees to move, a server behind a slow line that holds them, and room for copies."""

    folder: Path
    server: OpenSshServer
    link: SlowLink
    product: Product
    _copies: int = 0

    def enter_server(self, page: Page, root: Path) -> None:
        """Fill a form with the server, as a person does, and a folder there."""
        page.get_by_label("SFTP server").check()
        page.get_by_label("Host", exact=True).fill(self.server.host)
        page.get_by_label("Port").fill(str(self.server.port))
        page.get_by_label("User", exact=True).fill(self.server.username)
        page.get_by_text("Use a private key").click()
        page.get_by_label("Private key", exact=True).fill(self.server.private_key)
        page.get_by_label("Folder").fill(str(root))

    def remote(self, root: Path, *, slow: bool = True) -> dict[str, Any]:
        """A Conn object for a folder on the server."""
        return {
            "protocol": "sftp",
            "host": "127.0.0.1",
            "port": self.link.port if slow else self.server.port,
            "username": self.server.username,
            "ssh_key": self.server.private_key,
            "root_path": str(root),
        }

    def copy(self) -> dict[str, Any]:
        """A Conn object for a new folder of this machine."""
        self._copies += 1
        return {"protocol": "local", "root_path": str(self.folder / f"copy {self._copies}")}

    def big_tree(self, name: str = "big", *, files: int = 60, size_bytes: int = 100_000) -> Path:
        """Files that take minutes over the slow line."""
        root = self.folder / name
        for number in range(files):
            path = root / f"folder {number % 6}" / f"file {number}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(number.to_bytes(2) * (size_bytes // 2))
        return root

    def wide_tree(self, name: str = "wide", *, folders: int = 300) -> Path:
        """Folders whose listing takes long over the slow line."""
        root = self.folder / name
        for number in range(folders):
            path = root / f"{number % 10}" / f"folder {number} with a name as long as names are"
            path.mkdir(parents=True)
            (path / "index.html").write_text(str(number))
        return root

    def scan(self, root: Path) -> str:
        """Start a scan over the slow line; its id."""
        return self._start("scan", {"server_config": self.remote(root)})

    def transfer(self, root: Path) -> str:
        """Start a transfer over the slow line to a new folder; its id."""
        return self._start("transfer", {"source_config": self.remote(root), "dest_config": self.copy()})

    def failing_transfer(self, files: int) -> str:
        """Start a transfer of so many files that each fail with an event, spread over the comparison; its id."""
        root, destination = self.wide_tree(folders=files), self.copy()
        for path in root.rglob("index.html"):
            (Path(destination["root_path"]) / path.relative_to(root)).mkdir(parents=True)
        return self._start("transfer", {"source_config": self.remote(root), "dest_config": destination})

    def _start(self, kind: str, body: dict[str, Any]) -> str:
        answer = self.product.post(f"/api/{kind}", body)
        assert answer.status == 202, answer
        return str(answer.body["id"])


@pytest.fixture
def yard(tmp_path: Path, openssh_without_shell: OpenSshServer, slow_link: SlowLink, product: Product) -> Yard:
    return Yard(tmp_path, openssh_without_shell, slow_link, product)


def ended(product: Product, job_id: str) -> bool:
    """Whether a job has ended."""
    return product.status(job_id) in ENDED
