"""A worker's queue in the test's own process."""

from django_tasks_db.management.commands.db_worker import Worker as QueueWorker

from sessions_app.presence import Presence


def run_messages(worker: Presence, most: int | None = None) -> None:
    """Run messages until the queue is empty, or `most` of them."""
    QueueWorker(
        queue_names=["prepare", "work"],
        interval=0,
        batch=True,
        backend_name="default",
        startup_delay=False,
        max_tasks=most,
        worker_id=worker.id,
        excluded_queue_names=[],
    ).run()
