import pytest

from sessions_app import transitions
from sessions_app.models import Job
from sessions_app.states import FINISHED, MOVES, JobStatus
from sessions_app.transitions import IllegalMove


@pytest.mark.parametrize("target", JobStatus)
@pytest.mark.parametrize("source", JobStatus)
def test_only_legal_moves_change_the_row(submit, source, target):
    job = submit()
    Job.objects.filter(pk=job.pk).update(status=source)
    events = job.events.count()
    if target in MOVES[source]:
        transitions.move(job.pk, target)
        job.refresh_from_db()
        assert job.status == target
        assert (job.completed_at is not None) == (target in FINISHED)
        assert job.events.filter(type="state").get().data["from"] == source
    else:
        with pytest.raises(IllegalMove) as refused:
            transitions.move(job.pk, target)
        assert refused.value.status == source
        job.refresh_from_db()
        assert job.status == source
        assert job.events.count() == events


def test_of_two_ends_the_first_one_counts(submit):
    job = submit()
    transitions.move(job.pk, JobStatus.CANCELLED)
    with pytest.raises(IllegalMove):
        transitions.move(job.pk, JobStatus.FAILED, reason="too late")
    job.refresh_from_db()
    assert (job.status, job.error_message) == ("cancelled", "")
    assert [event.type for event in job.events.all()] == ["job_created", "state", "cancelled"]
