"""Jobs as answers of the API: with their places in the queue, for a page of them at once."""

from collections.abc import Sequence
from typing import Any

from sessions_app import turns
from sessions_app.models import Job
from sessions_app.serializers import job_json

Json = dict[str, Any]


def jobs_answer(jobs: Sequence[Job]) -> list[Json]:
    """Job objects; `queue_position` counts from 1 among the jobs of the same owner that wait for their turn."""
    places = turns.positions(jobs)
    return [job_json(job) | ({"queue_position": places[job.pk]} if job.pk in places else {}) for job in jobs]


def job_answer(job: Job) -> Json:
    """The Job object of one job."""
    return jobs_answer([job])[0]
