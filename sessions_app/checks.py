"""System checks of the job engine."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string

from sessions_app.runners import runner_class


@register()
def check_runners(**kwargs: Any) -> list[CheckMessage]:
    """Every runner that JOB_RUNNERS names can be imported and serves its type."""
    found: list[CheckMessage] = []
    for job_type in settings.JOB_RUNNERS:
        try:
            runner = runner_class(job_type)
        except (ImportError, TypeError) as error:
            found.append(Error(f"JOB_RUNNERS[{job_type!r}]: {error}", id="sessions_app.E001"))
            continue
        if runner.type != job_type:
            found.append(Error(f"JOB_RUNNERS[{job_type!r}] runs {runner.type!r}.", id="sessions_app.E002"))
    return found


@register()
def check_submitters(**kwargs: Any) -> list[CheckMessage]:
    """Every submitter that JOB_SUBMITTERS names can be imported and serves its type."""
    found: list[CheckMessage] = []
    for job_type, path in settings.JOB_SUBMITTERS.items():
        try:
            submitter = import_string(path)
        except ImportError as error:
            found.append(Error(f"JOB_SUBMITTERS[{job_type!r}]: {error}", id="sessions_app.E003"))
            continue
        if submitter.type != job_type:
            found.append(
                Error(f"JOB_SUBMITTERS[{job_type!r}] submits {submitter.type!r}.", id="sessions_app.E004")
            )
    return found
