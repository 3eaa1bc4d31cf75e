"""The app's configuration."""

from django.apps import AppConfig


class SessionsConfig(AppConfig):
    name = "sessions_app"
    verbose_name = "Sessions"

    def ready(self) -> None:
        """Register the system checks."""
        from sessions_app import checks  # noqa: F401, PLC0415 - registers by import; models are ready only here
