"""A queue that is worked off in the test's own process."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django_tasks_db.management.commands.db_worker import Worker as QueueWorker

from sessions_app import accounts, jobs
from sessions_app.models import Job, User
from sessions_app.presence import Presence
from sessions_app.runners import Submission


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
def work_off(presence: Presence) -> Callable[..., None]:
    """Run messages until the queue is empty, or `most` of them."""

    def work_off(most: int | None = None) -> None:
        QueueWorker(
            queue_names=["prepare", "work"],
            interval=0,
            batch=True,
            backend_name="default",
            startup_delay=False,
            max_tasks=most,
            worker_id=presence.id,
            excluded_queue_names=[],
        ).run()

    return work_off
