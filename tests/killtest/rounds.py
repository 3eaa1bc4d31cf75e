"""Runs rounds: a transfer through the real API, whose processes are killed meanwhile as its plan says."""

import contextlib
import math
import random
import re
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tests.killtest import invariants
from tests.killtest.invariants import Again, Blow, ShardOf
from tests.killtest.listener import Listener
from tests.killtest.plan import KILLS, Kind, Mode, Plan, Step, Way, plan_round
from tests.killtest.rows import Rows
from tests.killtest.trees import Tree, add_clutter, make_tree
from tests.killtest.watcher import TreeWatcher, bytes_written, written_under_final_names
from tests.product import ENDED, Answer, Product
from tests.servers.openssh import LoggingServer
from tests.trees import differences

T = TypeVar("T")

WORKERS = 3
LEASE_S = 3
LIMIT_MB_PER_S = 16
"""So that a round lasts: else all would be over before much can be killed."""
PATIENCE_S = 180.0
"""For the end of a job after the last kill."""
REST_S = 60.0
"""For an answer, and for what is done after the end."""
VICTIM_S = 4.0
"""How long a victim is waited for, where all of its kind are dead."""
ECHO_S = 1.0
"""What a dead process has sent takes so long to arrive, at most."""
OBSTACLES = 40


@dataclass
class Round:
    """What came of a round."""

    number: int
    plan: Plan
    kills: Counter[Kind] = field(default_factory=Counter)
    took_s: float = 0.0
    events: int = 0
    connections: int = 0
    """Of the listener."""
    again: Again = field(default_factory=Again)
    bytes_again: int = 0
    lost_leases: int = 0
    violations: list[str] = field(default_factory=list)


_SIDES: dict[Way, tuple[bool | None, bool | None]] = {
    Way.UP: (None, False),
    Way.UP_SHELL: (None, True),
    Way.DOWN: (False, None),
    Way.DOWN_SHELL: (True, None),
    Way.RELAY: (False, True),
    Way.WITHIN: (True, True),
}
"""Source and destination: whether that server gives a shell; None: a folder of this machine."""


class Arena:
    """The product and two servers, on which one round follows the other."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.tree: Tree = make_tree(folder / "source")
        self.servers = {
            has_shell: stack.enter_context(LoggingServer(has_shell=has_shell)) for has_shell in (True, False)
        }
        self.product = stack.enter_context(Product(folder / "product", HAULIER_LEASE_S=str(LEASE_S)))
        self.product.start(WORKERS)
        self.rows = Rows(folder / "product/data/haulier.sqlite3")

    def play(self, seed: int, number: int) -> Round:
        """One round. What does not hold is in its `violations`; nothing is raised."""
        found = Round(number, plan_round(seed, number))
        started = time.monotonic()
        try:
            _Play(self, found, f"{seed}/{number}/{started}").run()
        except (AssertionError, OSError, HTTPException, psutil.Error) as error:
            found.violations.append(f"{type(error).__name__}: {error}")
        found.took_s = time.monotonic() - started
        return found

    def restart(self) -> None:
        """What systemd does when the supervisor is gone."""
        self.product.launch(WORKERS)


class _Play:
    def __init__(self, arena: Arena, found: Round, key: str) -> None:
        self._product, self._rows, self._tree = arena.product, arena.rows, arena.tree
        self._arena, self._found, self._key = arena, found, key
        self._source, self._destination = _SIDES[found.plan.way]
        self._hosts = [arena.servers[side] for side in {self._source, self._destination} if side is not None]
        self._copy = arena.folder / f"copy {found.number}"
        self._blows: list[Blow] = []
        self._waiting: list[threading.Thread] = []
        """For those that are to go on again, or to be gone."""
        self._printed_from = len(self._product.printed())
        self._told_before = self._operations()
        self._jobs: list[str] = []

    def run(self) -> None:
        """Everything."""
        try:
            self._wait_until_up()
            if self._found.plan.deletes:
                add_clutter(self._copy, self._tree.root)
            obstacles = self._make_obstacles() if self._found.plan.mode is Mode.RETRIED else []
            with TreeWatcher(self._copy, self._tree.root) as watcher:
                self._transfer(obstacles)
                self._check_all(watcher)
        finally:
            self._join()
            shutil.rmtree(self._copy, ignore_errors=True)

    # What a person does

    def _transfer(self, obstacles: list[Path]) -> None:
        steps = list(self._found.plan.steps)
        job = self._submit()
        if obstacles:
            at = len(steps) * 2 // 3
            self._kill_during(job, steps[:at])
            self._wait_for(job, "failed")
            for obstacle in obstacles:
                obstacle.rmdir()
            with self._listening(job):
                self._ask(job, "retry", ("pending", "running"))
                self._kill_during(job, steps[at:])
                self._wait_for(job, "completed")
            return
        if any(step.kind is Kind.CANCEL for step in steps):
            at = next(index for index, step in enumerate(steps) if step.kind is Kind.CANCEL)
            with self._listening(job):
                self._kill_during(job, steps[: at + 1])
                # The clearing up is disturbed, too.
                self._kill_during(job, steps[at + 1 : at + 3], also_after=True)
                self._wait_for(job, "cancelled", "completed")
            self._settle(job)
            self._check_job(job)
            job = self._submit()
            steps = steps[at + 3 :]
        with self._listening(job):
            self._kill_during(job, steps)
            if self._rows.status(job) == "paused":
                self._ask(job, "resume", ("running", "pending"))
            self._wait_for(job, "completed")

    def _submit(self) -> str:
        body = {
            "source_config": self._side(self._source, self._tree.root),
            "dest_config": self._side(self._destination, self._copy),
            "bandwidth_limit": LIMIT_MB_PER_S,
        }
        if self._found.plan.deletes:
            body |= {"delete_extraneous": True, "confirm_deletions": 10 * self._tree.entries}
        key = {"Idempotency-Key": f"{self._key}/{len(self._jobs)}"}
        answer = self._insist(lambda: self._product.post("/api/transfer", body, key))
        assert answer.status in (200, 202), answer
        self._jobs.append(str(answer.body["id"]))
        return self._jobs[-1]

    def _side(self, has_shell: bool | None, root: Path) -> dict[str, Any]:
        if has_shell is None:
            return {"protocol": "local", "root_path": str(root)}
        return self._arena.servers[has_shell].conn(root)

    def _ask(self, job: str, what: str, wanted: tuple[str, ...]) -> None:
        """Ask for a move; somebody may have asked before the line broke, or the job may have ended before."""
        answer = self._insist(lambda: self._product.post(f"/api/sessions/{job}/{what}"))
        status = answer.body.get("status")
        is_so = answer.status == 200 and status in wanted
        was_so = answer.status == 409 and status in (*wanted, *ENDED)
        assert is_so or was_so, f"{what} was answered with {answer.status}: {answer.body}"

    def _insist(self, request: Callable[[], Answer]) -> Answer:
        """Repeat a request until it is answered: the web process may be dead just now."""
        deadline = time.monotonic() + REST_S
        while True:
            try:
                return request()
            except (OSError, HTTPException):
                assert time.monotonic() < deadline, "nobody answers"
                time.sleep(0.05)

    @contextmanager
    def _listening(self, job: str) -> Iterator[None]:
        """Somebody hears the whole log of the job, whatever happens, and what they hear is right."""
        listener = Listener(self._product, job)
        try:
            yield
            self._settle(job)
        finally:
            log = self._rows.log(job)
            listener.finish(log[-1].seq, patience_s=REST_S)
            self._found.connections += listener.connections
            self._found.violations += listener.problems
            self._found.violations += invariants.check_heard(log, listener.heard)

    def _wait_for(self, job: str, *statuses: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (status := self._rows.status(job)) not in ENDED:
            assert time.monotonic() < deadline, f"job {job} is {status} still: {self._last_words(job)}"
            time.sleep(0.1)
        # A failed one may be retried, a move that is on its way.
        assert status in statuses, f"job {job} is {status}: {self._last_words(job)}"

    def _last_words(self, job: str) -> str:
        return "; ".join(str(event.data) for event in self._rows.log(job)[-3:])

    def _make_obstacles(self) -> list[Path]:
        """Folders where files should be."""
        draw = random.Random(self._key)
        files = sorted(
            path for path in self._tree.root.rglob("*") if path.is_file() and not path.is_symlink()
        )
        chosen = [*draw.sample(files, OBSTACLES), next(path for path in files if path.name == "large 0.bin")]
        made = [self._copy / path.relative_to(self._tree.root) for path in dict.fromkeys(chosen)]
        for path in made:
            path.mkdir(parents=True)
        return made

    # What happens to it

    def _kill_during(self, job: str, steps: list[Step], *, also_after: bool = False) -> None:
        """Do the steps while the job is under way."""
        for step in steps:
            time.sleep(step.after_s)
            if not also_after and self._rows.status(job) in ENDED:
                return
            if step.kind is Kind.PAUSE:
                self._pause(job)
            elif step.kind is Kind.RESUME:
                self._ask(job, "resume", ("running", "pending"))
            elif step.kind is Kind.CANCEL:
                with self._blow(Kind.CANCEL):
                    self._ask(job, "cancel", ("cancelled",))
            else:
                self._strike(step)

    def _pause(self, job: str) -> None:
        with self._blow(Kind.PAUSE):
            self._ask(job, "pause", ("paused",))
        if self._rows.status(job) == "paused":
            held = [shard.number for shard in self._rows.shards(job) if shard.is_leased]
            if held:
                self._found.violations.append(f"the job is paused, and shards {held} are held")

    @contextmanager
    def _blow(self, kind: Kind) -> Iterator[Blow]:
        blow = Blow(kind, time.monotonic(), math.inf)
        self._blows.append(blow)
        yield blow
        blow.until = time.monotonic() + ECHO_S

    def _strike(self, step: Step) -> None:
        if step.kind is Kind.SUPERVISOR:
            self._kill_supervisor()
        elif step.kind is Kind.SSHD:
            pid = _choose(lambda: [pid for host in self._hosts for pid in host.session_pids], step.pick)
            if pid is None:
                return
            with self._blow(step.kind), contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()
        else:
            word = "web" if step.kind is Kind.WEB else "worker"
            process = _choose(lambda: self._product.children(word), step.pick)
            if process is None:
                return
            if step.kind is Kind.FREEZE:
                self._freeze(process)
            else:
                with self._blow(step.kind), contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        if step.kind in KILLS:
            self._found.kills[step.kind] += 1

    def _kill_supervisor(self) -> None:
        """Its children notice, and end when they have saved what they can."""
        supervisor = self._product.process
        assert supervisor is not None
        orphans = self._product.children()

        def wait() -> None:
            psutil.wait_procs(orphans)
            blow.until = time.monotonic() + ECHO_S

        with self._blow(Kind.SUPERVISOR) as blow:
            supervisor.kill()
            supervisor.wait()
            self._arena.restart()
        blow.until = math.inf
        self._start(threading.Thread(target=wait))

    def _freeze(self, process: psutil.Process) -> None:
        """Stop a worker past its lease; it goes on later, as if nothing had been."""

        def thaw() -> None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
            blow.until = time.monotonic() + ECHO_S

        with self._blow(Kind.FREEZE) as blow, contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
        blow.until = math.inf
        self._start(threading.Timer(LEASE_S * 1.5, thaw))

    def _start(self, thread: threading.Thread) -> None:
        self._waiting.append(thread)
        thread.start()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + REST_S
        while len(self._product.children()) < WORKERS + 2 or self._product_is_silent():
            assert time.monotonic() < deadline, "the product does not come back"
            time.sleep(0.1)

    def _product_is_silent(self) -> bool:
        try:
            return self._product.get("/health").status != 200
        except (OSError, HTTPException):
            return True

    # What must hold

    def _join(self) -> None:
        while self._waiting:
            self._waiting.pop().join()

    def _settle(self, job: str) -> None:
        """Wait until nobody does anything any more for the job."""
        self._join()
        deadline = time.monotonic() + REST_S
        while time.monotonic() < deadline and invariants.check_rest(
            self._rows.shards(job), open_messages=self._rows.open_messages()
        ):
            time.sleep(0.1)

    def _check_job(self, job: str) -> None:
        """What must hold of a job that has ended, however it did."""
        log = self._rows.log(job)
        self._found.events += len(log)
        told = invariants.check_log(log, runs=self._rows.runs(job))
        told += invariants.check_rest(self._rows.shards(job), open_messages=self._rows.open_messages())
        told += invariants.check_no_temporary(self._copy)
        self._found.violations += told

    def _check_all(self, watcher: TreeWatcher) -> None:
        job, found = self._jobs[-1], self._found
        self._settle(job)
        self._check_job(job)
        watcher.close()
        found.violations += watcher.violations
        answer = self._insist(lambda: self._product.get(f"/api/sessions/{job}"))
        size_bytes = None if len(self._jobs) > 1 else self._tree.size_bytes
        found.violations += invariants.check_counters(
            answer.body, files=self._tree.files, size_bytes=size_bytes
        )
        if left := self._rows.states(job).get("pending", 0) + self._rows.states(job).get("failed", 0):
            found.violations.append(f"{left} rows of the manifest are not done")
        if different := differences(self._tree.root, self._copy):
            found.violations.append(f"the copy differs: {different[:500]}")
        shard_of = ShardOf(self._rows, self._jobs[::-1])
        # Web processes do no work that could be lost.
        blows = [blow for blow in self._blows if blow.kind is not Kind.WEB] + self._lost_leases()
        blows.sort(key=lambda blow: blow.since)
        found.again, told = invariants.count_again(watcher.arrivals, blows, shard_of)
        found.violations += told
        found.violations += self._check_operations()
        found.violations += invariants.check_printed(self._product.printed(self._printed_from))

    def _lost_leases(self) -> list[Blow]:
        """On a machine that is too busy a worker may not come to renew its lease: then another one goes on, too."""
        printed = self._product.printed(self._printed_from)
        told = re.findall(
            r"^(\S+ \S+),\d+ .*: Shard \d+ (?:stops: lost|was lost|was taken over)", printed, re.MULTILINE
        )
        ago_s = [time.time() - datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() for at in told]
        self._found.lost_leases = len(told)
        return [
            Blow(Kind.LEASE, time.monotonic() - ago - 2 * LEASE_S, time.monotonic() - ago + 1 + ECHO_S)
            for ago in ago_s
        ]

    def _operations(self) -> dict[int, str]:
        return {port: told for host in self._hosts for port, told in host.operations().items()}

    def _check_operations(self) -> list[str]:
        told = self._operations().items()
        log = "".join(text[len(self._told_before.get(port, "")) :] for port, text in told)
        named = written_under_final_names(log)
        for path, size in bytes_written(log).items():
            copy = Path(path)
            if copy.name.startswith("large"):
                self._found.bytes_again += max(0, size - copy.stat().st_size)
        return [f"{len(named)} files were opened under their own names, as {named[0]}"] if named else []


def _choose(find: Callable[[], list[T]], pick: float) -> T | None:
    """One of those that are there, or that come soon."""
    deadline = time.monotonic() + VICTIM_S
    while not (found := find()):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.05)
    return found[int(pick * len(found))]
