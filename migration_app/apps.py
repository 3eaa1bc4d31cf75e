"""The app's configuration."""

from django.apps import AppConfig


class MigrationConfig(AppConfig):
    name = "migration_app"
    verbose_name = "Migrations"

    def ready(self) -> None:
        """Register the system checks."""
        from migration_app import checks  # noqa: F401, PLC0415 - registers by import; settings are ready only here
