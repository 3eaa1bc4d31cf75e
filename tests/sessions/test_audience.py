import pytest
from django.db import transaction
from django.utils import timezone

from sessions_app import audience, events
from sessions_app.audience import JobChannelManager, JobEventStorage, job_channel, person_channel, rows_after
from sessions_app.models import Job, JobEvent, User
from sessions_app.runners import NewEvent


@pytest.mark.parametrize("few", [100, 1])
def test_person_hears_the_events_of_their_own_jobs_in_order_however_many_jobs_there_are(
    owner, submit, monkeypatch, few
):
    monkeypatch.setattr(audience, "FEW_JOBS", few)
    mine = [submit(), submit(), submit()]
    Job.objects.filter(pk=submit().pk).update(owner=User.objects.create(username="bob"))
    Job.objects.filter(pk=submit().pk).update(deleted_at=timezone.now())
    for job in reversed(mine):
        with transaction.atomic():
            events.append(job.pk, [NewEvent("log", {"level": "info", "message": "More."})])
    found = list(rows_after(person_channel(owner.pk), 0).order_by("pk").values_list("pk", flat=True))
    assert found == list(JobEvent.objects.filter(job__in=mine).order_by("pk").values_list("pk", flat=True))
    half = found[len(found) // 2]
    assert (
        list(rows_after(person_channel(owner.pk), half).order_by("pk").values_list("pk", flat=True))
        == found[len(found) // 2 + 1 :]
    )
    assert [event.id for event in JobEventStorage().get_events(person_channel(owner.pk), half, 2)] == found[
        len(found) // 2 + 1 :
    ][:2]
    assert JobEventStorage().get_current_id(person_channel(owner.pk)) == found[-1]


def test_channels_of_others_cannot_be_read(owner, submit):
    job, bob = submit(), User.objects.create(username="bob")
    may = JobChannelManager().can_read_channel
    assert may(owner, job_channel(job.pk))
    assert may(owner, person_channel(owner.pk))
    for user in (bob, None):
        assert not may(user, job_channel(job.pk))
        assert not may(user, person_channel(owner.pk))
