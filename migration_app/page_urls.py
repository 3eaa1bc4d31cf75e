"""Addresses of the pages."""

from django.urls import path

from migration_app.pages import connection_pages, file_page, history, job_pages, new_job, sign_in, system

urlpatterns = [
    path("", new_job.start, name="start"),
    path("sign-in", sign_in.SignInView.as_view(), name="sign-in"),
    path("sign-out", sign_in.SignOutView.as_view(), name="sign-out"),
    path("sign-in/link/<str:token>", sign_in.sign_in_link, name="sign-in-link"),
    path("set-password", sign_in.set_password, name="set-password"),
    path("theme", sign_in.theme, name="theme"),
    path("workers", system.workers, name="workers"),
    path("new/scan", new_job.new_scan, name="new-scan"),
    path("new/transfer", new_job.new_transfer, name="new-transfer"),
    path("connections", connection_pages.connection_list, name="connections"),
    path("connections/new", connection_pages.new_connection, name="new-connection"),
    path("connections/<int:number>", connection_pages.connection, name="connection"),
    path("connections/<int:number>/edit", connection_pages.edit_connection, name="edit-connection"),
    path("connections/<int:number>/test", connection_pages.test_connection, name="test-connection"),
    path("connections/<int:number>/trust", connection_pages.trust_host_key, name="trust-host-key"),
    path("connections/<int:number>/forget-key", connection_pages.forget_host_key, name="forget-host-key"),
    path("connections/<int:number>/browse", connection_pages.browse_connection, name="browse-connection"),
    path("connections/<int:number>/delete", connection_pages.delete_connection, name="delete-connection"),
    path("jobs", history.job_list, name="jobs"),
    path("jobs/delete-finished", history.delete_finished, name="delete-finished"),
    path("jobs/<uuid:job_id>", job_pages.job, name="job"),
    path("jobs/<uuid:job_id>/log", job_pages.log, name="job-log"),
    path("jobs/<uuid:job_id>/files", file_page.job_files, name="job-files"),
    path("jobs/<uuid:job_id>/verify", job_pages.verify, name="verify-job"),
    path("jobs/<uuid:job_id>/pause", job_pages.pause, name="pause-job"),
    path("jobs/<uuid:job_id>/resume", job_pages.resume, name="resume-job"),
    path("jobs/<uuid:job_id>/retry", job_pages.retry, name="retry-job"),
    path("jobs/<uuid:job_id>/cancel", job_pages.cancel, name="cancel-job"),
    path("jobs/<uuid:job_id>/again", history.again, name="again"),
    path("jobs/<uuid:job_id>/delete", job_pages.delete_job, name="delete-job"),
]
