"""`/api/schedules` over HTTP."""

from typing import Any

from django.shortcuts import get_object_or_404
from rest_framework import viewsets
from rest_framework.request import Request
from rest_framework.response import Response

from sessions_app import listing, schedules
from sessions_app.models import Schedule
from sessions_app.problems import refuse_fields


class ScheduleViewSet(viewsets.ViewSet):
    """The caller's schedules; everybody else's do not exist."""

    def list(self, request: Request) -> Response:
        """A page of them, newest first."""
        found, headers = listing.page_by_id(request, schedules.of(_user(request)), schedules.schedule_json)
        return Response(found, headers=headers)

    def create(self, request: Request) -> Response:
        """201 and the schedule."""
        schedule = schedules.create(_user(request), request.data)
        return Response(schedules.schedule_json(schedule), status=201)

    def retrieve(self, request: Request, schedule_id: str) -> Response:
        """One of them."""
        return Response(schedules.schedule_json(_schedule(request, schedule_id)))

    def partial_update(self, request: Request, schedule_id: str) -> Response:
        """Change the fields that are given."""
        changed = schedules.update(_user(request), _schedule(request, schedule_id), request.data)
        return Response(schedules.schedule_json(changed))

    def destroy(self, request: Request, schedule_id: str) -> Response:
        """Delete it with its secrets; its jobs stay."""
        schedule = _schedule(request, schedule_id)
        refuse_fields(request)
        schedule.delete()
        return Response({"message": "Schedule deleted"})


def _user(request: Request) -> Any:
    return request.user


def _schedule(request: Request, schedule_id: str) -> Schedule:
    found: Schedule = get_object_or_404(schedules.of(_user(request)), pk=int(schedule_id))
    return found
