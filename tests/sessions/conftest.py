"""A queue that is worked off in the test's own process."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sessions_app import accounts, delivery, jobs
from sessions_app.models import Job, User
from sessions_app.presence import Presence
from sessions_app.runners import Submission
from tests.sessions.messages import run_messages


@pytest.fixture(autouse=True)
def demo_type(settings: Any) -> None:
    settings.JOB_RUNNERS = {
        "demo": "tests.sessions.demo_runner.DemoRunner",
        "quick": "tests.sessions.demo_runner.QuickRunner",
    }
    settings.JOB_SUBMITTERS = {"demo": "tests.sessions.demo_runner.DemoSubmitter"}


@pytest.fixture
def owner(transactional_db: None) -> User:
    return accounts.owner()


@pytest.fixture
def submit(owner: User) -> Callable[..., Job]:
    def submit(**params: Any) -> Job:
        job, _ = jobs.submit(Submission("demo", owner.pk, "A demo", params, {}))
        return job

    return submit


@pytest.fixture
def presence(transactional_db: None) -> Iterator[Presence]:
    found = Presence(["prepare", "work"])
    yield found
    found.leave()


@pytest.fixture
def work_off(presence: Presence, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run messages until the queue is empty, or `most` of them, each for one shard."""

    def work_off(most: int | None = None) -> None:
        monkeypatch.setattr(delivery, "does_work", lambda _: most is None)
        run_messages(presence, most)

    return work_off
