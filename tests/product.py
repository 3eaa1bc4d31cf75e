"""The product in its real processes: a data directory, and `manage.py serve` on a port of its own."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPMessage
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import psutil
from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parent.parent
ENDED = ("completed", "failed", "cancelled")
T = TypeVar("T")
READY_S = 60.0
REQUEST_S = 30.0


def free_port() -> int:
    """A port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], T], *, seconds: float = 30) -> T:
    """Wait for something true and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


class Answer(NamedTuple):
    """What came back: the body is parsed when it is JSON, and text otherwise."""

    status: int
    headers: HTTPMessage
    body: Any


_SESSION = """
import django; django.setup()
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from sessions_app import accounts
owner, session = accounts.owner(), import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY] = str(owner.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = owner.get_session_auth_hash()
session.save()
print(session.session_key)
"""


@dataclass
class Frame:
    """One event of a stream; `event` is empty for the unnamed ones."""

    event: str = ""
    data: Any = None
    id: str = ""


class Stream:
    """An open event stream, read line by line as the first clients do.

    Raises AssertionError for a frame that they could not read, OSError or HTTPException when the connection breaks.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: HTTPMessage = response.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        frame, lines = Frame(), 0
        for raw in self._response:
            line = raw.decode().rstrip("\r\n")
            if line.startswith("event: "):
                frame.event = line.removeprefix("event: ")
            elif line.startswith("id: "):
                frame.id = line.removeprefix("id: ")
            elif line.startswith("data: "):
                assert lines == 0, "a frame has one data line"
                frame.data = json.loads(line.removeprefix("data: "))
                lines += 1
            elif line:
                assert line.startswith((":", "retry: ")), f"no client reads {line!r}"
            elif lines:
                yield frame
                frame, lines = Frame(), 0

    def raw_lines(self, *, until: str) -> list[str]:
        """The lines as they come, until the end of an event of a name."""
        lines = [""]
        is_last = False
        while not (is_last and lines[-1] == "\n"):
            lines.append(self._response.readline().decode())
            is_last = is_last or lines[-1] == f"event: {until}\n"
            assert lines[-1], "the stream ended"
        return lines

    def close(self) -> None:
        """Hang up."""
        self._response.close()


class Product:
    """A data directory, and the processes that serve it; `stop` shows what they printed when a test fails."""

    _migrated = b""
    """A database that was just migrated, for the next one."""

    def __init__(self, folder: Path, *, settings: str = "config.settings", **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.headers: dict[str, str] = {}
        self.environment = (
            {
                name: value
                for name, value in os.environ.items()
                if not name.startswith("HAULIER_") and name != "SSH_AUTH_SOCK"
            }
            | {
                "HAULIER_DATA_DIR": str(folder / "data"),
                "HAULIER_BIND": f"127.0.0.1:{self.port}",
                "HAULIER_LEASE_S": "2",
                "HAULIER_RATE_LIMITS": "off",
                "DJANGO_SETTINGS_MODULE": settings,
            }
            | environment
        )
        self.process: subprocess.Popen[bytes] | None = None
        self._log = folder / "server.log"
        self._is_migrated = False
        self._shown = 0

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"http://127.0.0.1:{self.port}"

    def manage(self, *arguments: str) -> str:
        """Run a management command and return what it printed."""
        return self.python("manage.py", *arguments)

    def python(self, *arguments: str) -> str:
        """Run Python in this environment and return what it printed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def migrate(self) -> None:
        """Make or update the database, once."""
        if self._is_migrated:
            return
        self._is_migrated = True
        database = self.folder / "data" / "haulier.sqlite3"
        if "DATABASE_URL" in self.environment or database.exists():
            self.manage("migrate", "-v0")
        elif self._migrated:
            database.parent.mkdir(mode=0o700)
            database.write_bytes(self._migrated)
        else:
            self.manage("migrate", "-v0")
            Product._migrated = database.read_bytes()

    def start(self, workers: int = 2, *, no_login: bool = True, script: bool = False, only: str = "") -> None:
        """Start everything, or `only` web or workers, and return when all is up; with `script` by script/server, else
        by `manage.py serve`."""
        offset = self.launch(workers, no_login=no_login, script=script, only=only)
        assert self.process is not None
        deadline = time.monotonic() + READY_S
        while "\nReady.\n" not in "\n" + self.printed(offset):
            is_late = self.process.poll() is not None or time.monotonic() > deadline
            assert not is_late, f"not ready:\n{self.printed(offset)}"
            time.sleep(0.02)

    def launch(self, workers: int = 2, *, no_login: bool = True, script: bool = False, only: str = "") -> int:
        """Start everything without waiting for it; gives where in what is printed this start begins."""
        if not script:
            self.migrate()
        command = ["script/server"] if script else [sys.executable, "manage.py", "serve"]
        options = ["--workers", str(workers), *(["--no-login"] if no_login else [])]
        options += ["--only", only] if only else []
        offset = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [*command, *options],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return offset

    def stop(self) -> None:
        """End everything in order, and print what was printed, which pytest shows when a test failed."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if text := self.printed(self._shown).strip():
            print(f"{self.url} printed:\n{text}")
        self._shown = self._log.stat().st_size if self._log.exists() else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def printed(self, offset: int = 0) -> str:
        """What the processes printed, from a byte on."""
        return self._log.read_bytes()[offset:].decode(errors="replace") if self._log.exists() else ""

    def children(self, word: str = "") -> list[psutil.Process]:
        """The supervisor's children: all, or those of a kind, `web` or `worker`."""
        assert self.process is not None
        found = psutil.Process(self.process.pid).children()
        return [child for child in found if not word or word in self._command_line(child)]

    @staticmethod
    def _command_line(process: psutil.Process) -> list[str]:
        try:
            return list(process.cmdline())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return []

    def token(self, *arguments: str) -> str:
        """A new API token of the owner."""
        return self.manage("create_token", *arguments)

    def session(self) -> str:
        """The key of a new session of the owner, as a browser has it after signing in."""
        return self.python("-c", _SESSION)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request, answered in full; an answer that tells of an error is an answer."""
        with self._open(method, path, body, headers, timeout_s=REQUEST_S) as response:
            content = response.read()
            kind = response.headers.get_content_type()
            parsed = json.loads(content) if content and kind.endswith("json") else content.decode()
            return Answer(response.status, response.headers, parsed)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Read."""
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Post an object as JSON."""
        return self.request("POST", path, body if body is not None else {}, headers)

    def delete(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Delete."""
        return self.request("DELETE", path, None, headers)

    def read_sse(
        self,
        path: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 60,
    ) -> Stream:
        """Open an event stream; iterate it for its frames."""
        return Stream(self._open(method, path, body, headers, timeout_s=timeout_s))

    def open_socket(self, path: str, headers: Mapping[str, str] | None = None) -> ClientConnection:
        """Open a WebSocket. Raises websockets' InvalidStatus when it is refused."""
        # No compression, as browsers' sockets get none either.
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            additional_headers=self.headers | dict(headers or {}),
            compression=None,
            proxy=None,
        )

    def _open(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None, *, timeout_s: float
    ) -> http.client.HTTPResponse:
        content = None if body is None else json.dumps(body).encode()
        # The response owns the socket then, and closing it is enough.
        every = self.headers | {"Connection": "close"} | dict(headers or {})
        if content is not None:
            every.setdefault("Content-Type", "application/json")
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            link.request(method, path, content, every)
            return link.getresponse()
        except BaseException:
            link.close()
            raise

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it stands."""
        answer = self.get(f"/api/sessions/{job_id}")
        assert answer.status == 200, answer
        return dict(answer.body)

    def status(self, job_id: str) -> str:
        """A job's status."""
        return str(self.job(job_id)["status"])

    def wait_for(self, job_id: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until a job has one of these statuses (`completed` when none is given) and return it.

        Raises AssertionError as soon as it has ended otherwise.
        """
        wanted = statuses or ("completed",)
        deadline = time.monotonic() + seconds
        while (job := self.job(job_id))["status"] not in wanted:
            assert job["status"] not in ENDED, job
            assert time.monotonic() < deadline, f"waited in vain for {wanted}: {job}"
            time.sleep(0.05)
        return job
