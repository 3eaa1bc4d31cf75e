"""Routes of the migration API; a trailing slash is also accepted."""

from django.urls import re_path

from migration_app.api import FilesView, ProbeView, ScanViewSet, TransferViewSet
from sessions_app.urls import JOB_ID

urlpatterns = [
    re_path(r"^api/probe/?$", ProbeView.as_view()),
    re_path(r"^api/scan/?$", ScanViewSet.as_view({"post": "submit"})),
    re_path(r"^api/scan/stream/?$", ScanViewSet.as_view({"post": "stream"})),
    re_path(r"^api/transfer/?$", TransferViewSet.as_view({"post": "submit"})),
    re_path(r"^api/transfer/stream/?$", TransferViewSet.as_view({"post": "stream"})),
    re_path(rf"^api/sessions/{JOB_ID}/files/?$", FilesView.as_view()),
]
