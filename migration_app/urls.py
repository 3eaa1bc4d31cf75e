"""Routes of the migration API; a trailing slash is also accepted."""

from django.urls import re_path

from migration_app.api import FilesView, ProbeView, ReportView, ScanViewSet, TransferViewSet, VerifyView
from migration_app.connections_api import ConnectionViewSet
from sessions_app.urls import JOB_ID

_CONNECTION = r"api/connections/(?P<connection_id>[0-9]{1,18})"

urlpatterns = [
    re_path(r"^api/probe/?$", ProbeView.as_view()),
    re_path(
        r"^api/connections/?$",
        ConnectionViewSet.as_view({"get": "list", "post": "create"}),
    ),
    re_path(
        rf"^{_CONNECTION}/?$",
        ConnectionViewSet.as_view(
            {"get": "retrieve", "put": "update", "patch": "partial_update", "delete": "destroy"}
        ),
    ),
    re_path(rf"^{_CONNECTION}/test/?$", ConnectionViewSet.as_view({"post": "test"})),
    re_path(rf"^{_CONNECTION}/browse/?$", ConnectionViewSet.as_view({"get": "browse"})),
    re_path(r"^api/scan/?$", ScanViewSet.as_view({"post": "submit"})),
    re_path(r"^api/scan/stream/?$", ScanViewSet.as_view({"post": "stream"})),
    re_path(r"^api/transfer/?$", TransferViewSet.as_view({"post": "submit"})),
    re_path(r"^api/transfer/stream/?$", TransferViewSet.as_view({"post": "stream"})),
    re_path(rf"^api/sessions/{JOB_ID}/verify/?$", VerifyView.as_view()),
    re_path(rf"^api/sessions/{JOB_ID}/files/?$", FilesView.as_view()),
    re_path(rf"^api/sessions/{JOB_ID}/report/?$", ReportView.as_view()),
]
