"""Routes of the job engine; a trailing slash is also accepted."""

from django.urls import path, re_path

from sessions_app.schedule_views import ScheduleViewSet
from sessions_app.views import EventsView, SessionViewSet, SocketView, health

JOB_ID = r"(?P<pk>[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12})"
_SCHEDULE = r"api/schedules/(?P<schedule_id>[0-9]{1,18})"

urlpatterns = [
    path("health", health, name="health"),
    path("health/", health),
    re_path(
        r"^api/sessions/?$", SessionViewSet.as_view({"get": "list", "post": "create", "delete": "clear"})
    ),
    re_path(r"^api/sessions/active/?$", SessionViewSet.as_view({"get": "active"})),
    re_path(
        rf"^api/sessions/{JOB_ID}/?$",
        SessionViewSet.as_view({"get": "retrieve", "patch": "change", "delete": "destroy"}),
        name="session",
    ),
    re_path(rf"^api/sessions/{JOB_ID}/pause/?$", SessionViewSet.as_view({"post": "pause"})),
    re_path(rf"^api/sessions/{JOB_ID}/resume/?$", SessionViewSet.as_view({"post": "resume"})),
    re_path(rf"^api/sessions/{JOB_ID}/cancel/?$", SessionViewSet.as_view({"post": "cancel"})),
    re_path(rf"^api/sessions/{JOB_ID}/retry/?$", SessionViewSet.as_view({"post": "retry"})),
    re_path(rf"^api/sessions/{JOB_ID}/log/?$", SessionViewSet.as_view({"get": "log"})),
    re_path(rf"^api/sessions/{JOB_ID}/events/?$", EventsView.as_view()),
    re_path(r"^api/events/?$", EventsView.as_view()),
    re_path(r"^api/schedules/?$", ScheduleViewSet.as_view({"get": "list", "post": "create"})),
    re_path(
        rf"^{_SCHEDULE}/?$",
        ScheduleViewSet.as_view({"get": "retrieve", "patch": "partial_update", "delete": "destroy"}),
    ),
    re_path(rf"^ws/sessions/{JOB_ID}/?$", SocketView.as_view()),
    re_path(r"^ws/events/?$", SocketView.as_view()),
]
