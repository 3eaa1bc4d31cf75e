"""All routes."""

from django.contrib import admin
from django.urls import include, path

handler400 = "sessions_app.problems.bad_request"
handler403 = "sessions_app.problems.forbidden"
handler404 = "sessions_app.problems.not_found"
handler500 = "sessions_app.problems.server_error"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("sessions_app.urls")),
    path("", include("migration_app.urls")),
    path("", include("migration_app.page_urls")),
]
